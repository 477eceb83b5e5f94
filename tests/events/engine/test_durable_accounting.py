"""Lives of an engine on one journal, everything at random: sinks, requests, log failures, stops and crashes.

Hypothesis draws the plan and its seed. At every step of every task the books balance and every record has one place.
After the last life, in which nothing fails: what was said to be durable is in every sink, what was said to be refused
is in none, nothing comes again whose progress was saved, and the journal is empty.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import msgspec
import trio
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from hermes.base.errors import BatchRejected, LogUnavailable, SinkUnavailable
from hermes.dead_letters import DeadLetter, MemoryDeadLetters
from hermes.events.ack import Ack, Outcome, Receipt
from hermes.events.engine.context import SinkContext
from hermes.events.engine.journal import JournalState, open_journal
from hermes.events.engine.journal_record import decode_chunk
from hermes.events.engine.ledger import Account
from hermes.events.engine.making import make_engine
from hermes.events.event import Batch
from hermes.events.letters import sink_source, to_event
from hermes.events.settings import EngineSettings
from hermes.events.sink import DeliverySettings
from hermes.store.log import Record
from hermes.store.log.memory import MemoryLog
from hermes.testing import make_event
from tests.events.engine.durable import check_delivery
from tests.events.engine.kit import Watch


class RandomLog(MemoryLog):
    """Fails now and then, takes its time, and knows what each saved state says. ``dead``: nothing reaches it."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__()
        self.dead = False
        self.trouble = 0.0
        self.saved: dict[str, set[int]] = defaultdict(set)
        self.places: dict[str, int] = {}
        self._dice = dice

    async def append(self, records: Sequence[bytes], *, expected_index: int | None = None) -> int:
        await self._begin()
        for index, data in enumerate(records, self.next):
            chunk, _ = decode_chunk(data, index)
            self.places |= {event.id: index for event in chunk.events}
        index = await super().append(records, expected_index=expected_index)
        await self._take_time()  # cancelled here, it has appended all the same
        return index

    async def read(self, from_index: int, *, max_records: int = 1000, max_bytes: int = 8 * 2**20) -> list[Record]:
        await self._begin()
        return await super().read(from_index, max_records=min(max_records, 3), max_bytes=max_bytes)

    async def trim(self, to_index: int) -> None:
        await self._begin()
        for settled in self.saved.values():
            assert set(range(self.first, to_index)) <= settled, "trimmed, though a sink may need it"
        await super().trim(to_index)

    async def take_snapshot(self, index: int, state: bytes) -> None:
        await self._begin()
        await super().take_snapshot(index, state)
        for name, progress in msgspec.json.decode(state, type=JournalState).sinks.items():
            self.saved[name] |= set(range(progress.cursor))
            self.saved[name] |= {index for start, stop, _ in progress.done for index in range(start, stop)}

    async def _begin(self) -> None:
        await self._take_time()
        if self.dead or self._dice.random() < self.trouble:
            raise LogUnavailable("not now")

    async def _take_time(self) -> None:
        await trio.sleep(self._dice.choice([0, 0, 0.001, 0.05]) if self.trouble else 0)


class RandomDeadLetters(MemoryDeadLetters):
    """Cannot be written now and then."""

    trouble = 0.0
    dice = random.Random()

    async def add(self, letters: Sequence[DeadLetter]) -> None:
        await trio.lowlevel.checkpoint()
        if self.dice.random() < self.trouble:
            raise LogUnavailable("no letters now")
        await super().add(letters)


@dataclass
class Store:
    """What a sink has stored, in all lives: an idempotent one."""

    name: str
    stored: set[str] = field(default_factory=set)


@dataclass
class RandomSink:
    """Takes a while, and then stores the batch, a part of it, or nothing; a few ids it never takes.

    ``saved`` are the records that were settled when its life began.
    """

    store: Store
    log: RandomLog
    saved: frozenset[int]
    dice: random.Random
    max_batch: int
    concurrency: int
    health: float
    done: set[str] = field(default_factory=set)

    async def write(self, batch: Batch) -> None:
        assert 1 <= len(batch) <= self.max_batch
        for event in batch:
            assert self.log.places.get(event.id, -1) not in self.saved, "delivered again, though that was saved"
            assert event.id not in self.done, "delivered twice in one life"
        await trio.sleep(self.dice.choice([0, 0, 0.01, 0.3, 5]) if self.health < 1 else 0)  # the last: beyond timeout
        if self.dice.random() >= self.health:
            raise SinkUnavailable("not now", retry_after=self.dice.choice([None, 0.2]))
        bad = {n: "poison" for n, event in enumerate(batch) if int(event.id.partition("-")[2]) % 13 == 5}
        self.store.stored |= {event.id for n, event in enumerate(batch) if n not in bad}
        if bad or self.dice.random() < 0.05:
            raise BatchRejected(bad)
        self.done |= {event.id for event in batch}


@dataclass(frozen=True)
class LifePlan:
    """One life: the sinks as (max_batch, concurrency, health, order), the requests as (pause, events, ack), its end.

    It is stopped when the requests are over, or ``after`` so many seconds cancelled or crashed.
    """

    queue_size: int
    sinks: list[tuple[int, int, float, Literal["oldest", "interleaved"]]]
    requests: list[tuple[float, int, Ack]]
    trouble: float
    blocking: bool
    end: str
    after: float


@dataclass(frozen=True)
class Plan:
    seed: int
    required: list[bool]
    journal_bytes: int
    lives: list[LifePlan]


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    required = draw(st.lists(st.booleans(), min_size=1, max_size=3))
    sink = st.tuples(
        st.integers(1, 12),
        st.integers(1, 3),
        st.sampled_from([0.0, 0.5, 0.9, 1.0]),
        st.sampled_from(["oldest", "interleaved"]),
    )
    request = st.tuples(
        st.sampled_from([0.0, 0.0, 0.0, 0.01, 0.3, 7.0]), st.integers(1, 25), st.sampled_from(list(Ack))
    )
    life = st.builds(
        LifePlan,
        queue_size=st.sampled_from([1, 7, 30, 1000]),
        sinks=st.lists(sink, min_size=len(required), max_size=len(required)),
        requests=st.lists(request, max_size=40),
        trouble=st.sampled_from([0.0, 0.0, 0.1, 0.5]),
        blocking=st.booleans(),
        end=st.sampled_from(["stop", "cancel", "crash"]),
        after=st.floats(0, 30),
    )
    return Plan(
        draw(st.integers(0, 2**32)),
        required,
        draw(st.sampled_from([2**30, 2**30, 5000])),
        draw(st.lists(life, min_size=1, max_size=3)),
    )


class World:
    """What outlives the engine, and what the clients were told."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.dice = random.Random(plan.seed)
        self.log = RandomLog(self.dice)
        self.letters = RandomDeadLetters(10**6)
        self.letters.dice = self.dice
        self.stores = [Store(f"sink-{n}") for n in range(len(plan.required))]
        self.awaited = [n for n, required in enumerate(plan.required) if required] or [0]
        self.numbers = iter(range(10**6))
        self.asked: set[str] = set()
        self.durable: set[str] = set()
        self.loose: set[str] = set()  # only in the queue, said a life that did not crash
        self.nothing: set[str] = set()
        self.dropped: Counter[tuple[int, str]] = Counter()
        self.crashes = 0

    def buried(self, store: Store) -> set[str]:
        return {to_event(letter).id for letter in self.letters if letter.source == sink_source(store.name)}

    async def live(self, plan: LifePlan, *, last: bool) -> None:
        life = Life(self, plan, last=last)
        await life.main()


class Life:
    """One run of the engine, as `hermes.app` builds it."""

    def __init__(self, world: World, plan: LifePlan, *, last: bool) -> None:
        self.world, self.plan, self.last = world, plan, last
        self.loose: set[str] = set()
        self.crashed = False

    def check(self) -> None:
        admission = self.intake.admission
        assert 0 <= admission.events <= self.plan.queue_size
        for delivery in self.deliveries:
            check_delivery(delivery, self.journal)
            account = delivery.account()
            assert account.accepted - account.replayed <= self.intake.accepted

    async def main(self) -> None:
        world, plan = self.world, self.plan
        world.log.dead, world.log.trouble = False, 0.0
        self.journal = await open_journal(world.log, world.plan.journal_bytes)
        service = EngineSettings(
            worker_count=3,
            batch_size=5,
            flush_interval=0.1,
            queue_size=plan.queue_size,
            queue_bytes=2**20,
            backpressure_mode="block" if plan.blocking else "strict",
            ack_timeout=5.0,
        )
        contexts = [
            SinkContext(
                store.name,
                RandomSink(
                    store,
                    world.log,
                    frozenset(world.log.saved[store.name]),
                    world.dice,
                    max_batch,
                    concurrency,
                    health,
                ),
                DeliverySettings(
                    required=world.plan.required[n],
                    timeout=2,
                    max_backoff=1,
                    breaker_open=3,
                    catch_up_order=order,
                    refusal_rows=2,  # so that some are held now and then
                    refusal_hold=20,
                ),
                world.letters,
            )
            for n, (store, (max_batch, concurrency, health, order)) in enumerate(
                zip(world.stores, plan.sinks, strict=True)
            )
        ]
        self.engine = make_engine(contexts, service, self.journal)
        self.deliveries, self.intake = self.engine.deliveries, self.engine.intake
        world.log.trouble = world.letters.trouble = plan.trouble
        with trio.CancelScope() as scope:
            try:
                with Watch(self.check):
                    await self.run(scope)
            finally:
                self.balance(self.engine.accounts())
                assert self.engine.audit()
        world.crashes += self.crashed

    def balance(self, accounts: Sequence[Account]) -> None:
        for n, account in enumerate(accounts):
            assert account.in_flight == 0, account
            assert account.accepted == self.intake.accepted + account.replayed
            assert min(account.delivered, account.dead_lettered, account.spilled, 0) == 0
            for reason, count in account.dropped.items():
                self.world.dropped[n, reason] += count

    async def run(self, scope: trio.CancelScope) -> None:
        plan = self.plan

        async def serve() -> None:
            async with trio.open_nursery() as serving:
                if plan.end == "cancel":
                    scope.deadline = trio.current_time() + plan.after
                elif plan.end == "crash":
                    serving.start_soon(self.crash, scope)
                await self.offer_all()
                if self.last:
                    await self.drained()
                self.engine.drain(within=5.0)
                serving.cancel_scope.cancel()

        await self.engine.run(serve)

    async def crash(self, scope: trio.CancelScope) -> None:
        await trio.sleep(self.plan.after)
        self.world.log.dead = self.crashed = True
        scope.cancel()

    async def drained(self) -> None:
        with trio.fail_after(1000):
            while any(delivery.account().in_flight for delivery in self.deliveries):  # noqa: ASYNC110 - the account
                await trio.sleep(1)
            await trio.sleep(1)

    async def offer_all(self) -> None:
        for pause, count, ack in self.plan.requests:
            await trio.sleep(pause)
            names = [f"event-{next(self.world.numbers)}" for _ in range(min(count, self.plan.queue_size))]
            self.world.asked |= set(names)
            hear = partial(self.hear, frozenset(names), ack)
            self.intake.submit([make_event(name) for name in names], 100 * len(names), ack, hear)

    def hear(self, names: frozenset[str], ack: Ack, outcome: Outcome, receipt: Receipt | None) -> None:
        world = self.world
        if self.crashed:
            return  # nobody is told anything any more
        if outcome in {Outcome.NO_ROOM, Outcome.NO_SPACE, Outcome.FAILED}:
            world.nothing |= names
        elif ack is Ack.ACCEPTED:
            assert outcome is Outcome.TAKEN
            world.loose |= names
        elif receipt is None or receipt.durable:
            world.durable |= names
        assert outcome is not Outcome.DROPPED, "no sink that is waited for drops anything"
        if ack is Ack.DELIVERED and outcome in {Outcome.TAKEN, Outcome.REFUSED}:
            for n in world.awaited:
                store = world.stores[n]
                assert names <= store.stored | world.buried(store)
                assert (outcome is Outcome.TAKEN) <= (names <= store.stored)


@hypothesis_settings(max_examples=150)
@given(plans())
def test_nothing_that_was_promised_is_lost_over_stops_cancellations_and_crashes(plan: Plan) -> None:
    world = World(plan)
    lives = [(life, False) for life in plan.lives]
    healthy = LifePlan(50, [(10, 2, 1.0, "oldest")] * len(plan.required), [(0, 1, Ack.DURABLE)], 0.0, False, "stop", 0)
    for life, last in [*lives, (healthy, True)]:
        trio.run(partial(world.live, life, last=last), clock=trio.testing.MockClock(autojump_threshold=0))

    assert not world.durable & world.nothing
    for n, store in enumerate(world.stores):
        got = store.stored | world.buried(store)
        assert not got & world.nothing, "said to be refused, and yet stored"
        assert got <= world.asked
        lost = world.durable - got
        dropped = {reason for (sink, reason), count in world.dropped.items() if sink == n and count}
        assert dropped <= {"shutdown", "queue_full", "journal_full"}
        if n in world.awaited:
            assert not lost
            assert "journal_full" not in dropped
        elif not world.crashes:
            assert len(lost) <= sum(count for (sink, _), count in world.dropped.items() if sink == n)
        if not world.crashes:
            dropped_in_all = sum(count for (sink, _), count in world.dropped.items() if sink == n)
            assert len((world.loose | world.durable) - got) <= dropped_in_all, "lost, and not counted"
    assert world.log.first == world.log.next
