"""Writes that take too long: they are cut until they fit into the time-out, and grow again."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from hermes.base.errors import SinkUnavailable
from hermes.events.engine.workable import WorkableSize
from hermes.events.event import Batch
from hermes.testing import ScriptedSink
from tests.events.engine.durable import durable_running, make_durable
from tests.events.engine.kit import ids, make_bench, running, settings

SECONDS = 8.0


@pytest.mark.parametrize(
    ("seconds", "too_slow", "limit"),
    [(SECONDS, True, 50), (SECONDS / 2, False, 50), (0.1, True, 50), (SECONDS / 4, False, 100), (0, False, 100)],
    ids=["timed out", "half of the time-out", "the sink says so", "a quarter of it", "refused at once"],
)
def test_a_write_that_failed_for_its_length_is_halved(seconds: float, too_slow: bool, limit: int) -> None:
    size = WorkableSize(100, SECONDS)
    size.failed(100, seconds, too_slow=too_slow)
    assert size.limit == limit


def test_the_size_falls_once_for_writes_at_the_same_time_and_never_below_one() -> None:
    size = WorkableSize(100, SECONDS)
    for _ in range(4):
        size.timed_out(100)
    assert size.limit == 50
    for _ in range(9):
        size.timed_out(size.limit)
    assert size.limit == 1


def test_the_size_doubles_with_writes_of_full_size_that_are_quick() -> None:
    size = WorkableSize(100, SECONDS)
    size.timed_out(40)
    for events, seconds, limit in [(19, 0, 20), (20, 3, 20), (20, 2, 40), (40, 0, 80), (80, 0, 100), (100, 0, 100)]:
        size.wrote(events, seconds)
        assert size.limit == limit


async def test_a_batch_that_the_sink_calls_too_slow_is_cut(autojump_clock: None) -> None:
    class Bounded(ScriptedSink):
        async def write(self, batch: Batch) -> None:
            if len(batch) > 10:
                self.script.appendleft(SinkUnavailable("statement timeout", too_slow=True))
            await super().write(batch)

    durable = await make_durable(sinks=Bounded(max_batch=100), service=settings(batch_size=100))
    async with durable_running(durable):
        events = await durable.put_events(*[10] * 10)
        await durable.sink.wait_stored(100)
    assert ids(durable.sink.stored) == ids(events)


class Slow(ScriptedSink):
    """Takes a second for each event."""

    async def write(self, batch: Batch) -> None:
        await trio.sleep(len(batch) * self.pause)
        await super().write(batch)

    pause = 1.0


@pytest.mark.parametrize("journal", [True, False])
async def test_a_batch_that_cannot_be_written_in_time_is_cut_and_the_size_remembered(
    autojump_clock: None, journal: bool
) -> None:
    sink = Slow(max_batch=100)
    service = settings(batch_size=100, worker_count=1)
    options: dict[str, Any] = {"timeout": 10, "breaker_open": 30, "breaker_failures": 10, "retries": 5}
    if journal:
        durable = await make_durable(sinks=sink, service=service, **options)
        async with durable_running(durable):
            events = await durable.put_events(*[10] * 20)
            await sink.wait_stored(200)
            await trio.sleep(1)
            assert durable.account.delivered == 200
    else:
        bench = make_bench(sink, service=service, **options)
        async with running(bench):
            events = [event for _ in range(20) for event in bench.offer_events(10)]
            await sink.wait_stored(200)
    assert ids(sink.stored) == ids(events), "each once, and in order"
    assert max(len(write.events) for write in sink.writes) <= 10


async def test_writes_grow_again_when_the_sink_is_fast_again(autojump_clock: None) -> None:
    sink = Slow(max_batch=64)
    durable = await make_durable(sinks=sink, service=settings(batch_size=64, worker_count=1), timeout=3)
    async with durable_running(durable):
        await durable.put_events(64)
        await sink.wait_stored(1)
        assert len(sink.writes[-1].events) <= 3
        sink.pause = 0.001
        await sink.wait_stored(64)
        await durable.put_events(64, 64)
        await sink.wait_stored(3 * 64)
    assert max(len(write.events) for write in sink.writes) == 64
