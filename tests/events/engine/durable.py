"""Deliveries with a journal behind them, put together for a test, and a log that does what the test says.

Invariants, looked at after every step of any task (`Durable.check`): every event that a sink is owed is on disk alone
or in memory, and nowhere twice; memory is within its bounds. Everything runs on the virtual clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio

from hermes.base.errors import LogUnavailable
from hermes.dead_letters import MemoryDeadLetters
from hermes.events.ack import Ack, Outcome, Receipt
from hermes.events.engine.admission import Admission
from hermes.events.engine.aggregate import Aggregator
from hermes.events.engine.backlog import Backlog
from hermes.events.engine.context import SinkContext
from hermes.events.engine.delivery import Delivery
from hermes.events.engine.engine import Engine
from hermes.events.engine.intake import Intake, IntakeOptions
from hermes.events.engine.journal import EventJournal, open_journal
from hermes.events.engine.journal_intake import JournalIntake
from hermes.events.engine.ledger import Account
from hermes.events.event import Chunk, Event
from hermes.events.settings import EngineSettings
from hermes.events.sink import DeliverySettings
from hermes.store.log import Record
from hermes.store.log.memory import MemoryLog
from hermes.testing import ScriptedSink, make_chunk, make_events
from tests.events.engine.kit import Watch, around, settings

MIB = 2**20


class ScriptedLog(MemoryLog):
    """A log in memory that can stall, be slow, fail or lose records, and counts what it is asked.

    ``failing`` has the error of each verb ("append", "read", "trim", "snapshot") that fails now, ``delay`` the seconds
    that each takes before it does anything. ``lost`` are indexes that a repair has found lost.
    """

    def __init__(self, max_bytes: int = 256 * MIB) -> None:
        super().__init__(max_bytes)
        self.failing: dict[str, LogUnavailable] = {}
        self.delay: dict[str, float] = {}
        self.calls: Counter[str] = Counter()
        self.reads: list[tuple[int, int]] = []
        """Index and number of the records of each read that found any."""
        self.lost: set[int] = set()
        self.unowned = 0
        self._stalled: dict[str, trio.Event] = {}

    def stall(self, verb: str) -> None:
        """Make the calls of ``verb`` that begin from now on wait until `resume`."""
        self._stalled[verb] = trio.Event()

    def resume(self, verb: str) -> None:
        """End `stall`."""
        self._stalled.pop(verb).set()

    def fail(self, *verbs: str, error: LogUnavailable | None = None) -> None:
        """Make the calls of ``verbs`` fail from now on, until `mend`."""
        self.failing |= dict.fromkeys(verbs, error or LogUnavailable("the test says so"))

    def mend(self) -> None:
        """End `fail`."""
        self.failing.clear()

    async def append(self, records: Sequence[bytes], *, expected_index: int | None = None) -> int:
        await self._begin("append")
        return await super().append(records, expected_index=expected_index)

    async def read(self, from_index: int, *, max_records: int = 1000, max_bytes: int = 8 * MIB) -> list[Record]:
        await self._begin("read")
        records: list[Record] = []
        while not records and from_index < self.next:
            page = await super().read(from_index, max_records=max_records, max_bytes=max_bytes)
            records = [record for record in page if record.index not in self.lost]
            from_index = page[-1].index + 1 if page else self.next
        if records:
            self.reads.append((records[0].index, len(records)))
        return records

    async def trim(self, to_index: int) -> None:
        await self._begin("trim")
        await super().trim(to_index)

    async def take_snapshot(self, index: int, state: bytes) -> None:
        await self._begin("snapshot")
        await super().take_snapshot(index, state)

    async def count_unowned(self) -> int:
        await self._begin("count_unowned")
        return self.unowned

    async def _begin(self, verb: str) -> None:
        self.calls[verb] += 1
        if verb in self._stalled:
            await self._stalled[verb].wait()
        await trio.sleep(self.delay.get(verb, 0))
        if verb in self.failing:
            raise self.failing[verb]


@dataclass
class Durable:
    """A journal with deliveries that read it. ``offered`` counts the events of this run."""

    log: ScriptedLog
    journal: EventJournal
    sinks: dict[str, ScriptedSink]
    deliveries: dict[str, Delivery]
    dead_letters: MemoryDeadLetters
    offered: int = 0
    start: float = 0.0

    @property
    def sink(self) -> ScriptedSink:
        """The only one."""
        (sink,) = self.sinks.values()
        return sink

    @property
    def delivery(self) -> Delivery:
        """The only one."""
        (delivery,) = self.deliveries.values()
        return delivery

    @property
    def account(self) -> Account:
        """The only delivery's."""
        return self.delivery.account()

    async def put(self, *chunks: Chunk) -> None:
        """Commit chunks and offer them, as the intake does."""
        await self.journal.append(chunks)
        self.offered += sum(map(len, chunks))
        for delivery in self.deliveries.values():
            delivery.offer(chunks)

    async def put_events(self, *counts: int, payload: bytes = b"{}") -> list[Event]:
        """Put a chunk of each number of new events; return them all."""
        chunks = []
        number = self.journal.events
        for count in counts:
            chunks.append(make_chunk(make_events(count, prefix=f"event-{number}", payload=payload)))
            number += count
        await self.put(*chunks)
        return [event for chunk in chunks for event in chunk.events]

    def offer_unkept(self, count: int, *, prefix: str) -> list[Event]:
        """Offer a chunk that could not be committed."""
        chunk = make_chunk(make_events(count, prefix=prefix))
        self.offered += count
        for delivery in self.deliveries.values():
            delivery.offer([chunk])
        return chunk.events

    def check(self) -> None:
        """The invariants, as the header has them."""
        for delivery in self.deliveries.values():
            check_delivery(delivery, self.journal)

    async def end(self) -> None:
        """What the app does when all tasks have ended."""
        for delivery in self.deliveries.values():
            delivery.abandon(self.offered)
            account = delivery.account()
            assert account.in_flight == 0
            assert account.balanced, account
            assert account.accepted == self.offered + account.replayed
        await self.journal.save()


def check_delivery(delivery: Delivery, journal: EventJournal) -> None:
    """What is owed has one place, the ledger agrees, and memory is within its bounds."""
    backlog, account = backlog_of(delivery), delivery.account()
    records = backlog.records
    kept = {index: held for index, held in records.loaded.items() if held.kept}
    in_memory = sum(held.left for held in kept.values()) + delivery._uncommitted
    if not delivery._abandoned:  # then the account says already what becomes of them
        assert account.in_flight == backlog.events + in_memory, account
    assert account.balanced, account
    assert min(account.in_flight, backlog.events, delivery._uncommitted) >= 0

    progress = backlog.records.progress
    assert backlog.events + sum(held.left for held in kept.values()) <= journal.events - progress.settled
    on_disk = [index for each in [*records.ranges, *records.put_back.ranges] for index in range(each.start, each.stop)]
    assert 0 <= records.put_back.events <= records.refused_on_disk <= backlog.events
    places = sorted([*on_disk, *kept])
    missing = [index for gap in progress.gaps(journal.next) for index in range(*gap)]
    assert places == missing[: len(places)], "a record has two places, or none"

    buffer = delivery._buffer
    statistics = buffer.waiting.statistics()
    assert statistics.buffered_items + buffer._events_in_hand <= buffer.max_events
    assert statistics.buffered_bytes + buffer._bytes_in_hand <= buffer.max_bytes
    assert len(records.ranges) <= 2001
    assert len(records.put_back.ranges) <= 2001
    assert set(records.put_back.parts) <= set(on_disk)
    assert records.refused == sum(held.held_at is not None for held in records.loaded.values())


def backlog_of(delivery: Delivery) -> Backlog:
    """What the journal owes the sink."""
    assert delivery._backlog is not None
    return delivery._backlog


async def make_durable(
    log: ScriptedLog | None = None,
    sinks: dict[str, ScriptedSink] | ScriptedSink | None = None,
    *,
    service: EngineSettings | None = None,
    max_bytes: int = 256 * MIB,
    each: dict[str, dict[str, Any]] | None = None,
    **delivery: Any,
) -> Durable:
    """Deliveries to ``sinks`` on ``log``; ``delivery``, and by name ``each``, are fields of `DeliverySettings`."""
    if not isinstance(sinks, dict):
        sinks = {"fake": sinks or ScriptedSink()}
    log = log or ScriptedLog()
    journal = await open_journal(log, max_bytes)
    dead_letters = MemoryDeadLetters(1000)
    service = service or settings()
    deliveries = {
        name: Delivery(
            SinkContext(name, sink, DeliverySettings(**(delivery | (each or {}).get(name, {}))), dead_letters),
            service,
            journal,
        )
        for name, sink in sinks.items()
    }
    journal.forget_unknown_sinks()
    return Durable(log, journal, sinks, deliveries, dead_letters)


@asynccontextmanager
async def durable_running(durable: Durable) -> AsyncIterator[Durable]:
    """Run the deliveries; leaving the block closes them, waits for their end, and saves."""
    durable.start = trio.current_time()
    try:
        with Watch(durable.check):
            async with trio.open_nursery() as nursery:
                for delivery in durable.deliveries.values():
                    nursery.start_soon(delivery.run)
                yield durable
                for delivery in durable.deliveries.values():
                    delivery.close()
    finally:
        with trio.CancelScope(shield=True):
            await durable.end()


@dataclass
class Asked:
    """A request that was submitted: what it has heard, and when in seconds since the test began."""

    ids: list[str]
    call_off: Callable[[], None] | None = None
    outcome: Outcome | None = None
    receipt: Receipt | None = None
    heard_at: float | None = None

    def hear(self, outcome: Outcome, receipt: Receipt | None) -> None:
        assert self.outcome is None, "answered twice"
        self.outcome, self.receipt, self.heard_at = outcome, receipt, trio.current_time()


@dataclass
class DurableEngine:
    """An engine with a journal, and what its deliveries stand on."""

    durable: Durable
    engine: Engine
    _asked: int = 0

    @property
    def intake(self) -> Intake:
        return self.engine.intake

    @property
    def aggregator(self) -> Aggregator:
        return self.engine.aggregator

    @property
    def log(self) -> ScriptedLog:
        return self.durable.log

    @property
    def sinks(self) -> dict[str, ScriptedSink]:
        return self.durable.sinks

    def account(self, sink: str = "fake") -> Account:
        return self.durable.deliveries[sink].account()

    def ask(self, ack: Ack = Ack.DURABLE, count: int = 1, *, size: int = 100) -> Asked:
        """Submit a request of ``count`` new events."""
        events = make_events(count, prefix=f"request-{self._asked}")
        self._asked += 1
        asked = Asked([event.id for event in events])
        asked.call_off = self.intake.submit(events, size, ack, asked.hear)
        return asked

    def check(self) -> None:
        for delivery in self.durable.deliveries.values():
            check_delivery(delivery, self.durable.journal)
            account = delivery.account()
            assert account.accepted - account.replayed <= self.intake.accepted


async def make_durable_engine(
    log: ScriptedLog | None = None,
    sinks: dict[str, ScriptedSink] | ScriptedSink | None = None,
    *,
    service: EngineSettings | None = None,
    blocking: bool = False,
    ack_timeout: float = 30.0,
    **durable: Any,
) -> DurableEngine:
    """An engine of what `make_durable` makes."""
    service = service or settings()
    made = await make_durable(log, sinks, service=service, **durable)
    aggregator = Aggregator(service.aggregate_minutes)
    deliveries = list(made.deliveries.values())
    if not any(delivery.awaited for delivery in deliveries):
        deliveries[0].awaited = True
    options = IntakeOptions(Admission(service.queue_size, service.queue_bytes), blocking, ack_timeout)
    intake = JournalIntake(deliveries, aggregator, options, made.journal)
    return DurableEngine(made, Engine(intake, deliveries, made.journal, aggregator))


@asynccontextmanager
async def durable_engine_running(engine: DurableEngine) -> AsyncIterator[DurableEngine]:
    """Run the engine; leaving the block closes it, waits until all has ended, and looks at the accounts."""
    engine.durable.start = trio.current_time()
    try:
        with Watch(engine.check):
            async with around(engine.engine):
                yield engine
    finally:
        for account in engine.engine.accounts():
            assert account.in_flight == 0
            assert account.accepted == engine.intake.accepted + account.replayed
        assert engine.engine.audit()
