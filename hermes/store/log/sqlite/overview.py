"""Shows the extent and the records of an sqlite log, also while a service uses the log. Read only, blocking.

Invariant: the numbers that one call returns are of one moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import Connection

from hermes.base.errors import ConfigError
from hermes.store.log.contract import Record, Snapshot
from hermes.store.log.sqlite import tables
from hermes.store.log.sqlite.folder import DATABASE
from hermes.store.log.sqlite.log import storage_errors
from hermes.store.sqlite import at_one_moment, reading


@dataclass(frozen=True)
class Overview:
    """The extent of a log. ``bytes`` counts its records; ``database_bytes`` and ``wal_bytes`` count its files."""

    first: int
    next: int
    rows: int
    bytes: int
    database_bytes: int
    wal_bytes: int
    snapshot: Snapshot | None


def overview(folder: Path) -> Overview:
    """Return the extent of the log in ``folder``.

    Raises `ConfigError` if the folder has no log, `LogDamaged`, `LogUnavailable`.

    ::

        found = overview(Path("/var/lib/hermes/journal"))
        print(found.next - found.first, "records")
    """
    database = folder / DATABASE
    with _reading(database) as connection, at_one_moment(connection):
        # The service may commit or trim between two SELECTs, so all of them read one state.
        extent = tables.extent(connection, str(database))
        (rows,) = connection.execute("SELECT count(*) FROM batches").fetchone()
        wal = Path(f"{database}-wal")
        return Overview(
            extent.first,
            extent.next,
            rows,
            extent.next_offset - extent.first_offset,
            database.stat().st_size,
            # SQLite deletes the file when its last connection is closed.
            wal.stat().st_size if wal.exists() else 0,
            tables.snapshot(connection, str(database)),
        )


def records(folder: Path, from_index: int, limit: int) -> Iterator[Record]:
    """Yield the first ``limit`` records from ``from_index`` on. Raises as `overview` does.

    ::

        for record in records(folder, from_index=0, limit=10):
            print(record.index, len(record.data))
    """
    database = folder / DATABASE
    # No connection stays open while the caller prints: an open read would keep the service from truncating its -wal
    # file. And no more than 1000 records or 8 MiB are in memory.
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
