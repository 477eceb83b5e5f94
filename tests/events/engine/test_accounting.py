"""Everything at random, seeded by Hypothesis: sinks, outcomes, requests, waiters, a cancellation. The books balance.

At every step of every task and for each sink:
accepted = delivered + dead-lettered + evicted + spilled + dropped + in flight;
what the ledger calls delivered is what the sink has stored; nothing exceeds its bound. At the end nothing is in flight.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import partial

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes.base.errors import BatchRejected, SinkUnavailable
from hermes.dead_letters import MemoryDeadLetters
from hermes.events.ack import Ack, Outcome, Receipt
from hermes.events.engine.context import SinkContext
from hermes.events.engine.making import make_engine
from hermes.events.event import Batch
from hermes.events.settings import EngineSettings
from hermes.events.sink import DeliverySettings
from hermes.testing import make_event
from tests.events.engine.kit import Watch


@dataclass
class RandomSink:
    """Takes a while, and then stores the batch, a part of it, or nothing; a write that is cancelled stores nothing."""

    dice: random.Random
    max_batch: int
    concurrency: int
    health: float
    stored: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    async def write(self, batch: Batch) -> None:
        assert 1 <= len(batch) <= self.max_batch
        await trio.sleep(self.dice.choice([0, 0, 0.01, 0.3, 5]))  # the last is beyond the timeout
        if self.dice.random() > self.health:
            raise SinkUnavailable("not now", retry_after=self.dice.choice([None, 0.2]))
        bad = {n: "poison" for n in range(len(batch)) if self.dice.random() < 0.1}
        self.stored += [event.id for n, event in enumerate(batch) if n not in bad]
        self.refused += [batch[n].id for n in bad]
        if bad or self.dice.random() < 0.05:
            raise BatchRejected(bad)


@dataclass(frozen=True)
class Plan:
    """One run: the sinks as (max_batch, concurrency, health, required), the requests as (pause, events, waits)."""

    seed: int
    queue_size: int
    sinks: list[tuple[int, int, float, bool]]
    requests: list[tuple[float, int, bool]]
    cancel_after: float | None


PLANS = st.builds(
    Plan,
    seed=st.integers(0, 2**32),
    queue_size=st.integers(1, 60),
    sinks=st.lists(
        st.tuples(st.integers(1, 20), st.integers(1, 4), st.sampled_from([0.0, 0.5, 0.9, 1.0]), st.booleans()),
        min_size=1,
        max_size=3,
    ),
    requests=st.lists(
        st.tuples(st.sampled_from([0.0, 0.0, 0.01, 0.2, 7.0]), st.integers(1, 30), st.booleans()), max_size=60
    ),
    cancel_after=st.none() | st.floats(0, 30),
)


class Run:
    """The engine of a plan, watched at every step."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        dice = random.Random(plan.seed)
        names = [f"sink-{n}" for n in range(len(plan.sinks))]
        service = EngineSettings(
            worker_count=3,
            batch_size=5,
            flush_interval=0.1,
            queue_size=plan.queue_size,
            queue_bytes=2**20,
            backpressure_mode="block",
        )
        self.letters = MemoryDeadLetters(100_000)
        self.sinks = [RandomSink(dice, *sink[:3]) for sink in plan.sinks]
        contexts = [
            SinkContext(
                name,
                sink,
                DeliverySettings(required=plan.sinks[n][3], timeout=2, retries=2, max_backoff=1, breaker_open=3),
                self.letters,
            )
            for n, (name, sink) in enumerate(zip(names, self.sinks, strict=True))
        ]
        self.engine = make_engine(contexts, service)
        self.deliveries, self.intake = self.engine.deliveries, self.engine.intake
        self.aggregator = self.engine.aggregator
        self.taken: list[str] = []

    def check(self) -> None:
        admission = self.intake.admission
        assert 0 <= admission.events <= self.plan.queue_size
        assert admission.accepted == len(self.taken)
        for delivery, sink in zip(self.deliveries, self.sinks, strict=True):
            account = delivery.account()
            assert account.balanced, account
            # What the sink has refused is counted, with the rest of its batch, once the dead letters have it.
            uncounted = len(sink.stored) + len(sink.refused) - account.delivered - account.dead_lettered
            assert 0 <= uncounted <= 3 * sink.max_batch
            assert uncounted == 0 or sink.refused
            buffered = delivery._buffer.waiting.statistics().buffered_items
            if not delivery._abandoned:  # then the buffer keeps what the account says is lost
                assert 0 <= account.in_flight - buffered <= 3 * sink.max_batch
            assert buffered <= max(self.plan.queue_size, sink.max_batch)

    async def offer_all(self) -> None:
        numbers = iter(range(10**6))
        for pause, count, waits in self.plan.requests:
            if pause:
                await trio.sleep(pause)
            events = [make_event(f"event-{next(numbers)}") for _ in range(min(count, self.plan.queue_size))]
            names = [event.id for event in events]
            before = self.intake.admission.accepted
            if self.intake.offer(events, 10 * count):
                self.taken += names
            elif waits:
                self.intake.submit(events, 10 * count, Ack.ACCEPTED, partial(self.hear, names))
            assert self.intake.admission.accepted in {before, before + len(names)}

    def hear(self, names: list[str], outcome: Outcome, _receipt: Receipt | None) -> None:
        if outcome is Outcome.TAKEN:
            self.taken += names

    async def main(self) -> bool:
        with Watch(self.check) as watch, trio.CancelScope() as scope:
            if self.plan.cancel_after is not None:
                scope.deadline = trio.current_time() + self.plan.cancel_after
            await self.engine.run(self.offer_all)
        assert watch.steps
        return scope.cancelled_caught


@settings(max_examples=150)
@given(PLANS)
def test_the_books_balance_at_every_step_and_at_the_end(plan: Plan) -> None:
    run = Run(plan)
    cancelled = trio.run(run.main, clock=trio.testing.MockClock(autojump_threshold=0))

    accepted = run.intake.admission.accepted
    one_is_required = any(required for *_, required in plan.sinks)
    for delivery, sink, (*_, required) in zip(run.deliveries, run.sinks, plan.sinks, strict=True):
        if not cancelled:
            assert delivery.account().in_flight == 0
            assert delivery.account().accepted == accepted
            assert "shutdown" not in delivery.account().dropped
        account = delivery.account()
        assert account.balanced, account
        assert account.in_flight == 0
        assert account.accepted == accepted == len(run.taken)
        assert len(sink.stored) + len(sink.refused) + sum(account.dropped.values()) == accepted
        assert len(set(sink.stored + sink.refused)) == len(sink.stored) + len(sink.refused), "an event came out twice"
        assert set(sink.stored + sink.refused) <= set(run.taken)
        if required or len(plan.sinks) == 1:
            assert "queue_full" not in account.dropped
    assert len(run.letters) == sum(len(sink.refused) for sink in run.sinks)
    if not cancelled:
        assert run.aggregator.received.total() == accepted
        if one_is_required or len(plan.sinks) == 1:
            assert run.intake.admission.events == 0
