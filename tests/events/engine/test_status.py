"""The status of the engine: rates and lag are right, and it stays small whatever there is to tell."""

from __future__ import annotations

import time

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from hermes import BatchRejected, SinkUnavailable
from hermes.events.engine.aggregate import OTHER
from hermes.events.engine.sink_calls import OTHER_REASONS
from hermes.events.engine.status import EngineStatus
from hermes.events.engine.status_types import HISTORY, MINUTES, MOST_TYPES, EventsStatus
from hermes.events.event import MAX_TIMESTAMP, Chunk
from hermes.testing import ScriptedSink, make_chunk, make_event, make_events
from tests.events.engine.durable import Durable, durable_running, make_durable
from tests.events.engine.kit import MemoryEngine, engine_running, make_bench, make_engine, running, settings

WALL = 1_700_000_000.0


class Watched:
    """An engine and its status."""

    def __init__(self, engine: MemoryEngine) -> None:
        self.engine = engine
        self.status = EngineStatus(engine.engine, 2**20, {}, trio.current_time())

    def snapshot(self, wall: float = WALL) -> EventsStatus:
        return self.status.snapshot(trio.current_time(), wall)

    async def pass_seconds(self, count: int) -> None:
        for _ in range(count):
            await trio.sleep(1)
            self.status.tick(trio.current_time())


# Rates


async def test_rates_are_those_of_the_last_seconds_and_the_history_has_each(autojump_clock: None) -> None:
    watched = Watched(make_engine({"fake": ScriptedSink()}))
    async with engine_running(watched.engine):
        for second in range(10):
            watched.engine.offer(100 if second < 5 else 10, prefix=str(second))
            await watched.pass_seconds(1)
        now = watched.snapshot()
    assert now.history == [100] * 5 + [10] * 5
    assert now.rate == pytest.approx(10)
    assert now.sinks[0].rate == pytest.approx(10)
    assert now.received == now.sinks[0].delivered == 550


async def test_the_history_is_bounded(autojump_clock: None) -> None:
    watched = Watched(make_engine({"fake": ScriptedSink()}))
    await watched.pass_seconds(HISTORY + 50)
    assert len(watched.snapshot().history) == HISTORY


async def test_at_the_first_moment_there_is_no_rate_and_nothing_fails(autojump_clock: None) -> None:
    now = Watched(make_engine({"fake": ScriptedSink()})).snapshot()
    assert (now.rate, now.history, now.sinks[0].lag) == (0.0, [], 0.0)


# Lag


async def test_the_lag_is_the_age_of_the_oldest_event_without_an_outcome(autojump_clock: None) -> None:
    sink = ScriptedSink(max_batch=2, concurrency=1)
    sink.stall()
    bench = make_bench(sink, service=settings(batch_size=2, worker_count=1))
    async with running(bench):
        for n in range(3):
            bench.offer(make_chunk(make_events(2, prefix=str(n)), received_at=WALL + n))
        await wait_all_tasks_blocked()
        assert bench.delivery.statistics().oldest == WALL  # in the worker's hands
        sink.resume()
        await sink.wait_stored(6)
        await wait_all_tasks_blocked()
        assert bench.delivery.statistics().oldest is None


async def test_an_event_that_waits_for_company_counts(autojump_clock: None) -> None:
    bench = make_bench()
    async with running(bench):
        bench.offer(make_chunk(1, received_at=WALL + 5))
        assert bench.delivery.statistics().oldest == WALL + 5


async def test_a_status_tells_the_lag_in_seconds(autojump_clock: None) -> None:
    sink = ScriptedSink()
    sink.stall()
    watched = Watched(make_engine({"fake": sink}))
    async with engine_running(watched.engine):
        watched.engine.offer(3)
        await sink.wait_writes(1)
        lag = watched.snapshot(time.time() + 30).sinks[0].lag
        assert lag == pytest.approx(30, abs=5)
        assert watched.snapshot(WALL - 1e6).sinks[0].lag == 0  # a clock that was set back
        sink.resume()
        await sink.wait_stored(3)
        await wait_all_tasks_blocked()
        assert watched.snapshot().sinks[0].lag == 0


async def put_at(durable: Durable, *times: float) -> list[Chunk]:
    """Commit and offer a record of two events for each time of arrival."""
    chunks = []
    for at in times:
        chunks.append(make_chunk(make_events(2, prefix=str(at)), received_at=at))
        await durable.put(chunks[-1])
    return chunks


async def test_what_is_on_disk_alone_is_as_old_as_it_is(autojump_clock: None) -> None:
    """The sink takes five events a batch and ten fit in memory, so the backlog is read back record by record."""
    sink = ScriptedSink(max_batch=2)
    sink.stall()
    durable = await make_durable(sinks=sink, service=settings(queue_size=4, batch_size=2, worker_count=1))
    async with durable_running(durable):
        await put_at(durable, *range(10))
        await wait_all_tasks_blocked()
        assert durable.delivery.statistics().on_disk > 0
        ages = []
        for _ in range(10):
            ages.append(durable.delivery.statistics().oldest)
            sink.resume()
            sink.stall()
            await trio.sleep(0.2)
        assert ages == list(range(10))
        assert durable.delivery.statistics().oldest is None
        sink.resume()


async def test_after_a_start_the_age_of_the_backlog_is_known_as_soon_as_it_is_read(autojump_clock: None) -> None:
    sink = ScriptedSink()
    sink.stall()
    first = await make_durable(sinks=sink)
    await put_at(first, 100.0, 200.0)
    await first.journal.save()
    second = await make_durable(first.log, sinks=sink)
    assert second.delivery.statistics().oldest is None
    assert second.account.in_flight == 4
    async with durable_running(second):
        await wait_all_tasks_blocked()
        assert second.delivery.statistics().oldest == 100.0
        sink.resume()


# What went wrong


async def test_the_last_failure_stays_with_its_time_and_without_what_a_terminal_obeys(autojump_clock: None) -> None:
    sink = ScriptedSink.following(SinkUnavailable("no \x1b[31mroute\nto host" + "x" * 1000))
    watched = Watched(make_engine({"fake": sink}, delivery={"fake": {"breaker_failures": 1, "breaker_open": 30.0}}))
    async with engine_running(watched.engine):
        watched.engine.offer(1)
        await trio.sleep(0.5)
        now = watched.snapshot().sinks[0]
        assert now.failure.startswith("no  [31mroute to hostxxx")
        assert len(now.failure) == 300
        assert now.failed_at == pytest.approx(time.time(), abs=10)
        assert now.breaker == "open"
        assert 0 < now.opens_in <= 30


async def test_refusals_are_counted_by_reason_and_many_reasons_are_one(autojump_clock: None) -> None:
    rejected = BatchRejected({n: f"reason {n}" for n in range(25)} | {25: "reason 0"})
    bench = make_bench(ScriptedSink.following(rejected))
    async with running(bench):
        bench.offer_events(30)
    refusals = bench.delivery.statistics().refusals
    assert len(refusals) == 21
    assert (refusals["reason 0"], refusals[OTHER_REASONS]) == (2, 5)
    assert sum(refusals.values()) == bench.delivery.account().dead_lettered == 26


# Aggregates


async def test_the_window_ends_now_while_events_are_of_now() -> None:
    watched = Watched(make_engine({"fake": ScriptedSink()}))
    minute = int(WALL) // 60
    for back, count in ((0, 3), (1, 2), (MINUTES - 1, 1), (MINUTES, 7)):
        event = make_event(timestamp=(minute - back) * 60)
        watched.engine.aggregator.add([make_chunk([event] * count)])
    shown = watched.snapshot().aggregates
    assert (shown.first, shown.types) == (minute - MINUTES + 1, ["song_played"])
    assert shown.counts == [[1, *[0] * (MINUTES - 3), 2, 3]]
    assert shown.elsewhere == 7


@pytest.mark.parametrize("timestamp", [0, 60_000, int(WALL) + 86_400, MAX_TIMESTAMP], ids=str)
async def test_no_clock_of_a_client_moves_the_window(timestamp: int) -> None:
    watched = Watched(make_engine({"fake": ScriptedSink()}))
    for count in (0, 1):
        watched.engine.aggregator.add([make_chunk([make_event(timestamp=timestamp)])])
        shown = watched.snapshot().aggregates
        assert (shown.first, shown.types, shown.elsewhere) == (int(WALL) // 60 - MINUTES + 1, [], count + 1)
    watched.engine.aggregator.add([make_chunk([make_event(timestamp=int(WALL))])])
    shown = watched.snapshot().aggregates
    assert (shown.counts[0][-1], shown.elsewhere) == (1, 2)


@pytest.mark.parametrize("types", [1, MOST_TYPES - 1, MOST_TYPES])
async def test_as_many_types_as_can_be_are_shown_by_name(types: int) -> None:
    watched = Watched(make_engine({"fake": ScriptedSink()}))
    for n in range(types):
        watched.engine.aggregator.add([make_chunk([make_event(type=f"type-{n}", timestamp=int(WALL))] * (n + 1))])
    shown = watched.snapshot().aggregates
    assert shown.types == [f"type-{n}" for n in reversed(range(types))]
    assert [row[-1] for row in shown.counts] == list(range(types, 0, -1))


async def test_many_types_are_shown_as_the_largest_and_the_others() -> None:
    watched = Watched(make_engine({"fake": ScriptedSink()}))
    for n in range(2000):
        watched.engine.aggregator.add([make_chunk([make_event(type=f"type-{n}", timestamp=int(WALL))] * (1 + n % 50))])
    now = watched.snapshot()
    assert len(now.aggregates.types) == MOST_TYPES
    assert now.aggregates.types[-1] == OTHER
    assert sum(map(sum, now.aggregates.counts)) == now.received == sum(now.by_type.values())
    assert len(msgspec.json.encode(now)) < 20_000


@pytest.mark.parametrize(
    ("set_required", "shown"),
    [((), [True, False, False]), (("c",), [False, False, True]), (("b", "c"), [False, True, True])],
)
async def test_the_first_sink_is_shown_as_required_where_none_is_set_to_be(
    set_required: tuple[str, ...], shown: list[bool]
) -> None:
    engine = make_engine(
        {name: ScriptedSink() for name in "abc"}, delivery={name: {"required": True} for name in set_required}
    )
    assert [sink.required for sink in Watched(engine).snapshot().sinks] == shown
