"""Declares the tables of the sqlite log, and each transaction on them as a plain function of a connection. Blocking.

Invariants: a function is one transaction, done whole or not at all; its arguments and its result are plain data. A
change that could take long works in slices and returns whether there is more. sqlite3's errors pass through.
"""

from __future__ import annotations

import sqlite3
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import starmap
from operator import attrgetter
from typing import NamedTuple

from hermes.base.errors import LogDamaged
from hermes.store.log.contract import Record, Snapshot
from hermes.store.log.rows import ADVICE, MISSING, Cut, Row, damaged, decode_row, fault, size_of_first
from hermes.store.log.sqlite.folder import BEGINNING_BYTES
from hermes.store.sqlite import LOCK_TIMEOUT, Schema, at_one_moment, transaction

# Part of the format on disk: `hermes.store.log.sqlite.salvage` and a repair read old files with this size.
PAGE_BYTES = 16384

DELETE_BYTES = 8 * 2**20
DELETE_ROWS = 500
DELETE_PAGES = 64
"""The most that one slice of a trim deletes: a few milliseconds, in which an append waits."""

CHECKPOINT_PATIENCE = 100
"""Milliseconds that a checkpoint waits for readers; no append is committed meanwhile."""

SHRINK_PAGES = 256
SPARE_PAGES = 512
"""How many pages one slice gives back, and how many free pages stay for the next appends: 4 and 8 MiB."""


def trim_checksum(first: int, offset: int) -> int:
    """Return the checksum of a trim point."""
    return zlib.crc32(b"%d %d" % (first, offset))


SCHEMA = Schema(
    application_id=0x48524D4C,  # "HRML"
    version=1,
    # Both before the first table: later SQLite changes neither without a VACUUM of the whole file. INCREMENTAL lets
    # `shrink` give pages back in slices.
    pragmas=(f"page_size = {PAGE_BYTES}", "auto_vacuum = INCREMENTAL"),
    script=f"""
        CREATE TABLE batches (              -- hermes.store.log.rows.Row
            first    INTEGER PRIMARY KEY,
            count    INTEGER NOT NULL,
            offset   INTEGER NOT NULL,
            checksum INTEGER NOT NULL,
            data     BLOB NOT NULL
        );
        CREATE TABLE trimmed (              -- one row: where the log begins
            id       INTEGER PRIMARY KEY CHECK (id = 1),
            first    INTEGER NOT NULL,
            offset   INTEGER NOT NULL,
            checksum INTEGER NOT NULL,
            failures INTEGER NOT NULL       -- commits that failed, ever
        );
        INSERT INTO trimmed VALUES (1, 0, 0, {trim_checksum(0, 0)}, 0);
        CREATE TABLE snapshot (             -- one row or none
            id       INTEGER PRIMARY KEY CHECK (id = 1),
            at       INTEGER NOT NULL,
            checksum INTEGER NOT NULL,
            state    BLOB NOT NULL
        );
    """,  # noqa: S608 - our own text
)

_INSERT = "INSERT INTO batches VALUES (?, ?, ?, ?, ?)"
_columns = attrgetter("index", "count", "offset", "checksum", "data")
_COLUMNS = "first, count, offset, checksum, data"


class Extent(NamedTuple):
    """Where a log begins and ends: index and offset of its oldest record, and of the next record to come."""

    first: int
    first_offset: int
    next: int
    next_offset: int


def trim_point(connection: sqlite3.Connection, name: str) -> tuple[int, int]:
    """Return index and offset of the oldest record that is kept. Raises `LogDamaged`."""
    first, offset, checksum = connection.execute("SELECT first, offset, checksum FROM trimmed").fetchone() or (0, 0, 0)
    if not is_trim_point(first, offset, checksum):
        raise LogDamaged(f"{name}: where the log begins: the checksum does not fit; {ADVICE}")
    return first, offset


def is_trim_point(first: object, offset: object, checksum: object) -> bool:
    """Return whether these columns are as `move_trim_point` wrote them."""
    return type(first) is int and type(offset) is int and trim_checksum(first, offset) == checksum


def oldest_first(connection: sqlite3.Connection) -> Iterator[Row]:
    """Yield all rows, the oldest first, reading each when the caller asks for it."""
    return starmap(Row, connection.execute(f"SELECT {_COLUMNS} FROM batches ORDER BY first"))  # noqa: S608 - our own text


def row_at(connection: sqlite3.Connection, index: int) -> Row:
    """Return the row that begins at ``index``. The row must exist."""
    return Row(*connection.execute(f"SELECT {_COLUMNS} FROM batches WHERE first = ?", (index,)).fetchone())  # noqa: S608


def newest_first(connection: sqlite3.Connection) -> Iterator[Row]:
    """Yield all rows, the newest first, reading each when the caller asks for it."""
    return starmap(Row, connection.execute(f"SELECT {_COLUMNS} FROM batches ORDER BY first DESC"))  # noqa: S608 - our own text


def extent(connection: sqlite3.Connection, name: str) -> Extent:
    """Return where the log begins and ends. The last row must be good. Raises `LogDamaged`.

    >>> from hermes.store.log.rows import encode_row
    >>> connection = connect(Path(folder, "extent.db"), SCHEMA)
    >>> insert(connection, [encode_row(0, 0, [b"ab", b"c"])])
    >>> extent(connection, "mine")
    Extent(first=0, first_offset=0, next=2, next_offset=3)
    >>> connection.close()
    """
    first, first_offset = trim_point(connection, name)
    last = next(newest_first(connection), None)
    if last is None:
        return Extent(first, first_offset, first, first_offset)
    return Extent(first, first_offset, last.end, last.end_offset)


def insert(connection: sqlite3.Connection, rows: Iterable[Row]) -> None:
    """Append rows."""
    with transaction(connection):
        connection.executemany(_INSERT, map(_columns, rows))


def take_back(connection: sqlite3.Connection, index: int) -> None:
    """Delete every row from ``index`` on."""
    with transaction(connection):
        connection.execute("DELETE FROM batches WHERE first >= ?", (index,))


def cut(connection: sqlite3.Connection, damaged_end: Cut) -> None:
    """Delete the damaged rows, and insert the row that marks their records as lost."""
    with transaction(connection):
        connection.execute("DELETE FROM batches WHERE first >= ?", (damaged_end.lost.index,))
        connection.execute(_INSERT, _columns(damaged_end.lost))


def overwrite_failed_frames(connection: sqlite3.Connection) -> None:
    """Overwrite the first frame that a failed commit left in the write-ahead file, by a small transaction.

    Without this, a crash could bring the failed commit back as if it had succeeded: see `hermes.store.log.sqlite.log`.
    """
    # Any change will do: the counter exists only so that there is something to change.
    with transaction(connection):
        connection.execute("UPDATE trimmed SET failures = failures + 1")


def read(
    connection: sqlite3.Connection, from_index: int, end: int, max_records: int, max_bytes: int, name: str
) -> list[Record]:
    """Return records ``from_index`` to ``end - 1``, within the limits but at least one. Raises `LogDamaged`.

    >>> from hermes.store.log.rows import encode_row
    >>> connection = connect(Path(folder, "read.db"), SCHEMA)
    >>> insert(connection, [encode_row(0, 0, [b"ab", b"c"])])
    >>> read(connection, 1, 2, max_records=10, max_bytes=100, name="mine")
    [Record(index=1, data=b'c')]
    >>> connection.close()
    """
    # A trim between the two SELECTs would look like missing rows.
    with at_one_moment(connection):
        expected = max(from_index, trim_point(connection, name)[0])
        found = connection.execute(
            f"SELECT {_COLUMNS} FROM batches WHERE first >= "  # noqa: S608 - our own text
            # The row that holds `from_index` may begin before it.
            "coalesce((SELECT max(first) FROM batches WHERE first <= ?), 0) ORDER BY first",
            (expected,),
        )
        # Mostly rows are left unread, and an open SELECT would hold its old state of the database.
        with closing(found):
            return _gather(starmap(Row, found), expected, end, max_records, max_bytes, name)


def _gather(rows: Iterator[Row], start: int, end: int, max_records: int, max_bytes: int, name: str) -> list[Record]:
    """Collect the records before any damage; raise `LogDamaged` only if the damage is at ``start``."""
    records: list[Record] = []
    size = 0
    expected = start
    while expected < end and len(records) < max_records and size < max_bytes:
        row = next(rows, None)
        if row is None or row.index > expected:
            damage = damaged(name, expected, row.index if row else end, MISSING)
        elif what := fault(row):
            damage = damaged(name, row.index, row.index + 1, what)
        else:
            for index, data in enumerate(decode_row(row), row.index):
                if start <= index < end:
                    size += len(data)
                    # At least one record, however large, for an empty list says that there is none.
                    if records and (size > max_bytes or len(records) >= max_records):
                        return records
                    records.append(Record(index, data))
            expected = max(expected, row.end)
            continue
        # The records before the damage go out first: the next read begins at the damage and raises.
        if records:
            break
        raise damage
    return records


def beginning(connection: sqlite3.Connection, index: int) -> bytes:
    """Return the first `BEGINNING_BYTES` of the record at ``index``, unchecked; empty if there is no such record."""
    row = connection.execute(
        # A row without data marks lost records.
        "SELECT first, count FROM batches WHERE first <= ? AND data <> x'' ORDER BY first DESC LIMIT 1",
        (index,),
    ).fetchone()
    if row is None or not 0 <= index - row[0] < row[1]:
        return b""
    first, count = row
    # A record may have 256 MiB: the blob interface reads its first bytes alone.
    with connection.blobopen("batches", "data", first, readonly=True) as data:
        lengths = data.read(4 * (index - first + 1))
        data.seek(4 * count + size_of_first(index - first, lengths))
        return data.read(min(struct.unpack("<I", lengths[-4:])[0], BEGINNING_BYTES))


def move_trim_point(connection: sqlite3.Connection, to_index: int, name: str) -> tuple[int, int]:
    """Let the log begin at ``to_index``, unless it begins later; return the new trim point. Raises `LogDamaged`."""
    with transaction(connection):
        first, first_offset = trim_point(connection, name)
        row = connection.execute(
            # Of the data only the lengths of the records before ``to``: the row itself may have 256 MiB.
            "SELECT first, count, offset, length(data), substr(data, 1, 4 * min(count, :to - first)) "
            "FROM batches WHERE first < :to ORDER BY first DESC LIMIT 1",
            {"to": to_index},
        ).fetchone()
        if row is not None and to_index > first:
            index, count, offset, length, head = row
            # The row may be damaged, so its numbers are clamped: a trim must be able to remove a damaged row.
            size = size_of_first(to_index - index, head) if to_index < index + count else length - 4 * count
            first, first_offset = to_index, offset + max(0, min(size, length))
            set_trim_point(connection, first, first_offset)
    return first, first_offset


def set_trim_point(connection: sqlite3.Connection, first: int, offset: int) -> None:
    """Write where the log begins. The caller holds a transaction."""
    values = (first, offset, trim_checksum(first, offset))
    connection.execute("UPDATE trimmed SET first = ?, offset = ?, checksum = ?", values)


def delete_slice(connection: sqlite3.Connection, to_index: int, on_row_boundary: bool) -> bool:
    """Delete some of the rows that lie wholly below ``to_index``; return whether there were any.

    ``on_row_boundary`` is true if a row ends at ``to_index``. If false, the last row below may hold records beyond
    ``to_index``, so that row stays. Call until the result is False::

        while delete_slice(connection, to_index, on_row_boundary=False):
            pass  # appends may commit here
    """
    with transaction(connection):
        below = to_index
        if not on_row_boundary:
            # The row that holds `to_index` may begin before it, and stays.
            # NULL if there is no such row: then no row compares as lower, and none is deleted.
            (below,) = connection.execute("SELECT max(first) FROM batches WHERE first <= ?", (to_index,)).fetchone()
        boundary = None
        size = 0
        for first, length in connection.execute(
            "SELECT first, length(data) FROM batches WHERE first < ? ORDER BY first LIMIT ?", (below, DELETE_ROWS)
        ):
            # A row that is larger than a slice is deleted alone, or the trim would never end.
            if boundary is not None and size + length > DELETE_BYTES:
                break
            boundary, size = first, size + length
        if boundary is not None:
            connection.execute("DELETE FROM batches WHERE first <= ?", (boundary,))
    return boundary is not None


def shrink(connection: sqlite3.Connection, pages: int, at_once: bool) -> bool:
    """Give this many of the file's free pages back to the disk, if worth the work; return whether that was done.

    SQLite moves the used pages at the end of the file for that. So it is worth the work if the file has more free pages
    than used pages and more than `SPARE_PAGES`; with ``at_once`` (the disk is nearly full), if it has any free page.
    """
    (total,) = connection.execute("PRAGMA page_count").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    if not (free if at_once else free > SPARE_PAGES and free > total - free):
        return False
    # ``execute`` would end after one page.
    connection.executescript(f"PRAGMA incremental_vacuum({pages})")
    return True


def checkpoint(connection: sqlite3.Connection, mode: str) -> int:
    """Copy the write-ahead file into the database and sync it; return how many of its pages are left to copy.

    ``mode`` is SQLite's: ``PASSIVE`` does not wait; ``TRUNCATE`` also gives the room of the file back, and waits for
    readers for `CHECKPOINT_PATIENCE` at most.
    """
    # A reader may be `hermes log inspect`, which nobody can make stop.
    connection.execute(f"PRAGMA busy_timeout = {CHECKPOINT_PATIENCE}")
    try:
        _, pages, checkpointed = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(LOCK_TIMEOUT * 1000)}")
    return int(pages - checkpointed)


def take_snapshot(connection: sqlite3.Connection, index: int, state: bytes) -> None:
    """Replace the snapshot."""
    with transaction(connection):
        values = (index, _snapshot_checksum(index, state), state)
        connection.execute("INSERT OR REPLACE INTO snapshot VALUES (1, ?, ?, ?)", values)


def snapshot(connection: sqlite3.Connection, name: str) -> Snapshot | None:
    """Return the snapshot, or None. Raises `LogDamaged`."""
    row = connection.execute("SELECT at, checksum, state FROM snapshot").fetchone()
    if row is None:
        return None
    found = as_snapshot(*row)
    if found is None:
        raise LogDamaged(f"{name}: the snapshot: the checksum does not fit; {ADVICE}")
    return found


def as_snapshot(index: object, checksum: object, state: object) -> Snapshot | None:
    """Return these columns as a snapshot, or None unless they are as `take_snapshot` wrote them.

    >>> as_snapshot(7, _snapshot_checksum(7, b"state"), b"state")
    Snapshot(index=7, state=b'state')
    >>> as_snapshot(7, 0, b"state") is None
    True
    """
    if type(index) is int and 0 <= index < 2**63 and type(state) is bytes:
        return Snapshot(index, state) if _snapshot_checksum(index, state) == checksum else None
    return None


def _snapshot_checksum(index: int, state: bytes) -> int:
    return zlib.crc32(state, zlib.crc32(index.to_bytes(8, "little")))
