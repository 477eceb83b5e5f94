"""The log in memory: its bound, and what it says of itself."""

from __future__ import annotations

import pytest

from hermes.base.errors import LogFull, StaleWriter
from hermes.store.log import LogStatistics, Record, Snapshot
from hermes.store.log.memory import MemoryLog, open_memory_log


async def test_it_is_bounded_in_bytes_and_goes_on_when_there_is_room() -> None:
    log = MemoryLog(max_bytes=10)
    await log.append([b"12345", b"67890"])
    with pytest.raises(LogFull, match="10 of 10 bytes of memory are in use"):
        await log.append([b"x"])
    assert log.statistics() == LogStatistics(0, 2, 10, appends=1, commits=1, failed_commits=1)
    await log.trim(1)
    assert await log.append([b"x"]) == 2
    assert await log.read(0) == [Record(1, b"67890"), Record(2, b"x")]


async def test_a_stale_writer_is_told_where_the_log_stands() -> None:
    async with open_memory_log() as log:
        await log.append([b"a", b"b"], expected_index=0)
        with pytest.raises(StaleWriter) as caught:
            await log.append([b"c"], expected_index=1)
        assert caught.value.next_index == 2
        assert log.next == 2


async def test_each_opening_begins_anew() -> None:
    async with open_memory_log() as log:
        await log.append([b"a"])
        await log.take_snapshot(1, b"state")
        assert log.snapshot == Snapshot(1, b"state")
    async with open_memory_log() as log:
        assert (log.next, log.snapshot) == (0, None)
