"""The flush of counts to the sinks: what grew, when, and that a flush without room is made up for."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import trio

from hermes.events.engine.aggregate import Aggregator
from hermes.events.engine.aggregate_flush import TYPE, flush_aggregates
from hermes.events.event import Event
from hermes.testing import ScriptedSink, make_chunk, make_event
from tests.events.engine.kit import engine_running, make_engine, settings


class Sinks:
    """Takes what is offered while there is room, and sums it up."""

    def __init__(self, room: int = 1000) -> None:
        self.room = room
        self.taken: list[tuple[float, Event]] = []

    def offer(self, events: list[Event], size: int) -> bool:
        assert size == sum(len(bytes(event.payload)) for event in events)
        if len(events) > self.room:
            return False
        self.room -= len(events)
        self.taken += [(trio.current_time(), event) for event in events]
        return True

    def sums(self) -> Counter[str]:
        sums: Counter[str] = Counter()
        for _, event in self.taken:
            payload = msgspec.json.decode(bytes(event.payload))
            assert event.timestamp == payload["minute"] * 60
            sums[f"{payload['type']}:{payload['minute']}"] += payload["count"]
        return sums


@asynccontextmanager
async def flushing(aggregator: Aggregator, sinks: Sinks, interval: float) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flush_aggregates, aggregator, sinks.offer, interval)
        yield
        nursery.cancel_scope.cancel()


def count(aggregator: Aggregator, minute: int, times: int = 1, kind: str = "song_played") -> None:
    aggregator.add([make_chunk([make_event(type=kind, timestamp=minute * 60) for _ in range(times)])])


async def test_only_growth_is_flushed_at_each_interval(autojump_clock: None) -> None:
    aggregator, sinks = Aggregator(10), Sinks()
    start = trio.current_time()
    async with flushing(aggregator, sinks, 60):
        count(aggregator, 1, 3)
        await trio.sleep(61)
        count(aggregator, 1, 2)
        count(aggregator, 2)
        await trio.sleep(120)
    assert [(moment - start, msgspec.json.decode(bytes(event.payload))) for moment, event in sinks.taken] == [
        (60, {"type": "song_played", "minute": 1, "count": 3}),
        (120, {"type": "song_played", "minute": 1, "count": 2}),
        (120, {"type": "song_played", "minute": 2, "count": 1}),
    ]
    assert {event.type for _, event in sinks.taken} == {TYPE}
    assert len({event.id for _, event in sinks.taken}) == 3


async def test_what_finds_no_room_is_made_up_for_by_the_next_flush(autojump_clock: None) -> None:
    aggregator, sinks = Aggregator(10), Sinks(room=2)
    async with flushing(aggregator, sinks, 60):
        for minute in range(5):
            count(aggregator, minute, minute + 1)
        await trio.sleep(61)
        assert sinks.sums().total() == 3
        sinks.room = 1000
        count(aggregator, 4, 10)
        await trio.sleep(60)
    assert sinks.sums() == aggregator.snapshot()


async def test_more_counts_than_a_small_queue_holds_all_arrive(autojump_clock: None) -> None:
    engine = make_engine({"fake": ScriptedSink(max_batch=4)}, service=settings(queue_size=5, batch_size=1))
    count(engine.aggregator, 7, 50, "ad_clicked")
    for minute in range(30):
        count(engine.aggregator, minute, 2)
    expected = engine.aggregator.snapshot()
    async with engine_running(engine), trio.open_nursery() as nursery:
        nursery.start_soon(flush_aggregates, engine.aggregator, engine.intake.offer_derived, 10)
        await trio.sleep(200)
        nursery.cancel_scope.cancel()
    sums: Counter[str] = Counter()
    for event in engine.benches["fake"].sink.stored:
        payload = msgspec.json.decode(bytes(event.payload))
        sums[f"{payload['type']}:{payload['minute']}"] += payload["count"]
    assert sums == expected
    assert engine.aggregator.snapshot() == expected, "derived events are not counted again"


async def test_a_minute_that_left_the_counts_is_forgotten(autojump_clock: None) -> None:
    aggregator, sinks = Aggregator(1), Sinks()
    async with flushing(aggregator, sinks, 60):
        count(aggregator, 1, 3)
        await trio.sleep(61)
        count(aggregator, 2, 3)
        await trio.sleep(60)
        count(aggregator, 1, 1)  # too late
        await trio.sleep(60)
    assert sinks.sums() == {"song_played:1": 3, "song_played:2": 3}
