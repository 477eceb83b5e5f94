"""Keeps a log in memory: for DURABILITY=memory, and for tests.

Invariant: keeps every promise of `hermes.store.log.contract`, within a bound in bytes; its records end with the
process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import islice

import trio

from hermes.base.errors import LogFull, StaleWriter
from hermes.store.log.contract import LogStatistics, Record, Snapshot
from hermes.store.log.rows import check_records


class MemoryLog:
    """A log of at most ``max_bytes`` of records; an append beyond them raises `hermes.LogFull`.

    ::

        async with open_memory_log(max_bytes=2**20) as log:
            assert await log.append([b"one", b"two"]) == 0
            assert [record.data for record in await log.read(1)] == [b"two"]
    """

    def __init__(self, max_bytes: int = 256 * 2**20) -> None:
        self.first = 0
        self.next = 0
        self.snapshot: Snapshot | None = None
        self._max_bytes = max_bytes
        self._records: deque[bytes] = deque()
        self._bytes = 0
        self._appends = 0
        self._refused = 0

    async def append(self, records: Sequence[bytes], *, expected_index: int | None = None) -> int:
        """Append records; return the index of the first."""
        size = check_records(records)
        # No await from here on: another append must not come between the check and the change.
        await trio.lowlevel.checkpoint()
        if expected_index not in (None, self.next):
            raise StaleWriter(expected_index, self.next)
        if self._bytes + size > self._max_bytes:
            self._refused += 1
            raise LogFull(f"{self._bytes} of {self._max_bytes} bytes of memory are in use")
        index = self.next
        self._records.extend(records)
        self._bytes += size
        self.next += len(records)
        self._appends += 1
        return index

    async def read(self, from_index: int, *, max_records: int = 1000, max_bytes: int = 8 * 2**20) -> list[Record]:
        """Return records from ``from_index`` on, within the limits but at least one."""
        await trio.lowlevel.checkpoint()
        start = max(from_index, self.first)
        records: list[Record] = []
        size = 0
        for data in islice(self._records, start - self.first, None):
            size += len(data)
            # The first record goes out however large it is: an empty list would mean that there is no record.
            if records and (size > max_bytes or len(records) >= max_records):
                break
            records.append(Record(start + len(records), data))
        return records

    async def trim(self, to_index: int) -> None:
        """Forget the records below ``to_index``."""
        await trio.lowlevel.checkpoint()
        # Also after a call with an index beyond the end: that means the end.
        while self.first < min(to_index, self.next):
            self._bytes -= len(self._records.popleft())
            self.first += 1

    async def take_snapshot(self, index: int, state: bytes) -> None:
        """Keep ``state`` in the place of the last snapshot."""
        await trio.lowlevel.checkpoint()
        self.snapshot = Snapshot(index, state)

    async def count_unowned(self) -> int:
        """Return 0: this log has no storage that others could share."""
        await trio.lowlevel.checkpoint()
        return 0

    def statistics(self) -> LogStatistics:
        """The extent and the counts of the log."""
        # Each append counts as a commit of its own: nothing is written that several could share.
        return LogStatistics(self.first, self.next, self._bytes, self._appends, self._appends, self._refused)


@asynccontextmanager
async def open_memory_log(max_bytes: int = 256 * 2**20) -> AsyncIterator[MemoryLog]:
    """Yield an empty log in memory; its records are gone at the end of the block.

    ::

        async with open_memory_log(max_bytes=2**20) as log:
            await log.append([b"one"])
    """
    # A context manager like every other opening, though there is nothing to close: callers need not know the engine.
    yield MemoryLog(max_bytes)
