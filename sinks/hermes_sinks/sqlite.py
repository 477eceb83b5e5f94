"""The sink for a machine with no server: one SQLite file, each event id stored once.

Invariant: a batch is one transaction, on the disk when `write` returns (WAL, ``synchronous=FULL``); only the writer's
thread touches the connection, one call at a time. A call that has begun runs to its end, bounded by the lock timeout,
so a cancelled write has either happened whole or not at all. An id that is stored already counts as stored; an event
that anything else keeps out (an index, a check or a trigger of the operator's) is rejected with SQLite's reason.
sqlite3 is imported nowhere else among the sinks.
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

from hermes import Batch, BatchRejected, ConfigError, Event, SinkPlugin, SinkUnavailable
from hermes.config import Settings, about
from hermes.kit.sqlite import Connection, Database, Schema, connect, transaction
from hermes_sinks.common.reasons import hide_values, no_text
from hermes_sinks.common.slices import slice_events

SCHEMA_VERSION = 1
APPLICATION_ID = 0x48524D53  # "HRMS" in the file's header: says whose file it is
SLICE = 1000  # events turned into rows between two checkpoints: about 0.3 ms of the loop

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
    settings=("journal_size_limit = 67108864",),
)
# Not OR IGNORE: that would also pass over an event that violates another index, a NOT NULL or a check.
_INSERT = """
INSERT INTO events (id, user_id, type, ts, payload, received_at) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING
"""
# What SQLite says of a row, whatever else is in the table. Source: https://www.sqlite.org/rescode.html
_ROW_CODES = frozenset({sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH})
_PRIMARY_CODE = 0xFF  # of an extended code, such as SQLITE_CONSTRAINT_UNIQUE

Row: TypeAlias = tuple[str, str, str, int, str, float]


class SqliteSettings(msgspec.Struct, frozen=True):
    """The settings of the sqlite sink."""

    path: Annotated[Path, about("the database file; a relative path starts in HERMES_DATA_DIR")] = Path("events.db")


class SqliteSink:
    """A sink over an open database file. Deleted or renamed by another program, the file is begun anew."""

    max_batch = 10_000
    concurrency = 1

    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(self, batch: Batch) -> None:
        """Insert the batch and commit; ids that are stored already stay as they are.

        Raises `hermes.SinkUnavailable` (disk full, locked, or damaged) and `hermes.BatchRejected` (text that is no
        Unicode, or a constraint that the operator has added).
        """
        places: Sequence[int] | None = None  # of the rows in the batch, where some of its events have none
        refused: dict[int, str] = {}
        try:
            rows = await _rows(batch)
            faults = await self._insert(rows)
        except UnicodeError:
            rows, refused = await _sort_out(batch)
            places = [index for index in range(len(batch)) if index not in refused]
            faults = await self._insert(rows)
        for place, reason in faults.items():
            refused[places[place] if places else place] = reason
        if refused:
            raise BatchRejected(await hide_values(dict(sorted(refused.items())), batch))

    async def aclose(self) -> None:
        """Close the file; its write-ahead log is folded in."""
        await self._database.aclose()

    async def _insert(self, rows: list[Row]) -> dict[int, str]:
        try:
            return await self._database.run_in_place(partial(_insert, rows))
        except sqlite3.ProgrammingError:
            raise  # ours to mend
        except sqlite3.DatabaseError as error:
            raise SinkUnavailable(f"SQLite: {error}") from error


def _insert(rows: list[Row], connection: Connection) -> dict[int, str]:
    """Insert the rows in one transaction; return why those that are not stored were refused, by index."""
    try:
        with transaction(connection):
            connection.executemany(_INSERT, rows)
    except sqlite3.DatabaseError as error:
        if not _blames_row(error):
            raise
    else:
        return {}
    refused = {}
    with transaction(connection):
        for index, row in enumerate(rows):
            try:
                connection.execute(_INSERT, row)
            except sqlite3.DatabaseError as error:
                # A trigger that says RAISE(ROLLBACK) has undone the rows before this one: the table is at fault.
                if not _blames_row(error) or not connection.in_transaction:
                    raise
                refused[index] = f"SQLite: {error}"
    return refused


def _blames_row(error: sqlite3.DatabaseError) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE in _ROW_CODES


async def _rows(batch: Batch) -> list[Row]:
    """All rows of the batch. Raises UnicodeError, now or when they are inserted, if one holds text that is none."""
    rows: list[Row] = []
    for chunk in batch.chunks:
        for start, stop in slice_events(chunk.events, SLICE):
            rows += [_row(event, chunk.received_at) for event in chunk.events[start:stop]]
            await trio.lowlevel.checkpoint()
    return rows


async def _sort_out(batch: Batch) -> tuple[list[Row], dict[int, str]]:
    """The rows that can be stored, and why the others cannot, by their index in the batch."""
    good: list[Row] = []
    bad: dict[int, str] = {}
    for chunk in batch.chunks:
        for start, stop in slice_events(chunk.events, SLICE):
            for event in chunk.events[start:stop]:
                try:
                    row = _row(event, chunk.received_at)
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
    """Open or make the database file, and its folder for this user alone. Raises `ConfigError`."""
    try:
        return connect(path, _SCHEMA)
    except ConfigError as error:
        raise ConfigError(f"SINK_SQLITE_PATH={str(path)!r}: {str(error).removeprefix(f'{path}: ')}") from error
    except sqlite3.Error as error:
        raise ConfigError(f"SINK_SQLITE_PATH={str(path)!r}: cannot be used: {error}") from error


@asynccontextmanager
async def open_sqlite(settings: SqliteSettings, service: Settings) -> AsyncIterator[SqliteSink]:
    """Open the sink on its file, made if it is missing. Raises `ConfigError` for a file that cannot be used."""
    path = service.hermes_data_dir / settings.path
    connection = await trio.to_thread.run_sync(_connect, path)
    sink = SqliteSink(Database(connection, path, partial(_connect, path)))
    try:
        yield sink
    finally:
        await sink.aclose()


plugin = SinkPlugin(open_sqlite, SqliteSettings, summary="one SQLite file, each event id once")
