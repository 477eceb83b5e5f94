"""Calls a log and watches the calls: each is bounded in time, and a fault is reported in plain words.

Invariant: every fault of a log leaves this module as a `LogCheckFailed` that says what to do, except an exception that
opening the log raises itself.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import trio

from hermes.base.errors import LogUnavailable, StaleWriter
from hermes.store.log import Log, Record
from hermes.testing.opening import opened_within
from hermes.testing.stepping import Watch

OpenLog = Callable[[], AbstractAsyncContextManager[Log]]
BeforePause = Callable[[int], None]
ResultT = TypeVar("ResultT")

# Seconds between two awaits of a call. Far more than any log needs, so that a slow machine does not fail a good log.
LONGEST_STEP = 1.0


class LogCheckFailed(AssertionError):
    """A log breaks the contract; the message names the broken promise and the remedy."""


def fail(check: str, what: str, advice: str) -> NoReturn:
    """Raise `LogCheckFailed` with the finding and the advice."""
    raise LogCheckFailed(f"{check}: {what}. {advice[0].upper()}{advice[1:]}.")


def watch_nothing(_number: int) -> None:
    """Do nothing before a pause."""


@dataclass(frozen=True)
class LogProbe:
    """One log, its storage and its claims; the fields are the parameters of `check_log`."""

    open_log: OpenLog
    keeps: bool
    shares_commits: bool
    largest_record: int
    timeout: float

    def opened(self, check: str) -> AbstractAsyncContextManager[Log]:
        """Open the log for a block; opening and closing may each take ``timeout``."""

        def tell(words: str) -> None:
            fail(check, words, "bound what it waits for")

        return opened_within(self.timeout, self.open_log, tell)

    async def call(
        self, check: str, verb: str, call: Coroutine[Any, Any, ResultT], before_pause: BeforePause = watch_nothing
    ) -> ResultT:
        """Await one call of a method under watch. Lets `hermes.StaleWriter` and ValueError pass."""
        watch = Watch(before_pause)
        results: list[ResultT] = []

        # `Watch` runs a coroutine without a result, so the result is kept aside.
        async def keep() -> None:
            results.append(await call)

        with trio.CancelScope(deadline=trio.current_time() + self.timeout) as bound:
            try:
                await watch.run(keep())
            # Both are correct answers to some arguments; the check decides.
            except (StaleWriter, ValueError):
                raise
            except LogUnavailable as error:
                # The check runs against a working storage, so there is no reason for a retry.
                fail(check, f"{verb}() said unavailable: {error}", "it must succeed while the storage works")
            except Exception as error:
                raise LogCheckFailed(
                    f"{check}: {verb}() let {type(error).__name__} escape: {error}. Turn what may pass into "
                    "LogUnavailable, what the operator has to mend into LogDamaged."
                ) from error
        if bound.cancelled_caught:
            fail(check, f"{verb}() took longer than {self.timeout:g} s", "bound what it waits for")
        # A call without an await keeps every other task of the service waiting when it is called in a loop.
        if not watch.pauses:
            fail(check, f"{verb}() never let another task run", "await something: trio.lowlevel.checkpoint() at least")
        if watch.longest > LONGEST_STEP:
            advice = "run blocking calls in trio.to_thread.run_sync, and await between slices of long computations"
            fail(check, f"{verb}() kept every other task waiting for {watch.longest:.1f} s", advice)
        return results[0]

    async def append(
        self,
        check: str,
        log: Log,
        records: Sequence[bytes],
        expected_index: int | None = None,
        before_pause: BeforePause = watch_nothing,
    ) -> int:
        """Append records that the log must take; return the index of the first."""
        call = log.append(records, expected_index=expected_index)
        index = await self.call(check, "append", call, before_pause)
        # An author may forget to return the index; the comparison below would raise TypeError then.
        if type(index) is not int:
            fail(check, f"append() returned {index!r}", "return the index of the first record")
        # Not equality: another task may have appended since.
        if log.next < index + len(records):
            advice = "move `next` when the records are durable, before append() returns"
            fail(check, f"append() returned {index} for {len(records)} records, but next is {log.next}", advice)
        return index

    async def read_all(self, check: str, log: Log, from_index: int) -> list[Record]:
        """Return every record from ``from_index`` to the present end, in as many reads as needed."""
        records: list[Record] = []
        # The end is fixed before the first read, or concurrent appends would keep the loop going.
        start, end = max(from_index, log.first), log.next
        while start < end:
            part = await self.call(check, "read", log.read(start))
            if not part:
                fail(
                    check, f"read({start}) found nothing, but next is {end}", "read one record at least if there is any"
                )
            records += part
            start = part[-1].index + 1
        return records

    async def expect(self, check: str, log: Log, from_index: int, expected: Sequence[bytes]) -> None:
        """Check that exactly these records stand from ``from_index`` to the end, without a gap."""
        records = await self.read_all(check, log, from_index)
        indexes = [record.index for record in records]
        if indexes != list(range(from_index, from_index + len(expected))):
            what = f"records {_brief(indexes)} are there, not {from_index} to {from_index + len(expected) - 1}"
            fail(check, what, "indexes have no gap, and a record that was appended is never missing")
        for record, data in zip(records, expected, strict=True):
            # A memoryview or a bytearray equals bytes, but may change after the read.
            if type(record.data) is not bytes or record.data != data:
                advice = "store the bytes as they are"
                fail(check, f"record {record.index} came back as {record.data[:50]!r} instead of {data[:50]!r}", advice)


async def trim(probe: LogProbe, check: str, log: Log, to_index: int, first: int) -> None:
    """Trim, and check that the log begins at ``first`` afterwards."""
    await probe.call(check, "trim", log.trim(to_index))
    if log.first != first:
        fail(check, f"first is {log.first} after trim({to_index}), not {first}", "move `first`, and never back")
    agree(check, log)


def agree(check: str, log: Log) -> None:
    """Check that a log and its statistics agree."""
    # Not isinstance, for which a bool is an int.
    if not (type(log.first) is int and type(log.next) is int and 0 <= log.first <= log.next):
        fail(check, f"first is {log.first!r} and next is {log.next!r}", "they are ints, and 0 <= first <= next")
    # The metrics read the statistics, and the engine reads the log; both must tell the same.
    numbers = log.statistics()
    if (numbers.first, numbers.next) != (log.first, log.next):
        fail(check, f"{numbers} where first is {log.first} and next is {log.next}", "let statistics() say the same")


def _brief(indexes: Sequence[int]) -> str:
    return f"{list(indexes)}" if len(indexes) < 10 else f"{list(indexes[:5])}…{indexes[-1]} ({len(indexes)} of them)"
