"""The simulated log: the contract of `hermes.log` on the simulated disk, with the rows and the cuts of the real one.

Commits are shared by the real engine's code too; a commit that has begun goes on when its caller is cancelled, as one
on a thread does. Invariants are the contract's. Opened for one life of the service.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Awaitable, Sequence

import trio

from hermes.errors import LogFull, LogUnavailable
from hermes.log import LogStatistics, Record, Snapshot
from hermes.log.group import GroupCommit
from hermes.log.rows import Row, check_records, decode_row, encode_rows, examine, size_of_first
from tests.simulation.disk import Mount

ROWS = "log"
META = "log-meta"
_FIRST, _SNAPSHOT = 0, 1

_ROW = struct.Struct("<QQI")
_INDEX = struct.Struct("<Q")
_PLACE = struct.Struct("<QQ")  # an index, and the offset there


class SimulatedLog:
    """The log on a mounted disk, which `open` has to read first. ``cut`` counts the rows that this has cut off."""

    def __init__(self, mount: Mount) -> None:
        self.first = 0
        self.snapshot: Snapshot | None = None
        self.cut = 0
        self._mount = mount
        self._first_offset = 0
        self._rows: list[Row] = []
        self._group = GroupCommit(0, self._commit)

    async def open(self) -> None:
        """Read what the disk has, and cut a torn end away. Raises `hermes.LogUnavailable`, `hermes.LogDamaged`."""
        await self._do(self._mount.read())
        meta = self._mount.rows(META)
        if _FIRST in meta:
            self.first, self._first_offset = _PLACE.unpack(meta[_FIRST])
        if _SNAPSHOT in meta:
            self.snapshot = Snapshot(_INDEX.unpack_from(meta[_SNAPSHOT])[0], meta[_SNAPSHOT][_INDEX.size :])
        stored = [_read_row(index, data) for index, data in sorted(self._mount.rows(ROWS).items())]
        rows = [row for row in stored if row.index >= self.first or row.end > self.first]
        cut = examine(reversed(rows), self.first, self._first_offset, "the simulated log")
        if cut is not None:
            self.cut = len(cut.rows)
            for row in cut.rows:
                self._mount.write(ROWS, row.index, None)
            self._write(cut.lost)
            await self._do(self._mount.sync(ROWS))
            rows[-len(cut.rows) :] = [cut.lost]
        self._rows = rows
        self._group = GroupCommit(self._rows[-1].end if self._rows else self.first, self._commit)

    @property
    def next(self) -> int:
        return self._group.next

    async def append(self, records: Sequence[bytes], *, expected_index: int | None = None) -> int:
        check_records(records)
        return await self._group.append(records, expected_index)

    async def read(self, from_index: int, *, max_records: int = 1000, max_bytes: int = 8 * 2**20) -> list[Record]:
        await self._do(self._mount.read())
        found: list[Record] = []
        size = 0
        for row in self._rows:
            if row.end <= from_index:
                continue
            for index, data in enumerate(decode_row(row), row.index):
                if index < max(from_index, self.first):
                    continue
                size += len(data)
                if found and (len(found) >= max_records or size > max_bytes):
                    return found
                found.append(Record(index, data))
        return found

    async def trim(self, to_index: int) -> None:
        first = max(self.first, min(to_index, self.next))
        offset = self._offset_at(first)
        self._mount.write(META, _FIRST, _PLACE.pack(first, offset), whole=True)
        await self._do(self._mount.sync(META))
        self.first, self._first_offset = first, offset
        # Rows are deleted after they are said to be gone: a crash between the two leaves rows that nobody reads.
        for row in self._rows:
            if row.end <= first:
                self._mount.write(ROWS, row.index, None)
        self._rows = [row for row in self._rows if row.end > first]

    async def take_snapshot(self, index: int, state: bytes) -> None:
        self._mount.write(META, _SNAPSHOT, _INDEX.pack(index) + state, whole=True)
        await self._do(self._mount.sync(META))
        self.snapshot = Snapshot(index, state)

    async def count_unowned(self) -> int:
        """None: whoever has the log has all of the storage."""
        await trio.lowlevel.checkpoint()
        return 0

    def statistics(self) -> LogStatistics:
        kept = self._end_offset - self._first_offset
        group = self._group
        return LogStatistics(self.first, self.next, kept, group.appends, group.commits, group.failed_commits)

    async def _commit(self, index: int, records: list[bytes]) -> None:
        rows = list(encode_rows(index, self._end_offset, records))
        await trio.lowlevel.checkpoint_if_cancelled()
        for row in rows:
            self._write(row)
        with trio.CancelScope(shield=True):
            await self._do(self._mount.sync(ROWS))
        self._rows += rows

    def _write(self, row: Row) -> None:
        self._mount.write(ROWS, row.index, _ROW.pack(row.count, row.offset, row.checksum) + row.data)

    @property
    def _end_offset(self) -> int:
        return self._rows[-1].end_offset if self._rows else self._first_offset

    def _offset_at(self, index: int) -> int:
        for row in self._rows:
            if row.index <= index < row.end:
                return row.offset + size_of_first(index - row.index, row.data)
        return self._end_offset

    async def _do(self, operation: Awaitable[None]) -> None:
        try:
            await operation
        except OSError as error:
            raise (LogFull if error.errno == errno.ENOSPC else LogUnavailable)(str(error)) from error


def _read_row(index: int, data: bytes) -> Row:
    """A row of the disk; one that was torn within its numbers has none that fit."""
    if len(data) < _ROW.size:
        return Row(index, 0, 0, 0, data)
    count, offset, checksum = _ROW.unpack_from(data)
    return Row(index, count, offset, checksum, data[_ROW.size :])
