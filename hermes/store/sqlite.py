"""One SQLite database of Hermes: opened strictly, used on a thread by one caller at a time.

Invariants: a committed transaction is on the disk (WAL, ``synchronous=FULL``); a call that has begun runs to its end,
so a cancelled caller finds the call done or not begun, unless the disk hangs at the end of a stop; no file of another
program, or of a newer Hermes, is ever written to; a file that was deleted or renamed takes no further writes. sqlite3's
own errors pass through, and each user maps them.
"""

from __future__ import annotations

import math
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import structlog
import trio

from hermes.base.cleanup import clean_up, run_to_end
from hermes.base.errors import ConfigError, is_shortage
from hermes.base.folders import make_folder
from hermes.base.threads import EXPECTED
from hermes.store.in_place import Names

# Seconds. Another process may hold the file, such as `hermes dlq` beside the service.
LOCK_TIMEOUT = 5.0
SIDECARS = ("-wal", "-shm")

_BEGUN = "the file was moved or deleted by another program; a new one is begun, without what the old one holds"
# Another program that deletes the file each time would otherwise keep this call in a loop.
_ATTEMPTS = 3
_EXPECTED = (sqlite3.Error, *EXPECTED)

# This many bits of SQLite's user_version are the version of the schema; the others are the mark of `Connection.differ`.
_VERSION_BITS = 16
_MARKS = 2**15

ResultT = TypeVar("ResultT")

_log = structlog.get_logger("hermes.sqlite")


class NewerFile(ConfigError):
    """The file belongs to Hermes, but a newer Hermes has written it."""


@dataclass(frozen=True)
class Schema:
    """The schema of a database file: ``application_id`` marks the files of one program, ``version`` counts changes.

    ``script`` creates the tables; ``pragmas`` run before the script, once, and ``settings`` run on each connection.
    ``upgrades`` are scripts that bring an older file to this version, one for each step: the last of them upgrades the
    version before this one. They run in one transaction. A file that is older than ``oldest`` is refused.

    >>> SCHEMA = Schema(application_id=0x4D494E45, version=1, script="CREATE TABLE t (id TEXT PRIMARY KEY);")
    """

    application_id: int
    version: int
    script: str
    pragmas: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    upgrades: tuple[str, ...] = ()

    @property
    def oldest(self) -> int:
        """The oldest version that can be upgraded to this one."""
        return self.version - len(self.upgrades)


class Connection(sqlite3.Connection):
    """A connection whose transactions differ from a transaction that has failed, until one succeeds.

    A commit whose sync failed has left its frames in the write-ahead file, each with a checksum over all earlier
    frames. If the next transaction began with the same frame, and the machine stopped before its second frame, the old
    frames would fit again, and the refused data would come back. So each transaction begins with another number in the
    first page, which is written first.

        def insert(connection: Connection) -> None:
            with transaction(connection):
                connection.execute("INSERT INTO t VALUES (?)", ["8"])
    """

    mark: int | None = None
    renewed = False

    def renew(self) -> None:
        """Write what an earlier process has left in the write-ahead file once more, before the first transaction.

        Of a commit whose sync failed the disk may lack pages that the system takes for written. Commits behind these
        pages would be acknowledged, and be gone with them when the power fails.
        """
        if not self.renewed:
            # PASSIVE, for others may read: then some frames are left, and the next transaction tries again.
            _, frames, written = self.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            self.renewed = bool(frames == written)

    def differ(self) -> None:
        """Make later transactions begin differently, because a commit has failed."""
        stored = int(self.execute("PRAGMA user_version").fetchone()[0]) >> _VERSION_BITS
        # Within 15 bits, for SQLite keeps user_version in 32 bits with a sign, and the schema's version takes 16.
        self.mark = ((stored if self.mark is None else self.mark) + 1) % _MARKS

    def set_mark(self) -> None:
        """Write the mark, if there is one, at the beginning of the open transaction."""
        if self.mark is not None:
            version = self.execute("PRAGMA user_version").fetchone()[0] % 2**_VERSION_BITS
            self.execute(f"PRAGMA user_version = {self.mark << _VERSION_BITS | version}")


class Database:
    """The open database at ``path``. All work is done by functions that `run` calls with the connection, on a thread.

    ``connect`` opens the file, and opens it anew after another program has deleted or renamed the file.

        async def count(database: Database) -> int:
            return await database.run(lambda connection: connection.execute("SELECT count(*) FROM t").fetchone()[0])
    """

    def __init__(self, connection: Connection, path: Path, connect: Callable[[], Connection]) -> None:
        self.path = path
        self._connection = connection
        self._connect = connect
        self._names = _names(path)
        # A connection may be used by one thread at a time.
        self._turn = trio.CapacityLimiter(1)

    async def run(self, function: Callable[[Connection], ResultT]) -> ResultT:
        """Call ``function`` on a thread; one call at a time, first come first served. sqlite3's errors pass through."""
        with _threads_that_lack():
            return await run_to_end(function, self._connection, limiter=self._turn, expected=_EXPECTED)

    async def run_in_place(self, function: Callable[[Connection], ResultT]) -> ResultT:
        """Call ``function`` as `run` does, and make sure that its writes are in the file that has the name now.

        So ``function`` may be called again, with an empty database. Raises sqlite3's OperationalError if no file can be
        made.
        """
        with _threads_that_lack():
            return await run_to_end(self._call_in_place, function, limiter=self._turn, expected=_EXPECTED)

    async def aclose(self) -> None:
        """Close the file, with a checkpoint of its write-ahead file, unless the disk hangs until a stop has to end."""
        # No bound of its own: the checkpoint may take its time, unless a stop has set an end.
        with clean_up(math.inf):
            await self.run(lambda connection: connection.close())

    def _call_in_place(self, function: Callable[[Connection], ResultT]) -> ResultT:
        for _ in range(_ATTEMPTS):
            # Checked before the call, because the write would go into a file without a name, and after it, because the
            # file may go meanwhile.
            if self._names.gone() is not None:
                _log.error(_BEGUN, file=str(self.path))
                self._connection.close()
                try:
                    self._connection = self._connect()
                except ConfigError as error:
                    raise sqlite3.OperationalError(str(error)) from error
                self._names = _names(self.path)
            result = function(self._connection)
            if self._names.gone() is None:
                return result
        raise sqlite3.OperationalError(f"{self.path} is moved or deleted by another program again and again")


@contextmanager
def _threads_that_lack() -> Iterator[None]:
    """Raise an OperationalError if the machine has no thread for a call: like a full disk, the fault may pass."""
    try:
        yield
    except RuntimeError as error:
        if not is_shortage(error):
            raise
        raise sqlite3.OperationalError(str(error)) from error


def _names(path: Path) -> Names:
    """Return the names of the files of an open database. Without its sidecars committed data is lost too."""
    return Names(path, *(path.with_name(path.name + ending) for ending in SIDECARS))


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Run one write transaction: committed at the end of the block, rolled back if the block raises.

    >>> connection = sqlite3.connect(":memory:", isolation_level=None)
    >>> with transaction(connection):
    ...     _ = connection.execute("CREATE TABLE t (id TEXT PRIMARY KEY)")
    """
    if isinstance(connection, Connection):
        connection.renew()
    # IMMEDIATE takes the write lock now: a deferred transaction would fail later, without a wait, if another one wrote
    # meanwhile.
    connection.execute("BEGIN IMMEDIATE")
    try:
        if isinstance(connection, Connection):
            connection.set_mark()
        yield
        connection.execute("COMMIT")
        if isinstance(connection, Connection):
            # The failed transaction's frames are overwritten.
            connection.mark = None
    except BaseException:
        # After some errors, such as a full disk, SQLite has rolled back already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def at_one_moment(connection: sqlite3.Connection) -> Iterator[None]:
    """Read one state of the database in the block, whatever is written meanwhile."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        # Nothing was written, so there is nothing to commit.
        connection.execute("ROLLBACK")


def connect(path: Path, schema: Schema) -> Connection:
    """Open the file, or create the file and its folder, readable by this user alone. Blocking.

    Raises `ConfigError` for a file of another program or one that cannot be opened; sqlite3's own errors for a damaged
    one.

    >>> connection = connect(Path(folder, "my.db"), Schema(0x4D494E45, 1, "CREATE TABLE t (id TEXT PRIMARY KEY);"))
    >>> connection.close()
    """
    try:
        make_folder(path.parent)
        with suppress(FileExistsError):
            # mknod instead of open: POSIX locks belong to the process, so closing the file again would end the locks
            # of other connections in this process. SQLite gives the sidecars the same mode.
            os.mknod(path, 0o600)
        connection = sqlite3.connect(
            # isolation_level=None: Python's module would otherwise begin transactions of its own.
            path,
            timeout=LOCK_TIMEOUT,
            isolation_level=None,
            # Threads of Trio's pool take turns: `Database` lets one call run at a time.
            check_same_thread=False,
            factory=Connection,
        )
    except (OSError, sqlite3.OperationalError) as error:
        raise ConfigError(f"{path}: cannot be opened: {error}") from error
    try:
        _prepare(connection, path, schema)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, schema: Schema) -> None:
    found = _find_version(connection, path, schema)
    if found is None:
        for pragma in schema.pragmas:
            connection.execute(f"PRAGMA {pragma}")
    _switch_to_wal(connection)
    # FULL syncs the write-ahead file at each commit. NORMAL, often used with WAL, loses commits in a power failure.
    for pragma in ("synchronous = FULL", *schema.settings):
        connection.execute(f"PRAGMA {pragma}")
    if found == schema.version:
        return
    with transaction(connection):
        # Another process may have created or upgraded the tables meanwhile.
        found = _find_version(connection, path, schema)
        scripts = (schema.script,) if found is None else schema.upgrades[found - schema.oldest :]
        for statement in chain.from_iterable(map(_statements, scripts)):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {schema.application_id}")
        (stored,) = connection.execute("PRAGMA user_version").fetchone()
        connection.execute(f"PRAGMA user_version = {stored >> _VERSION_BITS << _VERSION_BITS | schema.version}")
    if found is not None and found != schema.version:
        _log.info("the file of an older Hermes is upgraded", file=str(path), schema=schema.version)
        # A script, for `execute` would free a single page. It does nothing where the pragmas ask for no such vacuum.
        connection.executescript("PRAGMA incremental_vacuum")


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Switch the file to WAL, also if another process switches the same file at this moment."""
    # Two processes that switch at once would wait for each other, so SQLite refuses one of them without a wait.
    for last in (False, True):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if last or error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            with transaction(connection):
                # A write transaction waits for the other process.
                pass
        else:
            return


def _find_version(connection: sqlite3.Connection, path: Path, schema: Schema) -> int | None:
    """The version of a file with Hermes's tables; None if it is empty. Raises `ConfigError` for any other file."""
    # In one statement, because another process may be creating the tables at this moment.
    application, version, tables = connection.execute(
        "SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version), "
        "(SELECT count(*) FROM sqlite_schema)"
    ).fetchone()
    # An empty file may be ours: another process may have created it a moment ago.
    if application != schema.application_id and (application or tables):
        raise ConfigError(f"{path}: the database belongs to another program; name another folder or file")
    version %= 2**_VERSION_BITS
    if version > schema.version:
        raise NewerFile(
            f"{path}: written by a newer Hermes (schema {version}, this one knows {schema.version}); upgrade"
        )
    if not tables:
        return None
    if version < schema.oldest:
        raise ConfigError(
            f"{path}: written by an older Hermes (schema {version}), which this one cannot upgrade to its own (schema "
            f"{schema.version}); go back to the older one, or move the file away to begin a new one"
        )
    return int(version)


def _statements(script: str) -> Iterator[str]:
    """Yield the statements of a script. ``executescript`` would first commit the open transaction."""
    statement = ""
    for part in script.split(";"):
        statement += part + ";"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


@asynccontextmanager
async def open_database(path: Path, schema: Schema) -> AsyncIterator[Database]:
    """Open a database for the length of the block. Raises as `connect` does.

    ::

        SCHEMA = Schema(application_id=0x4D494E45, version=1, script="CREATE TABLE t (id TEXT PRIMARY KEY);")

        def insert(connection: Connection) -> None:
            with transaction(connection):
                connection.execute("INSERT INTO t VALUES (?)", ["7"])

        async with open_database(Path(folder, "my.db"), SCHEMA) as database:
            await database.run(insert)
    """
    # On a thread: SQLite waits there for a file that is locked, `LOCK_TIMEOUT` at most.
    connection = await trio.to_thread.run_sync(connect, path, schema)
    database = Database(connection, path, partial(connect, path, schema))
    try:
        yield database
    finally:
        await database.aclose()


@contextmanager
def reading(path: Path, schema: Schema) -> Iterator[sqlite3.Connection]:
    """Open the file for reading, also while a service uses it: nothing is changed or left locked. Blocking.

    Raises `ConfigError` for a file of another program; sqlite3's own errors for a missing or damaged file.
    """
    # mode=ro: a missing file is an error, and nothing can be written by mistake.
    uri = f"file:{quote(str(path))}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=LOCK_TIMEOUT, isolation_level=None)) as connection:
        found = _find_version(connection, path, schema)
        if found is not None and found < schema.version:
            raise ConfigError(
                f"{path}: written by an older Hermes (schema {found}, this one reads {schema.version}); start the "
                "service with this folder once, which upgrades it"
            )
        yield connection
