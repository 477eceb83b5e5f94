"""One SQLite database of ours: opened strictly, used on a thread by one caller at a time.

Invariants: what a transaction committed is on the disk (WAL, ``synchronous=FULL``); a call that has begun runs to its
end, so a cancelled caller finds the whole of it done or nothing, unless the disk hangs at the end of a stop; no file of
another program, or of a newer Hermes, is ever written to; a file that somebody has deleted or renamed takes nothing
more. sqlite3's own errors pass through, for each user to map them.
"""

from __future__ import annotations

import math
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import structlog
import trio

from hermes.cleanup import clean_up, run_to_end
from hermes.errors import ConfigError, is_shortage
from hermes.folders import make_folder
from hermes.in_place import Names
from hermes.threads import EXPECTED

LOCK_TIMEOUT = 5.0  # seconds; another process may hold the file
SIDECARS = ("-wal", "-shm")

_BEGUN = "the file was moved or deleted by another program; a new one is begun, without what the old one holds"
_ATTEMPTS = 3
_EXPECTED = (sqlite3.Error, *EXPECTED)

_VERSION_BITS = 16  # of SQLite's user_version are the version of the schema; the others, a mark of `Connection.differ`
_MARKS = 2**15

ResultT = TypeVar("ResultT")

_log = structlog.get_logger("hermes.sqlite")


class NewerFile(ConfigError):
    """The file is ours, but a newer Hermes has written it."""


@dataclass(frozen=True)
class Schema:
    """The schema of a database file: ``application_id`` marks the files of one program, ``version`` counts changes.

    ``script`` makes the tables; ``pragmas`` run before it, once, and ``settings`` on each connection.

    >>> SCHEMA = Schema(application_id=0x4D494E45, version=1, script="CREATE TABLE t (id TEXT PRIMARY KEY);")
    """

    application_id: int
    version: int
    script: str
    pragmas: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()


class Connection(sqlite3.Connection):
    """A connection whose transactions can be made to differ from one that has failed, until one succeeds.

    A commit whose sync failed has left its frames in the write-ahead file, each with a checksum over all before it. If
    the next transaction begins with the same frame, and the machine stops before its second, the old ones fit again,
    and what was refused comes back. So each begins with a number in the first page, which is the first that is written.

        def insert(connection: Connection) -> None:
            with transaction(connection):
                connection.execute("INSERT INTO t VALUES (?)", ["8"])
    """

    mark: int | None = None

    def differ(self) -> None:
        """A commit has failed: what is written from now on begins with what it did not begin with."""
        stored = int(self.execute("PRAGMA user_version").fetchone()[0]) >> _VERSION_BITS
        self.mark = ((stored if self.mark is None else self.mark) + 1) % _MARKS

    def set_mark(self) -> None:
        """Begin the transaction that is open with the mark, if there is one."""
        if self.mark is not None:
            version = self.execute("PRAGMA user_version").fetchone()[0] % 2**_VERSION_BITS
            self.execute(f"PRAGMA user_version = {self.mark << _VERSION_BITS | version}")


class Database:
    """The open database at ``path``. Everything happens in functions that `run` calls with the connection, on a thread.

    ``connect`` opens it, and opens it anew when its file was deleted or renamed by another program.

        async def count(database: Database) -> int:
            return await database.run(lambda connection: connection.execute("SELECT count(*) FROM t").fetchone()[0])
    """

    def __init__(self, connection: Connection, path: Path, connect: Callable[[], Connection]) -> None:
        self.path = path
        self._connection = connection
        self._connect = connect
        self._names = _names(path)
        self._turn = trio.CapacityLimiter(1)

    async def run(self, function: Callable[[Connection], ResultT]) -> ResultT:
        """Call ``function`` on a thread; one at a time, first come first served. sqlite3's errors pass through."""
        with _threads_that_lack():
            return await run_to_end(function, self._connection, limiter=self._turn, expected=_EXPECTED)

    async def run_in_place(self, function: Callable[[Connection], ResultT]) -> ResultT:
        """As `run`, and what ``function`` has written is in the file that has the name now.

        So it may be called again, with an empty database. Raises sqlite3's OperationalError where none can be made.
        """
        with _threads_that_lack():
            return await run_to_end(self._call_in_place, function, limiter=self._turn, expected=_EXPECTED)

    async def aclose(self) -> None:
        """Close the file; its write-ahead file is folded in, unless the disk hangs until a stop has to end."""
        with clean_up(math.inf):
            await self.run(lambda connection: connection.close())

    def _call_in_place(self, function: Callable[[Connection], ResultT]) -> ResultT:
        for _ in range(_ATTEMPTS):
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
    """A machine that has no thread for a call is a storage that does not work for the moment, as a full disk is."""
    try:
        yield
    except RuntimeError as error:
        if not is_shortage(error):
            raise
        raise sqlite3.OperationalError(str(error)) from error


def _names(path: Path) -> Names:
    """The names of the files of an open database: without its sidecars what was committed is lost as well."""
    return Names(path, *(path.with_name(path.name + ending) for ending in SIDECARS))


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """One write transaction: committed at the end of the block, rolled back if it raises.

    >>> connection = sqlite3.connect(":memory:", isolation_level=None)
    >>> with transaction(connection):
    ...     _ = connection.execute("CREATE TABLE t (id TEXT PRIMARY KEY)")
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        if isinstance(connection, Connection):
            connection.set_mark()
        yield
        connection.execute("COMMIT")
        if isinstance(connection, Connection):
            connection.mark = None  # nothing of what has failed is left
    except BaseException:
        if connection.in_transaction:  # some errors, a full disk among them, have rolled back by themselves
            connection.execute("ROLLBACK")
        raise


@contextmanager
def at_one_moment(connection: sqlite3.Connection) -> Iterator[None]:
    """What is read in the block is of one moment, whatever is written beside it."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


def connect(path: Path, schema: Schema) -> Connection:
    """Open the file, or make it and its folder, readable by this user alone. Blocking.

    Raises `ConfigError` for a file that is not ours or cannot be opened; sqlite3's own errors for a damaged one.

    >>> connection = connect(Path(folder, "my.db"), Schema(0x4D494E45, 1, "CREATE TABLE t (id TEXT PRIMARY KEY);"))
    >>> connection.close()
    """
    try:
        make_folder(path.parent)
        with suppress(FileExistsError):
            # Not by opening it: closing the file again would end the locks of other connections in this process.
            os.mknod(path, 0o600)  # SQLite gives the files beside it the same mode
        connection = sqlite3.connect(
            path, timeout=LOCK_TIMEOUT, isolation_level=None, check_same_thread=False, factory=Connection
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
    made = _is_made(connection, path, schema)
    if not made:
        for pragma in schema.pragmas:
            connection.execute(f"PRAGMA {pragma}")
    _switch_to_wal(connection)
    for pragma in ("synchronous = FULL", *schema.settings):
        connection.execute(f"PRAGMA {pragma}")
    if made:
        return
    with transaction(connection):
        if not _is_made(connection, path, schema):  # another process may have made it meanwhile
            for statement in _statements(schema.script):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {schema.application_id}")
            connection.execute(f"PRAGMA user_version = {schema.version}")


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Two processes that switch the same file at once would wait for each other: SQLite refuses one of them at once."""
    for last in (False, True):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if last or error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            with transaction(connection):
                pass  # this one waits for the other
        else:
            return


def _is_made(connection: sqlite3.Connection, path: Path, schema: Schema) -> bool:
    """Whether the file is ours already; False: it is empty. Raises `ConfigError` for any other."""
    # In one statement, for another process may be making it at this moment.
    application, version, tables = connection.execute(
        "SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version), "
        "(SELECT count(*) FROM sqlite_schema)"
    ).fetchone()
    if application != schema.application_id and (application or tables):
        raise ConfigError(f"{path}: the database belongs to another program; name another folder or file")
    version %= 2**_VERSION_BITS
    if version > schema.version:
        raise NewerFile(
            f"{path}: written by a newer Hermes (schema {version}, this one knows {schema.version}); upgrade"
        )
    return bool(tables)


def _statements(script: str) -> Iterator[str]:
    """The statements of a script; ``executescript`` would begin by ending the transaction that is open."""
    statement = ""
    for part in script.split(";"):
        statement += part + ";"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


@asynccontextmanager
async def open_database(path: Path, schema: Schema) -> AsyncIterator[Database]:
    """A database, open while the block runs. Raises as `connect` does.

    ::

        SCHEMA = Schema(application_id=0x4D494E45, version=1, script="CREATE TABLE t (id TEXT PRIMARY KEY);")

        def insert(connection: Connection) -> None:
            with transaction(connection):
                connection.execute("INSERT INTO t VALUES (?)", ["7"])

        async with open_database(Path(folder, "my.db"), SCHEMA) as database:
            await database.run(insert)
    """
    connection = await trio.to_thread.run_sync(connect, path, schema)
    database = Database(connection, path, partial(connect, path, schema))
    try:
        yield database
    finally:
        await database.aclose()


@contextmanager
def reading(path: Path, schema: Schema) -> Iterator[sqlite3.Connection]:
    """The file to look at, also while a service uses it: nothing is changed, folded in or left locked. Blocking.

    Raises `ConfigError` for a file that is not ours; sqlite3's own errors for one that is missing or damaged.
    """
    uri = f"file:{quote(str(path))}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=LOCK_TIMEOUT, isolation_level=None)) as connection:
        _is_made(connection, path, schema)
        yield connection
