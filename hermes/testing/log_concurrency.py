"""The checks of `check_log` for concurrent and cancelled calls.

Each check is a function of a probe and raises `LogCheckFailed`.

Invariant: a call is cancelled at each of its awaits in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import trio

from hermes.base.errors import StaleWriter
from hermes.store.log import Log
from hermes.testing.log_probe import LogCheckFailed, LogProbe, fail, trim

# Enough for several to wait while a commit runs; they must share the next commit.
APPENDERS = 40
# A bound on the rounds of one call, each of which cancels at another pause.
MOST_PAUSES = 200
# Seconds. 0 cancels at the await itself; after 2 ms the awaited operation is under way in a thread or a server.
CANCEL_DELAYS = (0.0, 0.002)


async def appends_at_the_same_time_stay_whole(probe: LogProbe) -> None:
    """Check that concurrent appends are contiguous, each at its returned index, and that they share commits."""
    check = "appends at the same time"
    # Appends of 1 to 4 records, so that a log which mixes them up cannot be right by chance.
    own = [[b"%d/%d" % (number, n) for n in range(number % 4 + 1)] for number in range(APPENDERS)]
    places: dict[int, int] = {}
    async with probe.opened(check) as log:
        start, before = log.next, log.statistics()

        async def append(number: int) -> None:
            places[number] = await probe.append(check, log, own[number])
            # A read at once: `append` returns only when its records can be read.
            await probe.call(check, "read", log.read(places[number], max_records=1))

        await _together([append(number) for number in range(APPENDERS)])
        for number, index in places.items():
            found = await probe.call(check, "read", log.read(index, max_records=len(own[number])))
            if [record.data for record in found] != own[number]:
                what = f"append() returned {index}, but its records are not there"
                fail(check, what, "the records of one append are contiguous, from the index that it returned on")
        # The order of the appends is the log's choice; only their indexes tell it.
        order = sorted(places, key=places.__getitem__)
        await probe.expect(check, log, start, [record for number in order for record in own[number]])
        after = log.statistics()
        # Differences, because the log may have counted before the check.
        commits, appends = after.commits - before.commits, after.appends - before.appends
        if appends != APPENDERS or not 0 < commits <= appends:
            fail(check, f"statistics() counts {commits} commits, {appends} of {APPENDERS} appends", "count each once")
        # Half as many is a weak claim, so that a slow machine cannot break it.
        if probe.shares_commits and commits > APPENDERS // 2:
            advice = "let what waits share the next commit, or do not claim `shares_commits`"
            fail(check, f"{APPENDERS} of them took {commits} commits", advice)


async def of_writers_that_expect_the_same_index_one_wins(probe: LogProbe) -> None:
    """Check that exactly one of several concurrent appends with the same expected index succeeds."""
    check = "writers at the same index"
    winners: list[int] = []
    async with probe.opened(check) as log:
        start = log.next

        async def append(number: int) -> None:
            try:
                await probe.append(check, log, [b"%d" % number], expected_index=start)
            except StaleWriter:
                return
            winners.append(number)

        await _together([append(number) for number in range(10)])
        if len(winners) != 1:
            fail(check, f"{len(winners)} of 10 were taken", "check the expected index in the order of the appends")
        await probe.expect(check, log, start, [b"%d" % winners[0]])


async def appends_and_reads_go_on_during_a_trim(probe: LogProbe) -> None:
    """Check that concurrent appends, reads and trims do not disturb each other."""
    check = "appends during a trim"
    async with probe.opened(check) as log:
        start = log.next
        for _ in range(20):
            # Records of 1 kB, so that a log with small segments has several to remove.
            await probe.append(check, log, [bytes(1000)] * 10)
        end = log.next

        async def append() -> None:
            for n in range(20):
                await probe.append(check, log, [b"%d" % n])

        async def read() -> None:
            for index in range(start, end, 20):
                found = await probe.call(check, "read", log.read(index))
                if found and found[0].index < index:
                    fail(check, f"read({index}) gave record {found[0].index}", "begin no earlier than is asked for")

        async def advance() -> None:
            for index in range(start, end + 1, 20):
                await trim(probe, check, log, index, index)

        await _together([append(), read(), advance()])
        await probe.expect(check, log, end, [b"%d" % n for n in range(20)])


async def cancelled_appends_are_whole_or_absent(probe: LogProbe) -> None:
    """Check that an append which is cancelled, at any of its awaits, leaves all of its records or none."""
    check = "cancelled appends"
    async with probe.opened(check) as log:
        start = log.next
        expected: list[bytes] = []
        for delay in CANCEL_DELAYS:
            for pause in range(MOST_PAUSES):
                cancel = _CancelAt(pause, delay)
                records = [b"%d/%g/%d" % (pause, delay, n) for n in range(3)]
                # An append that is not cancelled shares the commit with the cancelled one, and must succeed.
                beside = [b"%d/%g" % (pause, delay)]
                await _together(
                    [_append_cancelled(probe, check, log, records, cancel), _append(probe, check, log, beside)]
                )
                found = await probe.read_all(check, log, start + len(expected))
                data = [record.data for record in found]
                # In any order, for both appends wait for the same commit.
                if data not in (records + beside, beside + records, beside):
                    what = f"after an append was cancelled at its await number {pause + 1} there are {data}"
                    fail(check, what, "let all of its records be in the log, in their order, or none")
                # Either outcome is correct, so the check goes on from the records that are there.
                expected += data
                if not cancel.reached:
                    break
        await probe.expect(check, log, start, expected)
    # Once more from the storage: the first answer may have come from memory.
    if probe.keeps:
        async with probe.opened(check) as log:
            await probe.expect(check, log, start, expected)


async def other_cancelled_calls_leave_a_usable_log(probe: LogProbe) -> None:
    """Check that cancelled reads, trims and snapshots, at any await, lose nothing."""
    check = "cancelled calls"
    async with probe.opened(check) as log:
        records = [b"%d" % n for n in range(200)]
        start = await probe.append(check, log, records)
        await trim(probe, check, log, start, start)
        calls: list[tuple[str, Callable[[int], Coroutine[Any, Any, object]]]] = [
            ("read", lambda _pause: log.read(log.first)),
            # Each with another state, so that a stale one shows.
            ("take_snapshot", lambda pause: log.take_snapshot(start, b"%d" % pause)),
            ("trim", lambda _pause: log.trim(log.first + 1)),
        ]
        for verb, call in calls:
            for delay in CANCEL_DELAYS:
                for pause in range(MOST_PAUSES):
                    cancel = _CancelAt(pause, delay)
                    with cancel.scope:
                        await probe.call(check, verb, call(pause), cancel.before_pause)
                    # A cancelled trim may have happened or not, so `first` may move with each round, but no further
                    # than asked.
                    if not start <= log.first <= log.next - len(records) // 4:
                        fail(check, f"first is {log.first} after cancelled calls", "trim to what was asked for")
                    await probe.expect(check, log, log.first, records[log.first - start :])
                    if not cancel.reached:
                        break
        # The log must accept an append after all the cancelled calls.
        index = await probe.append(check, log, [b"end"], expected_index=log.next)
        await trim(probe, check, log, index, index)
        await probe.expect(check, log, index, [b"end"])


class _CancelAt:
    """A scope that is cancelled ``delay`` seconds after pause number ``pause`` of a call, if it gets that far."""

    def __init__(self, pause: int, delay: float) -> None:
        self.scope = trio.CancelScope()
        self.reached = False
        self._pause = pause
        self._delay = delay

    def before_pause(self, number: int) -> None:
        if number == self._pause:
            self.reached = True
            if self._delay:
                self.scope.deadline = trio.current_time() + self._delay
            else:
                self.scope.cancel()


async def _append(probe: LogProbe, check: str, log: Log, records: Sequence[bytes]) -> None:
    await probe.append(check, log, records)


async def _append_cancelled(probe: LogProbe, check: str, log: Log, records: Sequence[bytes], cancel: _CancelAt) -> None:
    with cancel.scope:
        await probe.append(check, log, records, before_pause=cancel.before_pause)


async def _together(calls: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Run calls concurrently; raise the first failure as it is, instead of an exception group."""
    failures: list[LogCheckFailed] = []

    async def run(call: Coroutine[Any, Any, None]) -> None:
        try:
            await call
        except LogCheckFailed as failure:
            failures.append(failure)

    async with trio.open_nursery() as nursery:
        for call in calls:
            nursery.start_soon(run, call)
    if failures:
        raise failures[0]
