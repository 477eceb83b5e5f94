"""The parts of the engine put together for a test, with `ScriptedSink` in the place of a database.

Invariant: after every step of any task, for each delivery, what the ledger has in flight is what was offered and not
settled (`AddsUp`). Everything runs on the virtual clock.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from hermes.config import Settings
from hermes.engine.aggregate import Aggregator
from hermes.engine.dead_letters import MemoryDeadLetters
from hermes.engine.delivery import Delivery
from hermes.engine.intake import Intake
from hermes.event import Chunk, Event
from hermes.metrics import Metrics
from hermes.sink import DeliverySettings
from hermes.testing import ScriptedSink, make_chunk, make_event, make_events

INTERVAL = 0.1


def settings(**values: Any) -> Settings:
    """The defaults of the service but for these."""
    return Settings(**({"worker_count": 4, "flush_interval": INTERVAL} | values))


@dataclass
class Bench:
    """One delivery with everything around it. ``offer`` counts what ``on_settled`` has to bring back."""

    sink: ScriptedSink
    delivery: Delivery
    metrics: Metrics
    dead_letters: MemoryDeadLetters
    unsettled: int = 0
    settled: list[Chunk] = field(default_factory=list)
    _offered: int = 0

    def offer(self, *chunks: Chunk) -> None:
        self.unsettled += sum(map(len, chunks))
        self.delivery.offer(chunks)

    def offer_events(self, count: int, *, prefix: str = "") -> list[Event]:
        """Offer one chunk of new events and return them."""
        events = make_events(count, prefix=prefix or f"offer-{self._offered}")
        self._offered += 1
        self.offer(make_chunk(events))
        return events

    @property
    def dropped(self) -> dict[str, int]:
        return self.delivery.account().dropped

    @property
    def state(self) -> int:
        """The breaker's, as the metric shows it."""
        return self.metrics.sinks[self.delivery.name].breaker_state()

    def began(self) -> list[float]:
        """When each write began, in seconds since the test did."""
        return [round(write.began_at - self.start, 9) for write in self.sink.writes]

    start: float = 0.0

    def _settle(self, chunks: Sequence[Chunk]) -> None:
        self.settled += chunks
        self.unsettled -= sum(map(len, chunks))


def make_bench(
    sink: ScriptedSink | None = None,
    *,
    service: Settings | None = None,
    name: str = "fake",
    letters: int = 100,
    **delivery: Any,
) -> Bench:
    """A delivery to ``sink``; ``delivery`` are fields of `DeliverySettings`."""
    sink = sink or ScriptedSink()
    metrics = Metrics([name])
    dead_letters = MemoryDeadLetters(letters)
    made = Delivery(name, sink, DeliverySettings(**delivery), service or settings(), metrics, dead_letters)
    bench = Bench(sink, made, metrics, dead_letters)
    made.on_settled = bench._settle
    return bench


@asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[Bench]:
    """Run the delivery; leaving the block closes it and waits until everything has its outcome."""
    bench.start = trio.current_time()
    watch = AddsUp(lambda: [(bench.delivery, bench.unsettled)])
    trio.lowlevel.add_instrument(watch)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.delivery.run)
            yield bench
            bench.delivery.close()
    finally:
        trio.lowlevel.remove_instrument(watch)


class AddsUp(trio.abc.Instrument):
    """Checks the equation of the ledger after every step of every task."""

    def __init__(self, unsettled: Callable[[], Sequence[tuple[Delivery, int]]]) -> None:
        self._unsettled = unsettled

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        for delivery, unsettled in self._unsettled():
            account = delivery.account()
            settled = account.delivered + account.dead_lettered + account.spilled + sum(account.dropped.values())
            assert account.in_flight == unsettled, (task.name, account, unsettled)
            assert account.accepted == settled + unsettled


@dataclass
class Engine:
    """An intake with its deliveries."""

    intake: Intake
    aggregator: Aggregator
    benches: dict[str, Bench]
    stopped: bool = False

    def offer(self, count: int = 1, *, prefix: str = "event", size: int | None = None) -> bool:
        """Offer one request of ``count`` events."""
        events = make_events(count, prefix=prefix)
        return self.intake.offer(events, 100 * count if size is None else size)

    def offer_one(self, name: str) -> bool:
        return self.intake.offer([make_event(name)], 100)

    def close(self) -> None:
        self.stopped = True
        self.intake.close()


def make_engine(
    sinks: dict[str, ScriptedSink],
    *,
    service: Settings | None = None,
    delivery: dict[str, dict[str, Any]] | None = None,
    blocking: bool = False,
) -> Engine:
    """An intake before these sinks; ``delivery`` has the fields of each one's `DeliverySettings` by name."""
    service = service or settings()
    benches = {
        name: make_bench(sink, service=service, name=name, **(delivery or {}).get(name, {}))
        for name, sink in sinks.items()
    }
    for bench in benches.values():
        bench.delivery.on_settled = lambda _chunks: None  # the intake's to set
    aggregator = Aggregator(service.aggregate_minutes)
    intake = Intake(
        [bench.delivery for bench in benches.values()],
        aggregator,
        queue_size=service.queue_size,
        queue_bytes=service.queue_bytes,
        blocking=blocking,
    )
    return Engine(intake, aggregator, benches)


@asynccontextmanager
async def engine_running(engine: Engine) -> AsyncIterator[Engine]:
    """Run intake and deliveries; leaving the block closes the intake and waits until all is settled."""
    for bench in engine.benches.values():
        bench.start = trio.current_time()
    async with trio.open_nursery() as delivering:
        for bench in engine.benches.values():
            delivering.start_soon(bench.delivery.run)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.intake.run)
            yield engine
            engine.close()


def ids(events: Sequence[Event]) -> list[str]:
    return [event.id for event in events]
