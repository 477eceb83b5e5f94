"""The intake with its deliveries: room, order, splitting, and sinks that must not disturb each other."""

from __future__ import annotations

import pytest
import trio

from hermes.testing import ScriptedSink, make_chunk, make_events
from tests.events.engine.kit import INTERVAL, MemoryEngine, engine_running, ids, make_engine, settings

REQUIRED = {"required": True}


async def settle(seconds: float = 1.0) -> None:
    """Let everything happen that happens by itself."""
    await trio.sleep(seconds)


# From the offer to the sink


async def test_a_single_event_reaches_the_sink_exactly_after_flush_interval(autojump_clock: None) -> None:
    engine = make_engine({"a": ScriptedSink()})
    async with engine_running(engine):
        await settle()
        assert engine.offer_one("x")
        await settle()
    assert engine.benches["a"].began() == [1 + INTERVAL]
    assert engine.aggregator.snapshot() == {"song_played:28333333": 1}


async def test_requests_of_one_moment_travel_as_one_chunk(autojump_clock: None) -> None:
    engine = make_engine({"a": ScriptedSink()})
    sizes: list[int] = []
    engine.benches["a"].delivery.offer = (  # type: ignore[method-assign]
        lambda chunks: sizes.extend(map(len, chunks))
    )
    async with engine_running(engine):
        await settle()
        for n in range(100):
            assert engine.offer_one(f"event-{n}")
        await settle()
    assert sizes == [100]


async def test_a_wake_up_takes_everything_that_waits(autojump_clock: None) -> None:
    engine = make_engine({"a": ScriptedSink(max_batch=1)})
    wake_ups: list[int] = []
    engine.benches["a"].delivery.offer = (  # type: ignore[method-assign]
        lambda chunks: wake_ups.append(len(chunks))
    )
    async with engine_running(engine):
        assert engine.offer(70)
        assert engine.offer(30, prefix="later")
        await settle()
    assert wake_ups == [100]


async def test_a_chunk_that_is_handed_on_takes_no_more(autojump_clock: None) -> None:
    engine = make_engine({"a": ScriptedSink()})
    async with engine_running(engine):
        for n in range(20):
            assert engine.offer_one(f"event-{n}")
            await trio.testing.wait_all_tasks_blocked()  # the task has taken the chunk
        await settle()
    account = engine.benches["a"].delivery.account()
    assert (account.accepted, account.delivered) == (20, 20)
    assert ids(engine.benches["a"].sink.stored) == [f"event-{n}" for n in range(20)]


@pytest.mark.parametrize("count", [1, 9, 10, 11, 30, 95])
async def test_a_request_larger_than_a_batch_is_split(autojump_clock: None, count: int) -> None:
    engine = make_engine({"a": ScriptedSink(max_batch=10), "b": ScriptedSink(max_batch=25)})
    async with engine_running(engine):
        assert engine.offer(count, size=1003)
        assert (engine.intake.admission.events, engine.intake.admission.bytes) == (count, 1003)
        await settle()
        assert (engine.intake.admission.events, engine.intake.admission.bytes) == (0, 0)
    for bench in engine.benches.values():
        assert ids(bench.sink.stored) == [f"event-{n}" for n in range(count)]
        assert max(len(write.events) for write in bench.sink.writes) <= bench.sink.max_batch


async def test_the_channel_never_overflows_when_every_event_is_a_chunk_of_its_own(autojump_clock: None) -> None:
    engine = make_engine({"a": ScriptedSink(max_batch=1)}, service=settings(queue_size=50))
    assert all(engine.offer_one(f"event-{n}") for n in range(50))  # nobody receives yet
    assert not engine.offer_one("one more")
    async with engine_running(engine):
        await settle()
        assert len(engine.benches["a"].sink.stored) == 50


async def test_the_channel_never_overflows_when_waiters_come_in_one_by_one(autojump_clock: None) -> None:
    engine = make_engine({"a": ScriptedSink(max_batch=5)}, service=settings(queue_size=5), blocking=True)
    answers: list[bool] = []
    for n in range(40):
        engine.submit_one(f"event-{n}", answers.append)
    assert len(answers) == 5
    async with engine_running(engine):
        await settle(10)
        assert answers == [True] * 40
        assert ids(engine.benches["a"].sink.stored) == [f"event-{n}" for n in range(40)]


async def test_more_than_one_turn_holds_is_handed_on_in_turns(autojump_clock: None) -> None:
    engine = make_engine({"a": ScriptedSink(max_batch=1000)}, service=settings(queue_size=50_000))
    for n in range(35):
        assert engine.offer(1000, prefix=f"request-{n}")
    async with engine_running(engine):
        await settle()
    assert len(engine.benches["a"].sink.stored) == 35_000
    assert engine.aggregator.received.total() == 35_000


async def test_closing_hands_on_and_flushes_all_that_was_taken(autojump_clock: None) -> None:
    engine = make_engine({"a": ScriptedSink(max_batch=7)}, service=settings(flush_interval=3600.0))
    async with engine_running(engine):
        for n in range(10):
            assert engine.offer(3, prefix=f"request-{n}")
    assert len(engine.benches["a"].sink.stored) == 30
    assert not engine.offer_one("too late")


async def test_an_intake_that_was_cancelled_refuses_what_is_offered(autojump_clock: None) -> None:
    engine = make_engine({"a": ScriptedSink(max_batch=1)}, service=settings(queue_size=2), blocking=True)
    answers: list[bool] = []
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.intake.run)
            await settle()
            assert engine.offer(2)
            engine.submit_one("event", answers.append)
            assert answers == []
            scope.cancel()
    assert answers == [False]
    assert not engine.offer_one("too late")
    # A worker that ends now settles its batch; nobody is let in who would find the channel broken.
    next(iter(engine.benches.values())).delivery._on_settled([make_chunk(1)])
    assert engine.intake.admission.accepted == 2


# Room


async def test_the_eleventh_is_refused_while_the_sink_stalls_and_all_ten_are_there_afterwards(
    autojump_clock: None,
) -> None:
    engine = make_engine({"a": ScriptedSink()}, service=settings(queue_size=10))
    sink = engine.benches["a"].sink
    sink.stall()
    async with engine_running(engine):
        for n in range(10):
            assert engine.offer_one(f"event-{n}")
            await trio.sleep(0.5)  # some are in the sink's hands, some buffered
        assert not engine.offer_one("the eleventh")
        assert 1 <= engine.intake.retry_after() <= 30
        await settle(20)
        assert not engine.offer_one("the eleventh")
        sink.resume()
        await sink.wait_stored(10)
        assert ids(sink.stored) == [f"event-{n}" for n in range(10)]
        await trio.testing.wait_all_tasks_blocked()
        assert engine.offer_one("the eleventh")
    assert len(sink.stored) == 11


async def test_blocking_holds_an_event_until_there_is_room(autojump_clock: None) -> None:
    engine = make_engine({"a": ScriptedSink()}, service=settings(queue_size=1, batch_size=1), blocking=True)
    sink = engine.benches["a"].sink
    sink.stall()
    answered: list[tuple[float, bool]] = []
    async with engine_running(engine):
        start = trio.current_time()
        assert engine.offer_one("first")
        engine.submit_one("second", lambda taken: answered.append((trio.current_time(), taken)))
        await settle(5)
        assert answered == []
        sink.resume()
        await sink.wait_stored(2)
        assert answered == [(start + 5, True)]


async def test_when_a_stop_begins_nobody_waits_any_more(autojump_clock: None) -> None:
    engine = make_engine({"a": ScriptedSink()}, service=settings(queue_size=1, batch_size=1), blocking=True)
    sink = engine.benches["a"].sink
    sink.stall()
    answers: list[bool] = []
    async with engine_running(engine):
        assert engine.offer_one("first")
        engine.submit_one("second", answers.append)
        engine.intake.stop_blocking()
        assert answers == [False]
        assert not engine.intake.blocking
        sink.resume()
        await sink.wait_stored(1)
        await trio.testing.wait_all_tasks_blocked()
        assert engine.offer_one("still in flight at the edge")
    assert ids(sink.stored) == ["first", "still in flight at the edge"]


async def test_a_dropped_event_leaves_room_as_a_delivered_one_does(autojump_clock: None) -> None:
    engine = make_engine({"a": ScriptedSink()}, service=settings(queue_size=10), delivery={"a": {"retries": 0}})
    engine.benches["a"].sink.fail()
    async with engine_running(engine):
        for n in range(20):
            assert engine.offer(10, prefix=f"request-{n}")
            await settle()
    assert sum(engine.benches["a"].dropped.values()) == 200


async def test_derived_events_take_room_and_are_not_counted_again(autojump_clock: None) -> None:
    engine = make_engine({"a": ScriptedSink(max_batch=3)}, service=settings(queue_size=3))
    async with engine_running(engine):
        assert engine.intake.offer_derived(make_events(2), 20)
        assert engine.intake.admission.events == 2
        assert not engine.intake.offer_derived(make_events(2), 20)
        await settle()
    assert engine.aggregator.snapshot() == {}
    account = engine.benches["a"].delivery.account()
    assert (account.accepted, account.delivered) == (2, 2)


# Several sinks


async def offer_steadily(engine: MemoryEngine, seconds: int) -> int:
    """Ten events fourteen times a second; how many were taken."""
    taken = 0
    for n in range(seconds * 14):
        taken += 10 * engine.offer(10, prefix=f"request-{n}")
        await trio.sleep(0.07)
    return taken


@pytest.mark.parametrize("ailment", ["stalls", "fails"])
async def test_an_ailing_sink_changes_nothing_for_the_others(autojump_clock: None, ailment: str) -> None:
    service = settings(queue_size=100)
    alone = make_engine({"well": ScriptedSink()}, service=service)
    async with engine_running(alone):
        await offer_steadily(alone, 30)
    ill = ScriptedSink(max_batch=50)
    ill.stall() if ailment == "stalls" else ill.fail()
    engine = make_engine({"well": ScriptedSink(), "ill": ill}, service=service)
    async with engine_running(engine):
        assert await offer_steadily(engine, 30) == 4200
        await settle()
        assert ids(engine.benches["well"].sink.stored) == ids(alone.benches["well"].sink.stored)
        assert engine.benches["well"].began() == alone.benches["well"].began()
        # What it cannot take is dropped and counted, and only its own.
        account = engine.benches["ill"].delivery.account()
        assert account.delivered == 0
        assert account.in_flight <= 100 + 50
        assert sum(account.dropped.values()) == 4200 - account.in_flight
        ill.resume()
    accounts = {name: bench.delivery.account() for name, bench in engine.benches.items()}
    assert all(account.accepted == 4200 and account.in_flight == 0 for account in accounts.values())
    assert accounts["well"].delivered == 4200
    assert accounts["ill"].delivered == len(ill.stored)


async def test_a_sink_that_overflows_counts_it_under_its_reason(autojump_clock: None) -> None:
    slow = ScriptedSink(max_batch=10)
    slow.stall()
    engine = make_engine({"fast": ScriptedSink(), "slow": slow}, service=settings(queue_size=20))
    async with engine_running(engine):
        await offer_steadily(engine, 10)
        assert set(engine.benches["slow"].dropped) == {"queue_full"}
        slow.resume()
    assert engine.benches["fast"].dropped == {}


async def test_a_required_sink_that_stalls_stops_the_intake_and_loses_nothing(autojump_clock: None) -> None:
    kept = ScriptedSink(max_batch=10)
    kept.stall()
    engine = make_engine(
        {"fast": ScriptedSink(), "kept": kept}, service=settings(queue_size=50), delivery={"kept": REQUIRED}
    )
    async with engine_running(engine):
        assert await offer_steadily(engine, 10) == 50
        kept.resume()
        await settle()
        assert engine.offer_one("one more")
    assert engine.benches["kept"].dropped == engine.benches["fast"].dropped == {}
    assert len(kept.stored) == len(engine.benches["fast"].sink.stored) == 51


async def test_room_is_held_until_every_required_sink_is_done(autojump_clock: None) -> None:
    gates = {"a": trio.Event(), "b": trio.Event()}
    engine = make_engine(
        {name: ScriptedSink.following(gate) for name, gate in gates.items()} | {"c": ScriptedSink()},
        service=settings(queue_size=10),
        delivery={"a": REQUIRED, "b": REQUIRED},
    )
    async with engine_running(engine):
        assert engine.offer(10)
        await settle()
        assert engine.benches["c"].delivery.account().delivered == 10
        gates["b"].set()
        await settle()
        assert engine.intake.admission.events == 10
        gates["a"].set()
        await settle()
        assert engine.intake.admission.events == 0


async def test_where_no_sink_is_required_the_first_to_settle_frees_the_room_once(autojump_clock: None) -> None:
    slow = trio.Event()
    engine = make_engine(
        {"slow": ScriptedSink.following(slow), "fast": ScriptedSink()}, service=settings(queue_size=10)
    )
    async with engine_running(engine):
        assert engine.offer(10)
        await settle()
        assert engine.intake.admission.events == 0
        slow.set()
        await settle()
        assert (engine.intake.admission.events, engine.intake.admission.bytes) == (0, 0)
        assert engine.offer(10, prefix="again")
        assert engine.intake.admission.events == 10
