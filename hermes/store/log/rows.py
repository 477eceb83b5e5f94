"""Encodes batches of records as checked rows, and judges damaged rows: the row format of the sqlite and postgres logs.

Invariants: rows follow each other without a gap, in index and in offset; `fault` finds any change of a stored row; a
row without data stands in the place of lost records, so that their indexes are never used again. Pure.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from hermes.base.errors import LogDamaged

ROW_BYTES = 256 * 1024
"""A row with this much takes no further record: a reader of one record reads and checks no more than this."""

MAX_RECORD_BYTES = 256 * 2**20
"""A quarter of SQLite's own limit for a row (1 GiB)."""

MAX_CUT_ROWS = 64
"""A torn write damages the rows of the last commit. More damaged rows than this have another cause."""

CHECKED_ROWS = 64
CHECKED_BYTES = 16 * 2**20
"""How much of a log's end is checked at opening, up to the first limit reached. `read` checks the other rows."""

MISSING = "missing"
ADVICE = "stop Hermes, see `hermes log check`, then `hermes log repair`"

# The checksum covers index, offset and count too: a row that is stored in another place is damaged.
_CHECKED = struct.Struct("<QQI")
_LENGTH = 4  # bytes of the length of a record


@dataclass(frozen=True, slots=True)
class Row:
    """``count`` records from ``index`` on. ``data`` has their lengths (4 bytes each, little-endian), then the records.

    ``offset`` counts the bytes of all records before, since the log began. If ``data`` is empty the records are lost.

    >>> row = encode_row(7, 0, [b"ab", b"c"])
    >>> row.end, row.size, row.data
    (9, 3, b'\\x02\\x00\\x00\\x00\\x01\\x00\\x00\\x00abc')
    >>> decode_row(row)
    [b'ab', b'c']
    """

    index: int
    count: int
    offset: int
    checksum: int
    data: bytes

    @property
    def end(self) -> int:
        """The index after the last record."""
        return self.index + self.count

    @property
    def size(self) -> int:
        """Bytes of the records, without their lengths."""
        return len(self.data) - _LENGTH * self.count if self.data else 0

    @property
    def end_offset(self) -> int:
        """The offset of the row that follows."""
        return self.offset + self.size


@dataclass(frozen=True, slots=True)
class Cut:
    """A damaged end of a log: the rows to delete, oldest first, and the row that marks their records as lost."""

    rows: tuple[Row, ...]
    lost: Row


def _make(index: int, count: int, offset: int, data: bytes) -> Row:
    return Row(index, count, offset, _checksum(index, count, offset, data), data)


def _checksum(index: int, count: int, offset: int, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(_CHECKED.pack(index, offset, count)))


def check_records(records: Sequence[bytes]) -> int:
    """Return the size of the records. Raises ValueError if there are no records or one is too large.

    >>> check_records([b"ab", b"c"])
    3
    """
    if not records:
        raise ValueError("an append needs at least one record")
    if max(map(len, records)) > MAX_RECORD_BYTES:
        raise ValueError(f"a record has {max(map(len, records))} bytes, and at most {MAX_RECORD_BYTES} are possible")
    return sum(map(len, records))


def encode_row(index: int, offset: int, records: Sequence[bytes]) -> Row:
    """Return one row of these records."""
    lengths = struct.pack(f"<{len(records)}I", *map(len, records))
    return _make(index, len(records), offset, b"".join((lengths, *records)))


def encode_rows(index: int, offset: int, records: Sequence[bytes]) -> Iterator[Row]:
    """Yield these records as rows of about `ROW_BYTES`, each of at least one record.

    >>> [row.count for row in encode_rows(0, 0, [bytes(200_000)] * 3)]
    [1, 1, 1]
    """
    start = size = 0
    for place, record in enumerate(records):
        # ``place > start`` and not ``size``: an empty record must not share a row with one that fills the row.
        if place > start and size + len(record) > ROW_BYTES:
            yield encode_row(index + start, offset, records[start:place])
            offset += size
            start, size = place, 0
        size += len(record)
    if start < len(records):
        yield encode_row(index + start, offset, records[start:])


def lost_row(index: int, count: int, offset: int) -> Row:
    """Return the row that marks ``count`` records as lost, so that their indexes are never used again.

    >>> row = lost_row(7, 2, 0)
    >>> row.end, row.data, decode_row(row)
    (9, b'', [])
    """
    return _make(index, count, offset, b"")


def decode_row(row: Row) -> list[bytes]:
    """Return the records of a row that `fault` has found good; an empty list if they are lost."""
    if not row.data:
        return []
    records = []
    start = _LENGTH * row.count
    for length in struct.unpack_from(f"<{row.count}I", row.data):
        records.append(row.data[start : start + length])
        start += length
    return records


def size_of_first(count: int, head: bytes) -> int:
    """Return the size of a row's first ``count`` records; ``head`` is the beginning of the row's data.

    >>> row = encode_row(0, 0, [b"ab", b"c", b"def"])
    >>> size_of_first(2, row.data[: 4 * 2])
    3
    """
    return sum(struct.unpack_from(f"<{min(count, len(head) // _LENGTH)}I", head))


def fault(row: Row) -> str:
    """Return the fault of a single row, in words; empty if the row is as it was written.

    >>> row = encode_row(0, 0, [b"one"])
    >>> fault(row)
    ''
    >>> fault(Row(row.index, row.count, row.offset, row.checksum, row.data + b"!"))
    'the checksum does not fit'
    """
    numbers = (row.index, row.count, row.offset, row.checksum)
    # SQLite columns take values of any type, so a damaged row may hold text where a number belongs.
    if not all(type(number) is int and 0 <= number < 2**63 for number in numbers) or type(row.data) is not bytes:
        return "columns of the wrong kind"
    # `_CHECKED` packs the count into 32 bits, and raises for a larger one.
    if not 0 < row.count < 2**32 or _checksum(row.index, row.count, row.offset, row.data) != row.checksum:
        return "the checksum does not fit"
    return ""


def examine(newest_first: Iterable[Row], first: int, first_offset: int, name: str) -> Cut | None:
    """Judge the end of a log from its rows, the newest first; ``first`` is the oldest index that is kept.

    Returns the damaged rows at the very end, which a torn write leaves and the caller cuts off. Reads only the rows
    that it checks. Raises `LogDamaged` for any other damage; ``name`` is the name of the log in its message.

    >>> good, torn = encode_row(0, 0, [b"one"]), Row(1, 1, 3, checksum=0, data=b"")
    >>> cut = examine([torn, good], 0, 0, "mine")
    >>> [row.index for row in cut.rows], cut.lost.index, cut.lost.end
    ([1], 1, 2)
    """
    bad: list[Row] = []
    offset = first_offset
    follower: Row | None = None
    good = good_bytes = 0
    for row in newest_first:
        if what := fault(row):
            # A torn write damages only the end: a damaged row before a good one has another cause.
            if good or len(bad) == MAX_CUT_ROWS:
                raise damaged(name, row.index, follower.index if follower else row.index + 1, what)
            bad.append(row)
        else:
            if follower is not None and row.end != follower.index:
                start, end = sorted((row.end, follower.index))
                raise damaged(name, start, end, MISSING if row.end == start else "stored twice")
            # The damaged rows' own offsets cannot be believed: the good row before them says where they begin.
            if not good:
                offset = row.end_offset
            good, good_bytes = good + 1, good_bytes + len(row.data)
            if good == CHECKED_ROWS or good_bytes >= CHECKED_BYTES:
                break
        follower = row
    else:
        # All rows were read, so the oldest one has to reach down to where the log begins.
        if follower is not None and follower.index > first:
            raise damaged(name, first, follower.index, MISSING)
    return _cut(bad, offset) if bad else None


def _cut(newest_first: Sequence[Row], offset: int) -> Cut:
    oldest, newest = newest_first[-1], newest_first[0]
    count = claimed_end(newest) - oldest.index
    return Cut(tuple(reversed(newest_first)), lost_row(oldest.index, count, offset))


def claimed_end(row: Row) -> int:
    """Return the index after a damaged row, by its own count if the count is plausible.

    >>> claimed_end(Row(index=5, count=3, offset=0, checksum=0, data=bytes(20)))
    8
    >>> claimed_end(Row(index=5, count=10**6, offset=0, checksum=0, data=bytes(20)))
    6
    """
    # The count may be damaged too; but each record takes 4 bytes of lengths, which bounds the plausible counts.
    plausible = type(row.count) is int and type(row.data) is bytes and 0 < row.count * _LENGTH <= len(row.data)
    return row.index + (row.count if plausible else 1)


def damaged(name: str, index: int, end: int, what: str) -> LogDamaged:
    """Return the error for damage to records ``index`` to ``end - 1`` of the log called ``name``."""
    return LogDamaged(f"{name}: {named(index, end)}: {what}; {ADVICE}")


def named(index: int, end: int) -> str:
    """Return the words for records ``index`` to ``end - 1``.

    >>> named(3, 4), named(3, 6)
    ('record 3', 'records 3 to 5')
    """
    return f"record {index}" if end == index + 1 else f"records {index} to {end - 1}"
