"""The parts of the engine put together for a test, with `ScriptedSink` in the place of a database.

Invariant: after every step of any task, for each delivery, what the ledger has in flight is what was offered and not
settled (`Bench.check`). Everything runs on the virtual clock. With a journal behind it: `tests.events.engine.durable`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import trio
from msgspec.structs import replace

from hermes.dead_letters import MemoryDeadLetters
from hermes.events.ack import Ack, Outcome
from hermes.events.engine.aggregate import Aggregator
from hermes.events.engine.context import SinkContext
from hermes.events.engine.delivery import Delivery
from hermes.events.engine.engine import Engine
from hermes.events.engine.intake import Intake
from hermes.events.engine.making import make_engine as production_make_engine
from hermes.events.event import Chunk, Event
from hermes.events.settings import EngineSettings
from hermes.events.sink import DeliverySettings
from hermes.testing import ScriptedSink, make_chunk, make_event, make_events

INTERVAL = 0.1


def settings(**values: Any) -> EngineSettings:
    """The defaults of the service but for these."""
    return EngineSettings(**({"worker_count": 4, "flush_interval": INTERVAL} | values))


@dataclass
class Bench:
    """One delivery with everything around it. ``offer`` counts what ``on_settled`` has to bring back."""

    sink: ScriptedSink
    delivery: Delivery
    dead_letters: MemoryDeadLetters
    unsettled: int = 0
    settled: list[Chunk] = field(default_factory=list)
    start: float = 0.0
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
        return self.delivery.statistics().breaker.value

    def began(self) -> list[float]:
        """When each write began, in seconds since the test did."""
        return [round(write.began_at - self.start, 9) for write in self.sink.writes]

    def check(self) -> None:
        """The equation of the ledger, against what was offered and what has come back."""
        account = self.delivery.account()
        refused = account.dead_lettered + account.evicted
        settled = account.delivered + refused + account.spilled + sum(account.dropped.values())
        partly = sum(len(job.batch) - job.left for job in self.delivery._buffer.jobs)  # chunks are settled as a whole
        assert account.in_flight == self.unsettled - partly, account
        assert account.accepted == settled + account.in_flight
        assert account.balanced

    def _settle(self, chunks: Sequence[Chunk]) -> None:
        self.settled += chunks
        self.unsettled -= sum(map(len, chunks))


def make_bench(
    sink: ScriptedSink | None = None,
    *,
    service: EngineSettings | None = None,
    name: str = "fake",
    letters: int = 100,
    **delivery: Any,
) -> Bench:
    """A delivery to ``sink``; ``delivery`` are fields of `DeliverySettings`."""
    sink = sink or ScriptedSink()
    dead_letters = MemoryDeadLetters(letters)
    context = SinkContext(name, sink, DeliverySettings(**delivery), dead_letters)
    made = Delivery(context, service or settings(), on_settled=lambda chunks: bench._settle(chunks))
    bench = Bench(sink, made, dead_letters)
    return bench


@asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[Bench]:
    """Run the delivery; leaving the block closes it and waits until everything has its outcome."""
    bench.start = trio.current_time()
    with Watch(bench.check):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.delivery.run)
            yield bench
            bench.delivery.close()


class Watch(trio.abc.Instrument):
    """Calls ``check`` after every step of every task, while the block is open; its first failure is the block's."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._failure: Exception | None = None
        self.steps = 0

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += 1
        try:
            if self._failure is None:
                self._check()
        except Exception as error:  # noqa: BLE001 - Trio would log it and go on without the instrument
            self._failure = error

    def __enter__(self) -> Self:
        trio.lowlevel.add_instrument(self)
        return self

    def __exit__(self, *_: object) -> None:
        trio.lowlevel.remove_instrument(self)
        if self._failure is not None:
            raise self._failure


@dataclass
class MemoryEngine:
    """An engine without a journal, and the bench of each of its deliveries."""

    engine: Engine
    benches: dict[str, Bench]

    @property
    def intake(self) -> Intake:
        return self.engine.intake

    @property
    def aggregator(self) -> Aggregator:
        return self.engine.aggregator

    def offer(self, count: int = 1, *, prefix: str = "event", size: int | None = None) -> bool:
        """Offer one request of ``count`` events."""
        events = make_events(count, prefix=prefix)
        return self.intake.offer(events, 100 * count if size is None else size)

    def offer_one(self, name: str) -> bool:
        return self.intake.offer([make_event(name)], 100)

    def submit_one(
        self, name: str, answer: Callable[[bool], None], *, size: int = 100, ack: Ack = Ack.ACCEPTED
    ) -> Callable[[], None]:
        """Submit one event; ``answer`` hears whether it has come as far as ``ack`` says."""
        return self.intake.submit(
            [make_event(name)], size, ack, lambda outcome, _receipt: answer(outcome is Outcome.TAKEN)
        )


def make_engine(
    sinks: dict[str, ScriptedSink],
    *,
    service: EngineSettings | None = None,
    delivery: dict[str, dict[str, Any]] | None = None,
    blocking: bool = False,
) -> MemoryEngine:
    """An engine with these sinks; ``delivery`` has the fields of each one's `DeliverySettings` by name."""
    service = replace(service or settings(), backpressure_mode="block" if blocking else "strict")
    dead_letters = MemoryDeadLetters(100)
    contexts = [
        SinkContext(name, sink, DeliverySettings(**(delivery or {}).get(name, {})), dead_letters)
        for name, sink in sinks.items()
    ]
    made = production_make_engine(contexts, service)
    benches = {each.name: Bench(sinks[each.name], each, dead_letters) for each in made.deliveries}
    return MemoryEngine(made, benches)


@asynccontextmanager
async def engine_running(engine: MemoryEngine) -> AsyncIterator[MemoryEngine]:
    """Run the engine; leaving the block closes it and waits until every event has its outcome."""
    for bench in engine.benches.values():
        bench.start = trio.current_time()
    async with around(engine.engine):
        yield engine


@asynccontextmanager
async def around(engine: Engine) -> AsyncIterator[None]:
    """Run an engine around a block; leaving the block closes the engine and waits until its tasks have ended."""
    ended = trio.Event()

    async def run(task_status: trio.TaskStatus[None]) -> None:
        async def inside() -> None:
            task_status.started()
            await ended.wait()

        await engine.run(inside)

    async with trio.open_nursery() as nursery:
        await nursery.start(run)
        yield
        ended.set()


def ids(events: Sequence[Event]) -> list[str]:
    return [event.id for event in events]
