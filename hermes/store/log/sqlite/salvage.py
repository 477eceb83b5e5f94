"""Reads the rows of an sqlite log from the bytes of its file, without SQLite, for a database that SQLite refuses.

The module knows these parts of SQLite's file format (https://sqlite.org/fileformat2.html): pages of the log's own size,
leaves of tables, overflow chains and the write-ahead file. It may find a row twice, or a trimmed row; the rows are
unchecked.
Invariant: the module writes nothing, and no content of a file makes it fail. The caller holds the folder's lock.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

from hermes.store.log.sqlite.tables import PAGE_BYTES

Value: TypeAlias = int | bytes | None
Columns: TypeAlias = tuple[Value, ...]

_LEAF = 0x0D  # the type byte of a leaf of a table, as opposed to an index or an inner page
_WAL_HEADER = struct.Struct(">IIIIIIII")
_FRAME_HEADER = struct.Struct(">IIIIII")
# The serial types of the record format, section 2.1 of the file format.
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}  # bytes of each type of integer

_Broken = (IndexError, struct.error, ValueError)
"""The errors that damaged bytes raise in the code below."""


class Cell(NamedTuple):
    """The place of a row: the number of its page, and the offset in the page."""

    page: int
    offset: int


class Pages:
    """The pages of a database file, each in the version that the write-ahead file has committed last.

    ::

        with closing(Pages(database)) as pages:
            rows = [pages.read(cell) for cell in pages.cells()]
    """

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
        """Return a page; the first has number 1. Raises IndexError if there is no whole page."""
        page = self._overlay.get(number)
        if page is None:
            if not 1 <= number <= self.count:
                raise IndexError(number)
            page = os.pread(self._file.fileno(), PAGE_BYTES, (number - 1) * PAGE_BYTES)
        if len(page) < PAGE_BYTES:
            raise IndexError(number)
        return page

    def cells(self) -> Iterator[Cell]:
        """Yield every cell of every page that looks like a leaf of a table."""
        # Every page, without descending a tree: a damaged page costs only its own rows. Pages that were added last may
        # be in the write-ahead file alone.
        for number in range(1, max(self.count, *self._overlay, 0) + 1):
            try:
                page = self[number]
                # The header of the file takes the first 100 bytes of the first page.
                start = 100 if number == 1 else 0
                if page[start] == _LEAF:
                    (cells,) = struct.unpack_from(">H", page, start + 3)
                    offsets = struct.unpack_from(f">{cells}H", page, start + 8)
                    yield from (Cell(number, offset) for offset in offsets)
            except _Broken:
                # No content of a page ends the search: the other pages may be good.
                continue

    def read(self, cell: Cell) -> tuple[int, Columns] | None:
        """Return the row id and the columns of a cell; None if the cell is no row or is damaged."""
        try:
            page = self[cell.page]
            length, place = _varint(page, cell.offset)
            row_id, place = _varint(page, place)
            return row_id, _columns(self._payload(page, place, length))
        except _Broken:
            return None

    def _payload(self, page: bytes, place: int, length: int) -> bytes:
        """Return ``length`` bytes from ``place`` on; a chain of overflow pages holds the bytes beyond the page."""
        # The limits X and M, and the share K that stays on the page, of the file format's section 1.6.
        most, least = PAGE_BYTES - 35, (PAGE_BYTES - 12) * 32 // 255 - 23
        local = length
        if length > most:
            local = least + (length - least) % (PAGE_BYTES - 4)
            local = local if local <= most else least
        # A damaged length may name gigabytes: no row is larger than the file.
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
        """Take the committed pages of a write-ahead file, up to its first invalid frame."""
        with wal.open("rb") as file:
            header = file.read(_WAL_HEADER.size)
            if len(header) < _WAL_HEADER.size:
                return
            magic, _, size, _, *salts_and_sums = _WAL_HEADER.unpack(header)
            if magic not in (0x377F0682, 0x377F0683) or size != PAGE_BYTES:
                return
            # The low bit of the magic number tells the byte order of the checksums.
            order = ">" if magic & 1 else "<"
            salts, sums = salts_and_sums[:2], (salts_and_sums[2], salts_and_sums[3])
            if _checksum(order, header[:24], (0, 0)) != sums:
                return
            uncommitted: dict[int, bytes] = {}
            # SQLite too believes a write-ahead file only up to its first invalid frame.
            while len(frame := file.read(_FRAME_HEADER.size + PAGE_BYTES)) == _FRAME_HEADER.size + PAGE_BYTES:
                number, committed_pages, *frame_salts_and_sums = _FRAME_HEADER.unpack_from(frame)
                page = frame[_FRAME_HEADER.size :]
                sums = _checksum(order, page, _checksum(order, frame[:8], sums))
                # Other salts: a frame of an earlier round of the file, which a checkpoint has already copied.
                if frame_salts_and_sums != [*salts, *sums]:
                    return
                uncommitted[number] = page
                # Not 0 only in the last frame of a transaction.
                if committed_pages:
                    self._overlay |= uncommitted
                    uncommitted.clear()


def _checksum(order: str, data: bytes, sums: tuple[int, int]) -> tuple[int, int]:
    """Return the running checksum of a write-ahead file after ``data``."""
    one, other = sums
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for even, odd in zip(words, words, strict=True):
        one = (one + even + other) & 0xFFFFFFFF
        other = (other + odd + one) & 0xFFFFFFFF
    return one, other


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """Return the number of one to nine bytes at ``place``, and the place after the number."""
    value = 0
    for byte in data[place : place + 8]:
        place += 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place
    # The ninth byte counts with all of its eight bits, and makes the number one of 64 bits.
    return _signed(value << 8 | data[place]), place + 1


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _columns(payload: bytes) -> Columns:
    """Return the values of a record: NULLs, integers and blobs. Raises ValueError for any other type."""
    end, place = _varint(payload, 0)
    types = []
    while place < end:
        kind, place = _varint(payload, place)
        types.append(kind)
    # The log's tables have no text and no floating-point number, so such a type means damage.
    values: list[Value] = []
    for kind in types:
        if kind == 0:
            values.append(None)
        elif kind in (8, 9):  # the integers 0 and 1, which take no bytes
            values.append(kind - 8)
        elif kind in _INTEGERS:
            values.append(int.from_bytes(payload[place : place + _INTEGERS[kind]], "big", signed=True))
            place += _INTEGERS[kind]
        elif kind >= 12 and kind % 2 == 0:  # a blob; odd types are text
            values.append(payload[place : place + (kind - 12) // 2])
            place += (kind - 12) // 2
        else:
            raise ValueError(kind)
    # A good record ends where its header says: anything else is no row of the log.
    if place != len(payload):
        raise ValueError(place)
    return tuple(values)
