"""A log looked at from outside, also while a service uses it: what it holds, and its records. Read only, blocking.

Invariant: what is shown of one call is of one moment. Called by ``hermes log inspect``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import Connection

from hermes.errors import ConfigError
from hermes.log import tables
from hermes.log.contract import Record, Snapshot
from hermes.log.folder import DATABASE
from hermes.log.sqlite import storage_errors
from hermes.sqlite import at_one_moment, reading


@dataclass(frozen=True)
class Overview:
    """What a log holds. ``bytes`` are those of its records, the other two those of its files."""

    first: int
    next: int
    rows: int
    bytes: int
    database_bytes: int
    wal_bytes: int
    snapshot: Snapshot | None


def overview(folder: Path) -> Overview:
    """What the log in ``folder`` holds. Raises `ConfigError` if there is none, `LogDamaged`, `LogUnavailable`."""
    database = folder / DATABASE
    with _reading(database) as connection, at_one_moment(connection):
        extent = tables.extent(connection, str(database))
        (rows,) = connection.execute("SELECT count(*) FROM batches").fetchone()
        wal = Path(f"{database}-wal")
        return Overview(
            extent.first,
            extent.next,
            rows,
            extent.next_offset - extent.first_offset,
            database.stat().st_size,
            wal.stat().st_size if wal.exists() else 0,
            tables.snapshot(connection, str(database)),
        )


def records(folder: Path, from_index: int, limit: int) -> Iterator[Record]:
    """The first ``limit`` records from ``from_index`` on. Raises as `overview` does."""
    database = folder / DATABASE
    while limit > 0:
        with _reading(database) as connection:
            end = tables.extent(connection, str(database)).next
            found = tables.read(connection, from_index, end, min(limit, 1000), 8 * 2**20, str(database))
        if not found:
            return
        yield from found
        limit -= len(found)
        from_index = found[-1].index + 1


@contextmanager
def _reading(database: Path) -> Iterator[Connection]:
    if not database.exists():
        raise ConfigError(f"{database.parent}: there is no journal here, for {DATABASE} is missing")
    with storage_errors(str(database)), reading(database, tables.SCHEMA) as connection:
        yield connection
