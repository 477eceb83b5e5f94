"""The export of spans on the virtual clock: when they are sent, tried again, given up; every one has its outcome."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import structlog
import trio
from trio.testing import MockClock

from hermes.traces.export import ATTEMPTS, INTERVAL, MOST_AT_ONCE, MOST_BUFFERED, NotExported, SpanExport
from hermes.traces.span_metrics import TraceMetrics


class Receiver:
    """Follows a script, one outcome a request, and takes everything when it is over: a number is spans refused."""

    def __init__(self, *script: int | NotExported | trio.Event) -> None:
        self.script = deque(script)
        self.requests: list[tuple[float, Sequence[int]]] = []
        self.taken: list[int] = []

    async def send(self, spans: Sequence[int]) -> int:
        self.requests.append((trio.current_time(), spans))
        outcome = self.script.popleft() if self.script else 0
        await trio.lowlevel.checkpoint()
        if isinstance(outcome, trio.Event):
            await outcome.wait()
            outcome = 0
        if isinstance(outcome, NotExported):
            raise outcome
        self.taken += spans
        return outcome

    @property
    def times(self) -> list[float]:
        return [round(when, 6) for when, _ in self.requests]


class Bench:
    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.metrics = TraceMetrics()
        self.export: SpanExport[int] = SpanExport(receiver.send, self.metrics)
        self.offered = 0

    def offer(self, count: int) -> None:
        for _ in range(count):
            self.export.offer(self.offered)
            self.offered += 1


@asynccontextmanager
async def running(*script: int | NotExported | trio.Event, within: float = 5.0) -> AsyncIterator[Bench]:
    """Run an export; leaving the block closes it. At the end every span has its outcome."""
    bench = Bench(Receiver(*script))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.export.run)
        yield bench
        bench.export.close(within)
    assert bench.metrics.exported + sum(bench.metrics.dropped.values()) == bench.offered


def away(after: float = 0.0) -> NotExported:
    return NotExported("it is away", again=True, after=after)


async def test_spans_are_sent_together_after_a_while(autojump_clock: MockClock) -> None:
    start = trio.current_time()
    async with running() as bench:
        bench.offer(3)
        await trio.sleep(INTERVAL / 2)
        bench.offer(2)
        await trio.sleep(INTERVAL)
        assert bench.receiver.requests == [(start + INTERVAL, [0, 1, 2, 3, 4])]
        assert bench.metrics.exported == 5
    assert not +bench.metrics.dropped


async def test_a_request_has_a_bounded_number_of_spans(autojump_clock: MockClock) -> None:
    async with running() as bench:
        bench.offer(MOST_AT_ONCE + 1)
        await trio.sleep(INTERVAL * 1.5)
        assert [len(spans) for _, spans in bench.receiver.requests] == [MOST_AT_ONCE, 1]


async def test_a_receiver_that_is_away_is_asked_again_later_each_time(autojump_clock: MockClock) -> None:
    start = trio.current_time()
    async with running(away(), away()) as bench:
        bench.offer(1)
        await trio.sleep(10)
        first, second, third = (when - start - INTERVAL for when in bench.receiver.times)
        assert first == 0
        assert 0.5 <= second <= 1
        assert 1 <= third - second <= 2
        assert bench.metrics.exported == 1


@pytest.mark.parametrize(("asked", "obeyed"), [(7.0, 7.0), (10_000.0, 30.0)])
async def test_the_pause_that_a_receiver_asks_for_is_obeyed_within_reason(
    autojump_clock: MockClock, asked: float, obeyed: float
) -> None:
    async with running(away(after=asked)) as bench:
        bench.offer(1)
        await trio.sleep(40)
        first, second = bench.receiver.times
        assert second - first == pytest.approx(obeyed)


async def test_after_some_attempts_spans_are_given_up_and_the_next_ones_tried(autojump_clock: MockClock) -> None:
    async with running(*[away() for _ in range(ATTEMPTS)]) as bench:
        bench.offer(2)
        await trio.sleep(60)
        assert bench.metrics.dropped["unreachable"] == 2
        bench.offer(1)
        await trio.sleep(INTERVAL * 1.5)
        assert bench.metrics.exported == 1
        assert len(bench.receiver.requests) == ATTEMPTS + 1


async def test_what_a_receiver_refuses_is_not_sent_again(autojump_clock: MockClock) -> None:
    async with running(NotExported("400", again=False)) as bench:
        bench.offer(4)
        await trio.sleep(60)
        assert bench.metrics.dropped == {"refused": 4}
        assert len(bench.receiver.requests) == 1


async def test_spans_that_are_refused_among_others_are_counted(autojump_clock: MockClock) -> None:
    async with running(2) as bench:
        bench.offer(5)
    assert (bench.metrics.exported, bench.metrics.dropped["refused"]) == (3, 2)


async def test_what_finds_no_room_is_dropped_and_counted(autojump_clock: MockClock) -> None:
    stalled = trio.Event()
    async with running(stalled) as bench:
        bench.offer(MOST_AT_ONCE)
        await trio.sleep(INTERVAL * 1.5)  # these are in hand now
        bench.offer(MOST_BUFFERED + 10)
        assert bench.metrics.dropped == {"buffer_full": 10}
        stalled.set()
        await trio.sleep(INTERVAL * 1.5)
        assert bench.metrics.exported == MOST_AT_ONCE + MOST_BUFFERED


async def test_a_stop_sends_what_is_left_at_once(autojump_clock: MockClock) -> None:
    start = trio.current_time()
    async with running() as bench:
        await trio.testing.wait_all_tasks_blocked()
        bench.offer(3)
    assert trio.current_time() == start
    assert bench.receiver.taken == [0, 1, 2]


async def test_a_stop_ends_a_pause_and_tries_once_more(autojump_clock: MockClock) -> None:
    async with running(away(after=30), away()) as bench:
        bench.offer(1)
        await trio.sleep(2)
        stopped = trio.current_time()
    assert trio.current_time() == stopped
    assert bench.receiver.times[1:] == [stopped]
    assert +bench.metrics.dropped == {"unreachable": 1}


async def test_a_stop_waits_no_longer_than_it_says(autojump_clock: MockClock) -> None:
    async with running(trio.Event(), within=2.5) as bench:
        bench.offer(MOST_AT_ONCE + 7)
        await trio.sleep(INTERVAL * 1.5)
        stopped = trio.current_time()
    assert trio.current_time() == stopped + 2.5
    assert bench.metrics.dropped["shutdown"] == MOST_AT_ONCE + 7


async def test_what_ends_after_the_stop_is_counted(autojump_clock: MockClock) -> None:
    async with running() as bench:
        bench.export.close(1.0)
        bench.offer(1)
        await trio.testing.wait_all_tasks_blocked()
        bench.offer(1)
    assert bench.metrics.dropped["shutdown"] == 2


async def test_cancelled_it_counts_what_it_had(autojump_clock: MockClock) -> None:
    bench = Bench(Receiver(trio.Event()))
    with trio.move_on_after(INTERVAL * 1.5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.export.run)
            bench.offer(3)
            await trio.sleep(INTERVAL * 1.2)
            bench.offer(2)
    assert bench.metrics.dropped["shutdown"] == 5


async def test_an_outage_is_one_line_now_and_then_and_its_end_one(autojump_clock: MockClock) -> None:
    with structlog.testing.capture_logs() as lines:
        async with running(*[away() for _ in range(ATTEMPTS * 20)]) as bench:  # 70 to 140 seconds
            for _ in range(200):
                bench.offer(1)
                await trio.sleep(1)
    told = [line["event"] for line in lines]
    assert told.count("traces cannot be exported") in {2, 3}
    assert told[-1] == "traces are exported again"
    assert lines[0]["reason"] == "it is away"


def test_metrics_are_there_from_the_start() -> None:
    families = {family.name: family for family in TraceMetrics().collect()}
    assert [sample.value for sample in families["hermes_spans_exported"].samples] == [0]
    reasons = {sample.labels["reason"]: sample.value for sample in families["hermes_spans_dropped"].samples}
    assert reasons == {"buffer_full": 0, "refused": 0, "shutdown": 0, "unreachable": 0}
