"""Stores events in one SQLite file, each event id once: the sink for a machine without a server.

Invariants: a batch is one transaction, durable when `write` returns (WAL, ``synchronous=FULL``); only the writer's
thread uses the connection, one call at a time. A call that has begun runs to its end, bounded by the lock timeout, so
a cancelled write has happened whole or not at all. An id that is in the table counts as stored; an event that an index,
a check or a trigger of the operator refuses is rejected with SQLite's reason. No other sink imports sqlite3.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, TypeAlias

import msgspec
import trio

from hermes import Batch, BatchRejected, ConfigError, Event, SinkPlugin, SinkUnavailable, Storage
from hermes.config import about
from hermes.kit.sqlite import Connection, Database, Schema, connect, transaction
from hermes_sinks.common.reasons import hide_values, no_text
from hermes_sinks.common.slices import slice_events

SCHEMA_VERSION = 1
# "HRMS" in the file's header marks a file of Hermes.
APPLICATION_ID = 0x48524D53
# Events turned into rows between two checkpoints: about 0.3 ms of the loop.
SLICE = 1000

_SCHEMA = Schema(
    APPLICATION_ID,
    SCHEMA_VERSION,
    """
CREATE TABLE events (
    id          TEXT PRIMARY KEY,
    user_id     TEXT NOT NULL,
    type        TEXT NOT NULL,
    ts          INTEGER NOT NULL, -- Unix seconds
    payload     TEXT NOT NULL,    -- the client's own JSON text
    received_at REAL NOT NULL     -- Unix seconds
);
""",
    # Without a limit SQLite keeps the write-ahead file at its largest size, for the next transactions.
    settings=("journal_size_limit = 67108864",),
)
# Not OR IGNORE: that would also pass over an event that violates another index, a NOT NULL or a check.
_INSERT = """
INSERT INTO events (id, user_id, type, ts, payload, received_at) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING
"""
# The errors that a row itself causes, in any table. Source: https://www.sqlite.org/rescode.html
_ROW_CODES = frozenset({sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH})
# Of an extended code, such as SQLITE_CONSTRAINT_UNIQUE.
_PRIMARY_CODE = 0xFF

Row: TypeAlias = tuple[str, str, str, int, str, float]


class SqliteSettings(msgspec.Struct, frozen=True):
    """The settings of the sqlite sink."""

    path: Annotated[Path, about("the database file; a relative path starts in HERMES_DATA_DIR")] = Path("events.db")


class SqliteSink:
    """A sink over an open database file. If another program deletes or renames the file, a new one is begun.

    ::

        async with open_sqlite(SqliteSettings(), Storage()) as sink:
            await sink.write(batch)
    """

    max_batch = 10_000
    # SQLite has one writer at a time.
    concurrency = 1

    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(self, batch: Batch) -> None:
        """Insert the batch and commit; a row with an id that is in the table is left out.

        Raises `hermes.SinkUnavailable` (disk full, locked, or damaged) and `hermes.BatchRejected` (invalid Unicode, or
        a constraint that the operator has added).
        """
        # Of the rows in the batch, if some events have no row.
        places: Sequence[int] | None = None
        refused: dict[int, str] = {}
        try:
            rows = await _rows(batch)
            faults = await self._insert(rows)
        # Only now is each event judged: the usual batch needs no search.
        except UnicodeError:
            rows, refused = await _sort_out(batch)
            places = [index for index in range(len(batch)) if index not in refused]
            faults = await self._insert(rows)
        for place, reason in faults.items():
            refused[places[place] if places else place] = reason
        if refused:
            raise BatchRejected(await hide_values(dict(sorted(refused.items())), batch))

    async def aclose(self) -> None:
        """Close the file, with a checkpoint of its write-ahead file."""
        await self._database.aclose()

    async def _insert(self, rows: list[Row]) -> dict[int, str]:
        try:
            # A write into a file that another program has deleted would succeed, and its events would be gone.
            return await self._database.run_in_place(partial(_insert, rows))
        except sqlite3.ProgrammingError:
            # A wrong call of sqlite3 is a bug of Hermes.
            raise
        except sqlite3.DatabaseError as error:
            raise SinkUnavailable(f"SQLite: {error}") from error


def _insert(rows: list[Row], connection: Connection) -> dict[int, str]:
    """Insert the rows in one transaction; return the reasons of the refused rows, by index."""
    try:
        with transaction(connection):
            connection.executemany(_INSERT, rows)
    except sqlite3.DatabaseError as error:
        if not _blames_row(error):
            raise
    else:
        return {}
    # Row by row: SQLite undoes only the statement that failed, so the good rows stay in the transaction.
    refused = {}
    with transaction(connection):
        for index, row in enumerate(rows):
            try:
                connection.execute(_INSERT, row)
            except sqlite3.DatabaseError as error:
                # A trigger with RAISE(ROLLBACK) has undone the earlier rows too, so no single row can be blamed.
                if not _blames_row(error) or not connection.in_transaction:
                    raise
                refused[index] = f"SQLite: {error}"
    return refused


def _blames_row(error: sqlite3.DatabaseError) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE in _ROW_CODES


async def _rows(batch: Batch) -> list[Row]:
    """Return all rows of the batch. If a text is invalid Unicode, this or the INSERT raises UnicodeError."""
    rows: list[Row] = []
    for chunk in batch.chunks:
        for start, stop in slice_events(chunk.events, SLICE):
            rows += [_row(event, chunk.received_at) for event in chunk.events[start:stop]]
            await trio.lowlevel.checkpoint()
    return rows


async def _sort_out(batch: Batch) -> tuple[list[Row], dict[int, str]]:
    """Return the rows that can be stored, and the reasons of the other events, by their index in the batch."""
    good: list[Row] = []
    bad: dict[int, str] = {}
    for chunk in batch.chunks:
        for start, stop in slice_events(chunk.events, SLICE):
            for event in chunk.events[start:stop]:
                try:
                    row = _row(event, chunk.received_at)
                    # Half of a surrogate pair: sqlite3 itself would refuse the text only within the transaction.
                    for text in (event.id, event.user_id, event.type):
                        text.encode()
                except UnicodeError:
                    bad[len(good) + len(bad)] = no_text(event)
                else:
                    good.append(row)
            await trio.lowlevel.checkpoint()
    return good, bad


def _row(event: Event, received_at: float) -> Row:
    return event.id, event.user_id, event.type, event.timestamp, str(event.payload, "utf-8"), received_at


def _connect(path: Path) -> Connection:
    """Open or make the database file, and its folder, which only this user can read. Raises `ConfigError`."""
    try:
        return connect(path, _SCHEMA)
    except ConfigError as error:
        # The message begins with the path, which the setting shows already.
        raise ConfigError(f"SINK_SQLITE_PATH={str(path)!r}: {str(error).removeprefix(f'{path}: ')}") from error
    except sqlite3.Error as error:
        raise ConfigError(f"SINK_SQLITE_PATH={str(path)!r}: cannot be used: {error}") from error


@asynccontextmanager
async def open_sqlite(settings: SqliteSettings, storage: Storage) -> AsyncIterator[SqliteSink]:
    """Open the sink on its file; make the file if it is missing. Raises `ConfigError` if the file is unusable."""
    # An absolute path takes the place of the data folder.
    path = storage.hermes_data_dir / settings.path
    connection = await trio.to_thread.run_sync(_connect, path)
    sink = SqliteSink(Database(connection, path, partial(_connect, path)))
    try:
        yield sink
    finally:
        await sink.aclose()


plugin = SinkPlugin(open_sqlite, SqliteSettings, summary="one SQLite file, each event id once")
