"""The circuit breaker at work in a delivery: when calls stop, when one is tried, and what happens meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
import structlog
import trio

from hermes.base.errors import SinkUnavailable
from hermes.testing import ScriptedSink, unavailable
from tests.events.engine.kit import Bench, make_bench, running, settings

CLOSED, HALF_OPEN, OPEN = 0, 1, 2


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow at once, so that every moment is an exact one."""
    monkeypatch.setattr("hermes.events.engine.sink_calls.random.uniform", lambda _low, _high: 0.0)


def one_by_one(sink: ScriptedSink, *, workers: int = 1, **delivery: Any) -> Bench:
    """A delivery that writes each event at once, in a batch of its own."""
    return make_bench(sink, service=settings(batch_size=1, worker_count=workers), **delivery)


async def open_breaker(bench: Bench) -> float:
    """Fail three writes; return the moment at which the breaker opened."""
    bench.sink.fail()
    bench.offer_events(1, prefix="first")
    await bench.sink.wait_writes(3)
    await trio.testing.wait_all_tasks_blocked()
    assert bench.state == OPEN
    opened_at = bench.sink.writes[2].ended_at
    assert opened_at is not None
    return opened_at


async def test_three_failed_writes_open_it_and_the_batch_is_dropped_and_counted(autojump_clock: None) -> None:
    bench = one_by_one(ScriptedSink())
    async with running(bench):
        await open_breaker(bench)
        assert len(bench.sink.writes) == 3
        assert bench.dropped == {"circuit_open": 1}
        assert bench.delivery.numbers.open_rejects == 1


async def test_failures_of_different_batches_count_together(autojump_clock: None) -> None:
    bench = one_by_one(ScriptedSink(), retries=0)
    bench.sink.fail()
    async with running(bench):
        for n in range(5):
            bench.offer_events(1)
            await trio.sleep(1)
            assert bench.state == (OPEN if n >= 2 else CLOSED)
    assert len(bench.sink.writes) == 3
    assert bench.dropped == {"unavailable": 3, "circuit_open": 2}


async def test_no_call_reaches_the_sink_for_thirty_seconds_and_each_batch_is_refused(autojump_clock: None) -> None:
    bench = one_by_one(ScriptedSink())
    async with running(bench):
        opened_at = await open_breaker(bench)
        bench.sink.resume()
        while trio.current_time() < opened_at + 29:
            bench.offer_events(2)
            await trio.sleep(1)
        await trio.sleep_until(opened_at + 29.999)
        bench.offer_events(2)
        await trio.testing.wait_all_tasks_blocked()
        rejects = bench.delivery.numbers.open_rejects
        assert len(bench.sink.writes) == 3
        assert bench.dropped == {"circuit_open": 1 + 2 * (rejects - 1)}
        assert rejects >= 30

        await trio.sleep_until(opened_at + 30)
        (event,) = bench.offer_events(1, prefix="trial")
        await bench.sink.wait_stored(1)
        assert bench.sink.writes[3].began_at == opened_at + 30
        assert bench.sink.stored == [event]
        assert bench.state == CLOSED


async def test_exactly_one_trial_among_many_workers(autojump_clock: None) -> None:
    sink = ScriptedSink(max_batch=1, concurrency=8)
    bench = one_by_one(sink, workers=8)
    async with running(bench):
        opened_at = await open_breaker(bench)
        began = len(sink.writes)
        sink.stall()
        await trio.sleep_until(opened_at + 30)
        for n in range(8):
            bench.offer_events(1, prefix=f"batch-{n}")
        await trio.testing.wait_all_tasks_blocked()
        assert len(sink.writes) == began + 1
        assert bench.state == HALF_OPEN
        assert bench.dropped == {"circuit_open": 1 + 7}
        sink.resume()
        await trio.testing.wait_all_tasks_blocked()
        assert bench.state == CLOSED
        for n in range(8):
            bench.offer_events(1, prefix=f"later-{n}")
    assert len(sink.stored) == 9


async def test_a_failed_trial_opens_it_for_another_thirty_seconds(autojump_clock: None) -> None:
    bench = one_by_one(ScriptedSink())
    async with running(bench):
        opened_at = await open_breaker(bench)
        for trial in (1, 2, 3):
            await trio.sleep_until(opened_at + 30 * trial)
            bench.offer_events(1)
            await trio.testing.wait_all_tasks_blocked()
            assert bench.state == OPEN
            assert len(bench.sink.writes) == 3 + trial
            await trio.sleep_until(opened_at + 30 * trial + 29.9)
            bench.offer_events(1)
            await trio.testing.wait_all_tasks_blocked()
            assert len(bench.sink.writes) == 3 + trial
        bench.sink.resume()
        await trio.sleep_until(opened_at + 120)
        bench.offer_events(1)
        await bench.sink.wait_stored(1)
        assert bench.state == CLOSED
    began = [write.began_at - opened_at for write in bench.sink.writes[3:]]
    assert began == [30, 60, 90, 120]


async def test_after_a_success_three_new_failures_are_needed(autojump_clock: None) -> None:
    bench = one_by_one(ScriptedSink.following(*unavailable(3)), retries=2)
    async with running(bench):
        bench.offer_events(1)
        await bench.sink.wait_writes(3)
        await trio.sleep(30)
        bench.offer_events(1)
        await bench.sink.wait_stored(1)
        bench.sink.script.extend([*unavailable(2), None])
        bench.offer_events(1)
        await bench.sink.wait_stored(2)
        assert bench.state == CLOSED
    assert bench.dropped == {"unavailable": 1}


async def test_a_batch_in_its_pause_when_the_breaker_opens_is_refused_too(autojump_clock: None) -> None:
    slow = SinkUnavailable("slow", retry_after=10)
    sink = ScriptedSink.following(slow, *unavailable(3), max_batch=1, concurrency=2)
    bench = one_by_one(sink, workers=2)
    async with running(bench):
        bench.offer_events(1, prefix="patient")
        await sink.wait_writes(1)
        bench.offer_events(1, prefix="hasty")
        await trio.sleep(5)
        assert bench.state == OPEN
        assert bench.dropped == {"circuit_open": 1}
        await trio.sleep(6)
        assert bench.dropped == {"circuit_open": 2}
        assert len(sink.writes) == 3


async def test_timeouts_open_it_as_errors_do(autojump_clock: None) -> None:
    bench = one_by_one(ScriptedSink.following(*(trio.Event() for _ in range(3))), timeout=2.0)
    async with running(bench):
        bench.offer_events(1)
        await trio.sleep(6)
        await trio.testing.wait_all_tasks_blocked()
        assert bench.state == OPEN
    assert [write.outcome for write in bench.sink.writes] == ["cancelled"] * 3


async def test_thresholds_are_the_sinks_own_settings(autojump_clock: None) -> None:
    bench = one_by_one(ScriptedSink.following(SinkUnavailable("x")), breaker_failures=1, breaker_open=0.5)
    async with running(bench):
        bench.offer_events(1)
        await trio.testing.wait_all_tasks_blocked()
        assert bench.state == OPEN
        await trio.sleep(0.5)
        bench.offer_events(1)
        await bench.sink.wait_stored(1)
        assert bench.state == CLOSED


async def test_each_change_is_logged_with_its_reason(autojump_clock: None) -> None:
    bench = one_by_one(ScriptedSink.following(*unavailable(4)))
    with structlog.testing.capture_logs() as lines:
        async with running(bench):
            for _ in range(3):
                bench.offer_events(1)
                await trio.sleep(30)
    changes = [(line["state"], line["reason"]) for line in lines if line["event"] == "breaker changed"]
    assert changes == [("open", "refusal 3 of 4"), ("open", "refusal 4 of 4"), ("closed", "")]
