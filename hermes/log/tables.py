"""The tables of the sqlite log, and each thing that is done with them: plain functions of a connection, on a thread.

Invariants: a function is one transaction, done whole or not at all; what it takes and gives is data. Whatever could
take long works in slices and says whether there is more. sqlite3's errors pass through. Used by the sqlite log and its
offline tools.
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

from hermes.errors import LogDamaged
from hermes.log.contract import Record, Snapshot
from hermes.log.folder import BEGINNING_BYTES
from hermes.log.rows import ADVICE, MISSING, Cut, Row, damaged, decode_row, fault, size_of_first
from hermes.sqlite import LOCK_TIMEOUT, Schema, at_one_moment, transaction

PAGE_BYTES = 16384

DELETE_BYTES = 8 * 2**20
DELETE_ROWS = 500
DELETE_PAGES = 64
"""The most that one slice of a trim deletes: a few milliseconds."""

FOLD_PATIENCE = 100
"""Milliseconds, in which no append is committed."""

SHRINK_PAGES = 256
SPARE_PAGES = 512
"""How many pages one slice gives back, and how many free ones are left for what comes next: 4 and 8 MiB."""


def trim_checksum(first: int, offset: int) -> int:
    """The checksum of a trim point."""
    return zlib.crc32(b"%d %d" % (first, offset))


SCHEMA = Schema(
    application_id=0x48524D4C,  # "HRML"
    version=1,
    pragmas=(f"page_size = {PAGE_BYTES}", "auto_vacuum = INCREMENTAL"),
    script=f"""
        CREATE TABLE batches (              -- hermes.log.rows.Row
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
    """Where a log begins and ends: index and offset of its oldest record, and those that the next one gets."""

    first: int
    first_offset: int
    next: int
    next_offset: int


def trim_point(connection: sqlite3.Connection, name: str) -> tuple[int, int]:
    """Index and offset of the oldest record that is kept. Raises `LogDamaged`."""
    first, offset, checksum = connection.execute("SELECT first, offset, checksum FROM trimmed").fetchone() or (0, 0, 0)
    if not is_trim_point(first, offset, checksum):
        raise LogDamaged(f"{name}: where the log begins: the checksum does not fit; {ADVICE}")
    return first, offset


def is_trim_point(first: object, offset: object, checksum: object) -> bool:
    """Whether these columns are as `move_trim_point` wrote them."""
    return type(first) is int and type(offset) is int and trim_checksum(first, offset) == checksum


def oldest_first(connection: sqlite3.Connection) -> Iterator[Row]:
    """All rows, the oldest first, read as they are asked for."""
    return starmap(Row, connection.execute(f"SELECT {_COLUMNS} FROM batches ORDER BY first"))  # noqa: S608 - our own text


def row_at(connection: sqlite3.Connection, index: int) -> Row:
    """The row that begins at ``index``, which is there."""
    return Row(*connection.execute(f"SELECT {_COLUMNS} FROM batches WHERE first = ?", (index,)).fetchone())  # noqa: S608


def newest_first(connection: sqlite3.Connection) -> Iterator[Row]:
    """All rows, the newest first, read as they are asked for."""
    return starmap(Row, connection.execute(f"SELECT {_COLUMNS} FROM batches ORDER BY first DESC"))  # noqa: S608 - our own text


def extent(connection: sqlite3.Connection, name: str) -> Extent:
    """Where the log begins and ends, when its last row is good. Raises `LogDamaged`."""
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
    """Take away every row from ``index`` on."""
    with transaction(connection):
        connection.execute("DELETE FROM batches WHERE first >= ?", (index,))


def cut(connection: sqlite3.Connection, damaged_end: Cut) -> None:
    """Take damaged rows away, and say in their place what is lost."""
    with transaction(connection):
        connection.execute("DELETE FROM batches WHERE first >= ?", (damaged_end.lost.index,))
        connection.execute(_INSERT, _columns(damaged_end.lost))


def count_failure(connection: sqlite3.Connection) -> None:
    """Note that a commit has failed. For why this is more than a statistic, see `hermes.log.sqlite`."""
    with transaction(connection):
        connection.execute("UPDATE trimmed SET failures = failures + 1")


def read(
    connection: sqlite3.Connection, from_index: int, end: int, max_records: int, max_bytes: int, name: str
) -> list[Record]:
    """Records from ``from_index`` to before ``end``, within the limits but one at least. Raises `LogDamaged`."""
    with at_one_moment(connection):  # of the trim point and the rows
        expected = max(from_index, trim_point(connection, name)[0])
        found = connection.execute(
            f"SELECT {_COLUMNS} FROM batches WHERE first >= "  # noqa: S608 - our own text
            "coalesce((SELECT max(first) FROM batches WHERE first <= ?), 0) ORDER BY first",
            (expected,),
        )
        with closing(found):
            return _gather(starmap(Row, found), expected, end, max_records, max_bytes, name)


def _gather(rows: Iterator[Row], start: int, end: int, max_records: int, max_bytes: int, name: str) -> list[Record]:
    """What is before damage is given without complaint: it is told by the read that begins there."""
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
                    if records and (size > max_bytes or len(records) >= max_records):
                        return records
                    records.append(Record(index, data))
            expected = max(expected, row.end)
            continue
        if records:
            break
        raise damage
    return records


def beginning(connection: sqlite3.Connection, index: int) -> bytes:
    """How the record at ``index`` begins, unchecked and without reading more of it; empty: it is not there."""
    row = connection.execute(
        "SELECT first, count FROM batches WHERE first <= ? AND data <> x'' ORDER BY first DESC LIMIT 1", (index,)
    ).fetchone()
    if row is None or not 0 <= index - row[0] < row[1]:
        return b""
    first, count = row
    with connection.blobopen("batches", "data", first, readonly=True) as data:
        lengths = data.read(4 * (index - first + 1))
        data.seek(4 * count + size_of_first(index - first, lengths))
        return data.read(min(struct.unpack("<I", lengths[-4:])[0], BEGINNING_BYTES))


def move_trim_point(connection: sqlite3.Connection, to_index: int, name: str) -> tuple[int, int]:
    """Let the log begin at ``to_index``, unless it begins later; return what `trim_point` then says, or raises."""
    with transaction(connection):
        first, first_offset = trim_point(connection, name)
        row = connection.execute(
            "SELECT first, count, offset, length(data), substr(data, 1, 4 * min(count, :to - first)) "
            "FROM batches WHERE first < :to ORDER BY first DESC LIMIT 1",
            {"to": to_index},
        ).fetchone()
        if row is not None and to_index > first:
            index, count, offset, length, head = row
            # The row may be a damaged one: to trim it is a way to be rid of it.
            size = size_of_first(to_index - index, head) if to_index < index + count else length - 4 * count
            first, first_offset = to_index, offset + max(0, min(size, length))
            set_trim_point(connection, first, first_offset)
    return first, first_offset


def set_trim_point(connection: sqlite3.Connection, first: int, offset: int) -> None:
    """Write where the log begins; part of a transaction."""
    values = (first, offset, trim_checksum(first, offset))
    connection.execute("UPDATE trimmed SET first = ?, offset = ?, checksum = ?", values)


def delete_slice(connection: sqlite3.Connection, to_index: int, ends_there: bool) -> bool:
    """Delete some of the rows that have no record from ``to_index`` on; return whether there were any.

    ``ends_there`` says that the log ended at ``to_index`` once; if not, the last row before may reach beyond.
    """
    with transaction(connection):
        below = to_index
        if not ends_there:
            (below,) = connection.execute("SELECT max(first) FROM batches WHERE first <= ?", (to_index,)).fetchone()
        boundary = None
        size = 0
        for first, length in connection.execute(
            "SELECT first, length(data) FROM batches WHERE first < ? ORDER BY first LIMIT ?", (below, DELETE_ROWS)
        ):
            if boundary is not None and size + length > DELETE_BYTES:
                break
            boundary, size = first, size + length
        if boundary is not None:
            connection.execute("DELETE FROM batches WHERE first <= ?", (boundary,))
    return boundary is not None


def shrink(connection: sqlite3.Connection, pages: int, at_once: bool) -> bool:
    """Give this many of the file's free pages back; return whether it was worth it.

    Pages in use at the end of the file have to be moved for that. So it is done when they are fewer than the free
    ones, and some are left for what comes next; ``at_once``, for want of room: whenever there are free ones.
    """
    (total,) = connection.execute("PRAGMA page_count").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    if not (free if at_once else free > SPARE_PAGES and free > total - free):
        return False
    connection.executescript(f"PRAGMA incremental_vacuum({pages})")  # ``execute`` would end after one page
    return True


def fold(connection: sqlite3.Connection, mode: str) -> int:
    """Copy the write-ahead file into the database and sync it; return how many of its pages are left to copy.

    ``mode`` as SQLite names them: ``PASSIVE`` waits for nobody, ``TRUNCATE`` also gives the room back, if it has not to
    wait for readers for long: `hermes log inspect` may be one of them.
    """
    connection.execute(f"PRAGMA busy_timeout = {FOLD_PATIENCE}")
    try:
        _, pages, folded = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(LOCK_TIMEOUT * 1000)}")
    return int(pages - folded)


def take_snapshot(connection: sqlite3.Connection, index: int, state: bytes) -> None:
    """Keep a snapshot in the place of the last."""
    with transaction(connection):
        values = (index, _snapshot_checksum(index, state), state)
        connection.execute("INSERT OR REPLACE INTO snapshot VALUES (1, ?, ?, ?)", values)


def snapshot(connection: sqlite3.Connection, name: str) -> Snapshot | None:
    """The snapshot, if there is one. Raises `LogDamaged`."""
    row = connection.execute("SELECT at, checksum, state FROM snapshot").fetchone()
    if row is None:
        return None
    found = as_snapshot(*row)
    if found is None:
        raise LogDamaged(f"{name}: the snapshot: the checksum does not fit; {ADVICE}")
    return found


def as_snapshot(index: object, checksum: object, state: object) -> Snapshot | None:
    """The snapshot that these columns are, if they are as `take_snapshot` wrote them."""
    if type(index) is int and 0 <= index < 2**63 and type(state) is bytes:
        return Snapshot(index, state) if _snapshot_checksum(index, state) == checksum else None
    return None


def _snapshot_checksum(index: int, state: bytes) -> int:
    return zlib.crc32(state, zlib.crc32(index.to_bytes(8, "little")))
