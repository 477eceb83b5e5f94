"""The conformance suite for logs itself: each way of breaking the contract is told in words."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from hermes.base.errors import LogDamaged, LogFull, StaleWriter
from hermes.store.log import LogStatistics, Record, Snapshot
from hermes.store.log.memory import MemoryLog
from hermes.testing import LogCheckFailed, check_log


async def check(kind: type[MemoryLog], **claims: bool) -> None:
    """Check a log in memory whose storage is itself: opening it again goes on with the same one."""
    log = kind()

    @asynccontextmanager
    async def open_log() -> AsyncIterator[MemoryLog]:
        yield log

    await check_log(open_log, shares_commits=False, timeout=5, **claims)


async def test_a_faultless_log_passes(autojump_clock: MockClock) -> None:
    await check(MemoryLog)


async def test_a_log_that_begins_elsewhere_passes(autojump_clock: MockClock) -> None:
    class Used(MemoryLog):
        def __init__(self) -> None:
            super().__init__()
            self.first = self.next = 1000

    await check(Used)


class LosesEmptyRecords(MemoryLog):
    async def append(self, records: Sequence[bytes], *, expected_index: int | None = None) -> int:
        return await super().append([data for data in records if data] or records, expected_index=expected_index)


class Strips(MemoryLog):
    async def append(self, records: Sequence[bytes], *, expected_index: int | None = None) -> int:
        return await super().append([data.rstrip(b"\n") for data in records], expected_index=expected_index)


class AnswersTooEarly(MemoryLog):
    async def append(self, records: Sequence[bytes], *, expected_index: int | None = None) -> int:
        await super().append(records[:-1] or records, expected_index=expected_index)
        return self.next - 1


class NeverStale(MemoryLog):
    async def append(self, records: Sequence[bytes], *, expected_index: int | None = None) -> int:
        return await super().append(records)


class StaleWithoutPlace(MemoryLog):
    async def append(self, records: Sequence[bytes], *, expected_index: int | None = None) -> int:
        try:
            return await super().append(records, expected_index=expected_index)
        except StaleWriter:
            raise StaleWriter(expected_index or 0, 0) from None


class TakesNothing(MemoryLog):
    async def append(self, records: Sequence[bytes], *, expected_index: int | None = None) -> int:
        return await super().append(records, expected_index=expected_index) if records else self.next


class ChecksTooEarly(MemoryLog):
    async def append(self, records: Sequence[bytes], *, expected_index: int | None = None) -> int:
        if expected_index not in (None, self.next):
            raise StaleWriter(expected_index, self.next)
        await trio.lowlevel.checkpoint()
        return await super().append(records)


class Interleaves(MemoryLog):
    async def append(self, records: Sequence[bytes], *, expected_index: int | None = None) -> int:
        index = await super().append(records[:1], expected_index=expected_index)
        for data in records[1:]:
            await super().append([data])
        return index


class CountsTwice(MemoryLog):
    def statistics(self) -> LogStatistics:
        numbers = super().statistics()
        return replace(numbers, appends=2 * numbers.appends)


class Disagrees(MemoryLog):
    def statistics(self) -> LogStatistics:
        return replace(super().statistics(), first=0)


class ReadsTooMuch(MemoryLog):
    async def read(self, from_index: int, *, max_records: int = 1000, max_bytes: int = 8 * 2**20) -> list[Record]:
        return await super().read(from_index, max_records=max_records)


class ReadsNothingLarge(MemoryLog):
    async def read(self, from_index: int, *, max_records: int = 1000, max_bytes: int = 8 * 2**20) -> list[Record]:
        records = await super().read(from_index, max_records=max_records, max_bytes=max_bytes)
        return records if sum(len(record.data) for record in records) <= max_bytes else []


class ReadsNothingBelowTheFirst(MemoryLog):
    async def read(self, from_index: int, *, max_records: int = 1000, max_bytes: int = 8 * 2**20) -> list[Record]:
        records = await super().read(from_index, max_records=max_records, max_bytes=max_bytes)
        return records if from_index >= self.first else []


class TrimsBackwards(MemoryLog):
    async def trim(self, to_index: int) -> None:
        await super().trim(to_index)
        self.first = min(to_index, self.next)


class TrimsTooLittle(MemoryLog):
    async def trim(self, to_index: int) -> None:
        await super().trim(to_index - to_index % 2)


class KeepsTheFirstSnapshot(MemoryLog):
    async def take_snapshot(self, index: int, state: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.snapshot = self.snapshot or Snapshot(index, state)


class AppendsHalfOfWhatIsCancelled(MemoryLog):
    async def append(self, records: Sequence[bytes], *, expected_index: int | None = None) -> int:
        try:
            return await super().append(records, expected_index=expected_index)
        except trio.Cancelled:
            self._records.append(records[0])
            self.next += 1
            raise


class NeverAnswers(MemoryLog):
    async def read(self, from_index: int, *, max_records: int = 1000, max_bytes: int = 8 * 2**20) -> list[Record]:
        await trio.sleep_forever()


class Blocks(MemoryLog):
    async def trim(self, to_index: int) -> None:
        time.sleep(1.1)  # noqa: ASYNC251 - what is wrong with it
        await super().trim(to_index)


class NeverPauses(MemoryLog):
    async def take_snapshot(self, index: int, state: bytes) -> None:
        self.snapshot = Snapshot(index, state)


class SaysFull(MemoryLog):
    def __init__(self) -> None:
        super().__init__(max_bytes=100)


class Crashes(MemoryLog):
    async def read(self, from_index: int, *, max_records: int = 1000, max_bytes: int = 8 * 2**20) -> list[Record]:
        raise LogDamaged("record 5: the checksum does not fit")


class NumbersAreText(MemoryLog):
    def __init__(self) -> None:
        super().__init__()
        self.first = "0"  # type: ignore[assignment]


class SnapshotIsBytes(MemoryLog):
    def __init__(self) -> None:
        super().__init__()
        self.snapshot = b""  # type: ignore[assignment]


BROKEN: list[tuple[type[MemoryLog], str]] = [
    (NumbersAreText, r"^attributes: first is '0' .* They are ints"),
    (SnapshotIsBytes, r"^attributes: snapshot is b''. It is a Snapshot, or None"),
    (LosesEmptyRecords, r"^order: append\(\) returned 1 for 10 records, but next is 9. Move `next`"),
    (Strips, r"^order: record 3 came back as b'' instead of b'\\n'. Store the bytes as they are.$"),
    (AnswersTooEarly, r"^order: append\(\) returned .* but next is"),
    (ReadsTooMuch, r"^limits of a read: read\(0, {'max_bytes': 60}\) of 8 records .* Give 3 from 0 on"),
    (ReadsNothingLarge, r"^limits of a read: read\(0, {'max_bytes': 1}\)"),
    (TakesNothing, r"^an append of nothing: it was taken. Raise ValueError"),
    (NeverStale, r"^stale writers: an append at \d+ was taken where next is \d+. Raise StaleWriter"),
    (StaleWithoutPlace, r"^stale writers: StaleWriter.next_index is 0 where next is \d+. Say where"),
    (ChecksTooEarly, r"^writers at the same index: \d+ of 10 were taken. Check the expected index in the order"),
    (Interleaves, r"^appends at the same time: .* The records of one append are contiguous"),
    (CountsTwice, r"^appends at the same time: statistics\(\) counts .* Count each once"),
    (Disagrees, r"^trim: .* Let statistics\(\) say the same"),
    (ReadsNothingBelowTheFirst, r"^trim: read\(\d+\) gave \[\] after a trim to \d+. Give the oldest record"),
    (TrimsBackwards, r"^trim: first is \d+ after trim\(\d+\), not \d+. Move `first`, and never back"),
    (TrimsTooLittle, r"^trim: first is \d+ after trim\(\d+\), not \d+. Move `first`"),
    (KeepsTheFirstSnapshot, r"^snapshots: after take_snapshot\(\) snapshot is at \d+, b'first'. Let it be the last"),
    (AppendsHalfOfWhatIsCancelled, r"^cancelled appends: after an append was cancelled at its await number 1 "),
    (NeverAnswers, r"read\(\) took longer than 5 s. Bound what it waits for.$"),
    (Blocks, r"trim\(\) kept every other task waiting for 1.1 s. Run blocking calls in trio.to_thread"),
    (NeverPauses, r"^snapshots: take_snapshot\(\) never let another task run. Await something"),
    (SaysFull, r"append\(\) said unavailable: .* bytes of memory are in use. It must succeed while"),
    (Crashes, r"read\(\) let LogDamaged escape: record 5: .* Turn what may pass into LogUnavailable"),
]


@pytest.mark.parametrize(("kind", "words"), BROKEN, ids=lambda case: getattr(case, "__name__", ""))
async def test_a_broken_log_is_told_what_is_wrong(kind: type[MemoryLog], words: str, autojump_clock: MockClock) -> None:
    with pytest.raises(LogCheckFailed, match=words):
        await check(kind)


# What a log claims


async def test_a_log_that_forgets_may_not_claim_to_keep(autojump_clock: MockClock) -> None:
    @asynccontextmanager
    async def open_log() -> AsyncIterator[MemoryLog]:
        yield MemoryLog()

    await check_log(open_log, keeps=False, shares_commits=False)
    with pytest.raises(LogCheckFailed, match=r"^trim: first is 0 instead of \d+ when it is opened again"):
        await check_log(open_log, shares_commits=False)


async def test_a_log_that_commits_each_append_may_not_claim_to_share(autojump_clock: MockClock) -> None:
    log = MemoryLog()

    @asynccontextmanager
    async def open_log() -> AsyncIterator[MemoryLog]:
        yield log

    with pytest.raises(LogCheckFailed, match=r"40 of them took 40 commits. Let what waits share the next commit"):
        await check_log(open_log)


# Opening and closing


async def test_a_log_that_takes_forever_to_close_is_told_so(autojump_clock: MockClock) -> None:
    log = MemoryLog()

    @asynccontextmanager
    async def open_log() -> AsyncIterator[MemoryLog]:
        yield log
        await trio.sleep_forever()

    with pytest.raises(LogCheckFailed, match=r"closing took longer than 3 s. Bound what it waits for"):
        await check_log(open_log, timeout=3)


async def test_a_log_that_swallows_an_exception_is_told_so(autojump_clock: MockClock) -> None:
    class Swallowing:
        def __init__(self, log: MemoryLog) -> None:
            self._log = log

        async def __aenter__(self) -> MemoryLog:
            return self._log

        async def __aexit__(self, *_: object) -> bool:
            return True

    log = MemoryLog()
    with pytest.raises(LogCheckFailed, match="an exception raised inside `async with` was swallowed"):
        await check_log(lambda: Swallowing(log), shares_commits=False)


async def test_what_opening_raises_passes_through() -> None:
    @asynccontextmanager
    async def open_log() -> AsyncIterator[MemoryLog]:
        raise LogFull("no room")
        yield MemoryLog()

    with pytest.raises(LogFull, match="no room"):
        await check_log(open_log)
