"""One SQLite database of ours: opened strictly, used on a thread by one caller at a time.

Invariants: what a transaction committed is on the disk (WAL, ``synchronous=FULL``); a call that has begun runs to its
end, so a cancelled caller finds the whole of it done or nothing; no file of another program, or of a newer Hermes, is
ever written to. sqlite3's own errors pass through, for each user to map them. Used by the sqlite log and the sqlite
store of dead letters.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import trio

from hermes.errors import ConfigError

LOCK_TIMEOUT = 5.0  # seconds; another process may hold the file

ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Schema:
    """What a file of ours looks like: ``application_id`` says whose it is, ``version`` counts its changes.

    ``pragmas`` are those that have to come before the first table.
    """

    application_id: int
    version: int
    script: str
    pragmas: tuple[str, ...] = ()


class Database:
    """An open database. Everything happens in functions that `run` calls with the connection, on a thread."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.path = path
        self._connection = connection
        self._turn = trio.CapacityLimiter(1)

    async def run(self, function: Callable[[sqlite3.Connection], ResultT]) -> ResultT:
        """Call ``function`` on a thread; one at a time, first come first served. sqlite3's errors pass through."""
        return await trio.to_thread.run_sync(function, self._connection, limiter=self._turn)

    async def aclose(self) -> None:
        """Close the file; its write-ahead log is folded in."""
        with trio.CancelScope(shield=True):
            await self.run(lambda connection: connection.close())


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """One write transaction: committed at the end of the block, rolled back if it raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # some errors, a full disk among them, have rolled back by themselves
            connection.execute("ROLLBACK")
        raise


def connect(path: Path, schema: Schema) -> sqlite3.Connection:
    """Open or make the file, and its folder for this user alone. Blocking.

    Raises `ConfigError` for a file that is not ours or cannot be opened; sqlite3's own errors for a damaged one.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=LOCK_TIMEOUT, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.OperationalError) as error:
        raise ConfigError(f"{path}: cannot be opened: {error}") from error
    try:
        _prepare(connection, path, schema)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, schema: Schema) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application != schema.application_id and (application or tables):
        raise ConfigError(f"{path}: the database belongs to another program; name another folder")
    if version > schema.version:
        raise ConfigError(
            f"{path}: written by a newer Hermes (schema {version}, this one knows {schema.version}); upgrade"
        )
    if not tables:
        for pragma in schema.pragmas:
            connection.execute(f"PRAGMA {pragma}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    if not tables:
        connection.executescript(
            f"BEGIN IMMEDIATE; {schema.script}; PRAGMA application_id = {schema.application_id}; "
            f"PRAGMA user_version = {schema.version}; COMMIT;"
        )


@asynccontextmanager
async def open_database(path: Path, schema: Schema) -> AsyncIterator[Database]:
    """A database, open while the block runs. Raises as `connect` does."""
    connection = await trio.to_thread.run_sync(connect, path, schema)
    database = Database(connection, path)
    try:
        yield database
    finally:
        await database.aclose()
