"""A delivery that ends early: cancelled in each phase, or struck by an error of the sink that nobody declared.

Whatever it was doing, every event has exactly one outcome, and admission hears of each chunk once.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from hermes.testing import ScriptedSink, unavailable
from tests.events.engine.kit import Bench, make_bench, running, settings

FOREVER = 3600.0


def in_the_buffer() -> Bench:
    return make_bench(service=settings(flush_interval=FOREVER))


def in_a_write() -> Bench:
    bench = make_bench(ScriptedSink(max_batch=2, concurrency=2), service=settings(batch_size=1), timeout=FOREVER)
    bench.sink.stall()
    return bench


def in_a_pause() -> Bench:
    sink = ScriptedSink.following(*unavailable(2, retry_after=FOREVER), max_batch=2)
    return make_bench(sink, service=settings(batch_size=1))


def at_the_trial() -> Bench:
    bench = make_bench(ScriptedSink(), service=settings(batch_size=1), breaker_failures=1, breaker_open=0.5)
    bench.sink.script.extend([*unavailable(1), trio.Event()])
    return bench


def all_done() -> Bench:
    return make_bench(service=settings(batch_size=1))


PHASES: dict[Callable[[], Bench], dict[str, int]] = {
    in_the_buffer: {"abandoned": 9},
    in_a_write: {"shutdown": 4, "abandoned": 5},
    in_a_pause: {"shutdown": 2, "abandoned": 7},
    at_the_trial: {"circuit_open": 2, "shutdown": 1, "abandoned": 6},
    all_done: {"delivered": 9},
}


@pytest.mark.parametrize("make", PHASES, ids=lambda make: make.__name__)
async def test_a_cancelled_delivery_leaves_an_account_that_adds_up(
    autojump_clock: None, make: Callable[[], Bench]
) -> None:
    bench, expected = make(), PHASES[make]
    with trio.move_on_after(5) as scope:
        async with running(bench):
            for _ in range(9):
                bench.offer_events(1)
                if bench.delivery.max_batch > 2:
                    await trio.sleep(0.3)
            await trio.sleep_forever()
    assert scope.cancelled_caught
    before = bench.delivery.account()
    abandoned = expected.get("abandoned", 0)
    assert before.in_flight == bench.unsettled == abandoned
    bench.delivery.abandon(9)
    account = bench.delivery.account()
    assert account.in_flight == 0
    assert account.delivered == len(bench.sink.stored) == expected.get("delivered", 0)
    assert account.dropped.get("shutdown", 0) == expected.get("shutdown", 0) + abandoned
    assert account.dropped.get("circuit_open", 0) == expected.get("circuit_open", 0)
    assert account.accepted == 9
    assert len(bench.settled) == len({id(chunk) for chunk in bench.settled}) == 9 - abandoned


async def test_what_never_reached_the_delivery_is_in_its_account_too(autojump_clock: None) -> None:
    bench = make_bench()
    async with running(bench):
        bench.offer_events(3)
    bench.delivery.abandon(10, uncommitted=7)
    account = bench.delivery.account()
    assert (account.accepted, account.delivered, account.dropped, account.in_flight) == (10, 3, {"shutdown": 7}, 0)


async def test_abandoning_when_all_is_settled_changes_nothing(autojump_clock: None) -> None:
    bench = make_bench()
    async with running(bench):
        bench.offer_events(3)
    before = bench.delivery.account()
    bench.delivery.abandon(3)
    assert bench.delivery.account() == before


@pytest.mark.parametrize("error", [RuntimeError("a bug of the sink"), MemoryError(), OSError("disk")])
async def test_an_undeclared_error_of_the_sink_ends_the_delivery_and_the_account_adds_up(
    autojump_clock: None, error: Exception
) -> None:
    sink = ScriptedSink.following(None, trio.Event(), error, max_batch=2, concurrency=2)
    bench = make_bench(sink, service=settings(batch_size=1))
    with pytest.RaisesGroup(type(error), flatten_subgroups=True):
        async with running(bench):
            bench.offer_events(1)
            await sink.wait_stored(1)
            for _ in range(6):
                bench.offer_events(1)
            await trio.sleep_forever()
    account = bench.delivery.account()
    # one stored; two in the write that was cancelled, two in the one that crashed; two still in the buffer
    assert (account.delivered, account.dropped, account.in_flight) == (1, {"shutdown": 4}, 2)
    assert bench.unsettled == 2
    assert [write.outcome for write in sink.writes] == ["done", "cancelled", "crashed"]
