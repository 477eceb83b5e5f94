"""The rows of a log read from the bytes of its file, without SQLite: what is left when SQLite refuses the database.

Of SQLite's file format (https://sqlite.org/fileformat2.html) it knows the pages, all of one size that is ours, the
leaves of tables, overflow chains and the write-ahead file. It goes through every page instead of down a tree, so a
damaged page costs its own rows alone. It may find a row twice, or one that was trimmed; what it finds is unchecked.
Invariant: nothing is written, and no content of a file makes it fail. Used by `hermes.log.survey` and
`hermes.log.repair`, whose caller holds the folder's lock.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

from hermes.log.tables import PAGE_BYTES

Value: TypeAlias = int | bytes | None
Columns: TypeAlias = tuple[Value, ...]

_LEAF = 0x0D
_WAL_HEADER = struct.Struct(">IIIIIIII")
_FRAME_HEADER = struct.Struct(">IIIIII")
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}  # bytes of each type of integer

_Broken = (IndexError, struct.error, ValueError)
"""What following the format into damaged bytes ends with."""


class Cell(NamedTuple):
    """Where a row stands: on which page, and where on it."""

    page: int
    offset: int


class Pages:
    """The pages of a database file, with what its write-ahead file has committed laid over them."""

    def __init__(self, database: Path) -> None:
        self._file = database.open("rb")
        self.count = os.fstat(self._file.fileno()).st_size // PAGE_BYTES
        self._overlay: dict[int, bytes] = {}
        wal = Path(f"{database}-wal")
        if wal.exists():
            self._lay_over(wal)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __getitem__(self, number: int) -> bytes:
        """A page, the first of which has number 1. Raises IndexError."""
        page = self._overlay.get(number)
        if page is None:
            if not 1 <= number <= self.count:
                raise IndexError(number)
            page = os.pread(self._file.fileno(), PAGE_BYTES, (number - 1) * PAGE_BYTES)
        if len(page) < PAGE_BYTES:
            raise IndexError(number)
        return page

    def cells(self) -> Iterator[Cell]:
        """Every cell of every page that looks like a leaf of a table."""
        for number in range(1, max(self.count, *self._overlay, 0) + 1):
            try:
                page = self[number]
                start = 100 if number == 1 else 0
                if page[start] == _LEAF:
                    (cells,) = struct.unpack_from(">H", page, start + 3)
                    offsets = struct.unpack_from(f">{cells}H", page, start + 8)
                    yield from (Cell(number, offset) for offset in offsets)
            except _Broken:
                continue

    def read(self, cell: Cell) -> tuple[int, Columns] | None:
        """The row id and the columns of a cell; None if it is no row, or a damaged one."""
        try:
            page = self[cell.page]
            length, place = _varint(page, cell.offset)
            row_id, place = _varint(page, place)
            return row_id, _columns(self._payload(page, place, length))
        except _Broken:
            return None

    def _payload(self, page: bytes, place: int, length: int) -> bytes:
        """``length`` bytes from ``place`` on; those that have no room on the page are on a chain of others."""
        most, least = PAGE_BYTES - 35, (PAGE_BYTES - 12) * 32 // 255 - 23
        local = length
        if length > most:
            local = least + (length - least) % (PAGE_BYTES - 4)
            local = local if local <= most else least
        if place + local > PAGE_BYTES or not 0 <= length <= (self.count + len(self._overlay)) * PAGE_BYTES:
            raise IndexError(place)
        parts = [page[place : place + local]]
        left = length - local
        (follower,) = struct.unpack_from(">I", page, place + local) if left else (0,)
        while left:
            page = self[follower]
            (follower,) = struct.unpack_from(">I", page)
            parts.append(page[4 : 4 + left])
            left -= len(parts[-1])
        return b"".join(parts)

    def _lay_over(self, wal: Path) -> None:
        """Take the pages that a write-ahead file has committed: all up to its first frame that is wrong."""
        with wal.open("rb") as file:
            header = file.read(_WAL_HEADER.size)
            if len(header) < _WAL_HEADER.size:
                return
            magic, _, size, _, *salts_and_sums = _WAL_HEADER.unpack(header)
            if magic not in (0x377F0682, 0x377F0683) or size != PAGE_BYTES:
                return
            order = ">" if magic & 1 else "<"
            salts, sums = salts_and_sums[:2], (salts_and_sums[2], salts_and_sums[3])
            if _checksum(order, header[:24], (0, 0)) != sums:
                return
            uncommitted: dict[int, bytes] = {}
            while len(frame := file.read(_FRAME_HEADER.size + PAGE_BYTES)) == _FRAME_HEADER.size + PAGE_BYTES:
                number, committed_pages, *frame_salts_and_sums = _FRAME_HEADER.unpack_from(frame)
                page = frame[_FRAME_HEADER.size :]
                sums = _checksum(order, page, _checksum(order, frame[:8], sums))
                if frame_salts_and_sums != [*salts, *sums]:
                    return
                uncommitted[number] = page
                if committed_pages:
                    self._overlay |= uncommitted
                    uncommitted.clear()


def _checksum(order: str, data: bytes, sums: tuple[int, int]) -> tuple[int, int]:
    """The running checksum of a write-ahead file."""
    one, other = sums
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for even, odd in zip(words, words, strict=True):
        one = (one + even + other) & 0xFFFFFFFF
        other = (other + odd + one) & 0xFFFFFFFF
    return one, other


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """A number of one to nine bytes, and the place after it."""
    value = 0
    for byte in data[place : place + 8]:
        place += 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place
    return _signed(value << 8 | data[place]), place + 1


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _columns(payload: bytes) -> Columns:
    """The values of a record: NULLs, integers and blobs. Raises ValueError for others, for no table of ours has any."""
    end, place = _varint(payload, 0)
    types = []
    while place < end:
        kind, place = _varint(payload, place)
        types.append(kind)
    values: list[Value] = []
    for kind in types:
        if kind == 0:
            values.append(None)
        elif kind in (8, 9):
            values.append(kind - 8)
        elif kind in _INTEGERS:
            values.append(int.from_bytes(payload[place : place + _INTEGERS[kind]], "big", signed=True))
            place += _INTEGERS[kind]
        elif kind >= 12 and kind % 2 == 0:
            values.append(payload[place : place + (kind - 12) // 2])
            place += (kind - 12) // 2
        else:
            raise ValueError(kind)
    if place != len(payload):
        raise ValueError(place)
    return tuple(values)
