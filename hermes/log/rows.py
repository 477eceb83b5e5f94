"""A batch of records as one checked row, and what to do about a damaged one: the format that the sqlite log stores.

Invariants: rows follow each other without a gap, in index and in offset; `fault` finds any change of a stored row;
the index of a record that was lost is never given to another, for a row that says "lost" stands in its place. Pure.
Used by the sqlite log and its offline tools.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from hermes.errors import LogDamaged

ROW_BYTES = 256 * 1024
"""A row is closed when it holds this much: the most that is read and checked to reach a record, unless it is larger."""

MAX_RECORD_BYTES = 256 * 2**20
"""SQLite's own limit for a row is four times that."""

MAX_CUT_ROWS = 64
"""A write that was torn damages what was written last. More damaged rows than one commit makes have another reason."""

CHECKED_ROWS = 64
CHECKED_BYTES = 16 * 2**20
"""How much of a log's end is checked when it is opened; whichever is reached first. The rest is checked when read."""

MISSING = "missing"
ADVICE = "stop Hermes, see `hermes log check`, then `hermes log repair`"

_CHECKED = struct.Struct("<QQI")
_LENGTH = 4  # bytes of the length of a record


@dataclass(frozen=True, slots=True)
class Row:
    """``count`` records from ``index`` on. ``data`` is their lengths (4 bytes each, little-endian), then themselves.

    ``offset`` is how many bytes all records before have had since the log began. No ``data``: the records are lost.
    """

    index: int
    count: int
    offset: int
    checksum: int
    data: bytes

    @property
    def end(self) -> int:
        """The index after its last record."""
        return self.index + self.count

    @property
    def size(self) -> int:
        """Bytes of its records, without their lengths."""
        return len(self.data) - _LENGTH * self.count if self.data else 0

    @property
    def end_offset(self) -> int:
        """The offset of the row that follows."""
        return self.offset + self.size


@dataclass(frozen=True, slots=True)
class Cut:
    """A damaged end of a log: the rows to take away, oldest first, and the one that says what is lost with them."""

    rows: tuple[Row, ...]
    lost: Row


def _make(index: int, count: int, offset: int, data: bytes) -> Row:
    return Row(index, count, offset, _checksum(index, count, offset, data), data)


def _checksum(index: int, count: int, offset: int, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(_CHECKED.pack(index, offset, count)))


def check_records(records: Sequence[bytes]) -> int:
    """How many bytes these records have. Raises ValueError for what no log takes: none, or one that is too large."""
    if not records:
        raise ValueError("an append needs at least one record")
    if max(map(len, records)) > MAX_RECORD_BYTES:
        raise ValueError(f"a record has {max(map(len, records))} bytes, and at most {MAX_RECORD_BYTES} are possible")
    return sum(map(len, records))


def encode_row(index: int, offset: int, records: Sequence[bytes]) -> Row:
    """One row of these records."""
    lengths = struct.pack(f"<{len(records)}I", *map(len, records))
    return _make(index, len(records), offset, b"".join((lengths, *records)))


def encode_rows(index: int, offset: int, records: Sequence[bytes]) -> Iterator[Row]:
    """These records as rows of about `ROW_BYTES`, each of one record at least."""
    start = size = 0
    for place, record in enumerate(records):
        if place > start and size + len(record) > ROW_BYTES:
            yield encode_row(index + start, offset, records[start:place])
            offset += size
            start, size = place, 0
        size += len(record)
    if start < len(records):
        yield encode_row(index + start, offset, records[start:])


def lost_row(index: int, count: int, offset: int) -> Row:
    """The row that stands where ``count`` records could not be saved: their indexes never come again."""
    return _make(index, count, offset, b"")


def decode_row(row: Row) -> list[bytes]:
    """The records of a row in which `fault` has found nothing; none if they are lost."""
    if not row.data:
        return []
    records = []
    start = _LENGTH * row.count
    for length in struct.unpack_from(f"<{row.count}I", row.data):
        records.append(row.data[start : start + length])
        start += length
    return records


def size_of_first(count: int, head: bytes) -> int:
    """Bytes of the first ``count`` records of a row, of whose data only the ``head`` is there."""
    return sum(struct.unpack_from(f"<{min(count, len(head) // _LENGTH)}I", head))


def fault(row: Row) -> str:
    """What is wrong with a row by itself, in words; empty if it is as it was written."""
    numbers = (row.index, row.count, row.offset, row.checksum)
    if not all(type(number) is int and 0 <= number < 2**63 for number in numbers) or type(row.data) is not bytes:
        return "columns of the wrong kind"
    if not 0 < row.count < 2**32 or _checksum(row.index, row.count, row.offset, row.data) != row.checksum:
        return "the checksum does not fit"
    return ""


def examine(newest_first: Iterable[Row], first: int, first_offset: int, name: str) -> Cut | None:
    """Judge the end of a log from its rows, the newest first; ``first`` is the oldest index that is kept.

    Returns what to cut: the damaged rows at the very end, as a write that was torn leaves them. Reads no more rows than
    it has to check. Raises `LogDamaged`, with ``name`` for the log's, for damage that is not at the end or is more.
    """
    bad: list[Row] = []
    offset = first_offset
    follower: Row | None = None
    good = good_bytes = 0
    for row in newest_first:
        if what := fault(row):
            if good or len(bad) == MAX_CUT_ROWS:
                raise damaged(name, row.index, follower.index if follower else row.index + 1, what)
            bad.append(row)
        else:
            if follower is not None and row.end != follower.index:
                start, end = sorted((row.end, follower.index))
                raise damaged(name, start, end, MISSING if row.end == start else "stored twice")
            if not good:
                offset = row.end_offset
            good, good_bytes = good + 1, good_bytes + len(row.data)
            if good == CHECKED_ROWS or good_bytes >= CHECKED_BYTES:
                break
        follower = row
    else:
        if follower is not None and follower.index > first:
            raise damaged(name, first, follower.index, MISSING)
    return _cut(bad, offset) if bad else None


def _cut(newest_first: Sequence[Row], offset: int) -> Cut:
    oldest, newest = newest_first[-1], newest_first[0]
    count = claimed_end(newest) - oldest.index
    return Cut(tuple(reversed(newest_first)), lost_row(oldest.index, count, offset))


def claimed_end(row: Row) -> int:
    """The index after a damaged row, as far as its count can be believed."""
    # It is as doubtful as the rest; but every record takes bytes, so there cannot be more of them.
    plausible = type(row.count) is int and type(row.data) is bytes and 0 < row.count * _LENGTH <= len(row.data)
    return row.index + (row.count if plausible else 1)


def damaged(name: str, index: int, end: int, what: str) -> LogDamaged:
    """The error for records from ``index`` to before ``end`` of the log called ``name``."""
    return LogDamaged(f"{name}: {named(index, end)}: {what}; {ADVICE}")


def named(index: int, end: int) -> str:
    """The records from ``index`` to before ``end``, in words."""
    return f"record {index}" if end == index + 1 else f"records {index} to {end - 1}"
