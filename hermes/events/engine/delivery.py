"""The delivery to one sink: its own buffer, workers, breaker and retries, so that a dead sink never slows the others.

    offer → buffer (a Dispatcher: flushed by size or by interval) → worker → breaker → write → outcome
       └── no room: stays in the journal ──┘                            └── pause and again ──┘

With a journal nothing is given up while the service runs: a batch is written again until the sink takes it, and chunks
without room are read back later. A batch that is refused as a whole may be held, while others are tried. Invariants:
every event that is offered gets exactly one outcome in the ledger (delivered, dead-lettered, spilled to the journal, or
dropped with a reason), also when the worker is cancelled in the middle of a write. The buffer is within the bounds of
the queue; with a journal, together with the batches in hand, for there admission holds nothing back. The intake offers;
the engine runs `run`, which ends when the intake has closed and all is settled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import trio

from hermes.base.breaker import BreakerState
from hermes.base.errors import PluginError
from hermes.events.engine.attempts import Attempts
from hermes.events.engine.backlog import Backlog, BacklogOptions
from hermes.events.engine.buffer import Buffer
from hermes.events.engine.collectors import SinkNumbers
from hermes.events.engine.context import SinkContext
from hermes.events.engine.job import Job, Told
from hermes.events.engine.journal import EventJournal
from hermes.events.engine.ledger import Account, Ledger
from hermes.events.engine.sink_calls import SinkCalls
from hermes.events.engine.slices import answer_in_slices
from hermes.events.event import Batch, Chunk
from hermes.events.letters import sink_source
from hermes.events.settings import EngineSettings


@dataclass(frozen=True, slots=True)
class DeliveryStatistics:
    """A delivery as of now, beside its account."""

    oldest: float | None
    """When the oldest event without an outcome arrived, in Unix seconds; None if there is no such event, or before the
    first record was read."""
    on_disk: int
    """Events that are owed and in the journal alone."""
    held: int
    """Events that the sink has refused together with nearly everything else, in memory or on disk."""
    breaker: BreakerState
    open_for: float
    """Seconds until an open breaker may allow a trial."""
    failure: str
    failed_at: float | None
    """The message of the last failed call and its time in Unix seconds; both stay when the next call succeeds."""
    refusals: Mapping[str, int]
    """Events that became dead letters, by reason."""


def ignore_settled(_chunks: Sequence[Chunk]) -> None:
    """Do nothing: with a journal no request waits for room until its chunks are settled."""


class Delivery:
    """The sink of ``context`` at work. ``on_settled`` is called with chunks whose outcome in this sink is known.

    ``awaited``: requests with ``Hermes-Ack: delivered`` wait for this sink; by default for a required one. With a
    ``journal`` the sink's progress and backlog are kept there. Raises `PluginError` for a sink that takes nothing:
    ``max_batch`` or ``concurrency`` below 1.

    ::

        delivery = Delivery(SinkContext("main", sink, DeliverySettings(), dead_letters), EngineSettings(), journal)
        nursery.start_soon(delivery.run)
        delivery.offer([chunk])
        delivery.close()  # now `run` returns once the chunk has its outcome
        delivery.account().balanced
    """

    def __init__(
        self,
        context: SinkContext,
        service: EngineSettings,
        journal: EventJournal | None = None,
        *,
        awaited: bool | None = None,
        on_settled: Callable[[Sequence[Chunk]], None] = ignore_settled,
    ) -> None:
        name, sink = context.name, context.sink
        if sink.max_batch < 1 or sink.concurrency < 1:
            raise PluginError(
                f"sink {name!r} has max_batch {sink.max_batch} and concurrency {sink.concurrency}: "
                "each must be 1 or more. Tell its author."
            )
        self.name = name
        self.max_batch = sink.max_batch
        self.awaited = context.settings.required if awaited is None else awaited
        self._on_settled = on_settled
        self._context = context
        evictions = context.dead_letters.evictions
        source = sink_source(name)
        self._ledger = Ledger(name, lambda: evictions.own[source])
        self._calls = SinkCalls(context, self._ledger, min(service.worker_count, sink.concurrency))
        self._buffer = Buffer(context, service)
        self._attempts = Attempts(context, self._calls, self._ledger, self._spend, keeps=journal is not None)
        self._backlog = self._open_backlog(journal) if journal is not None else None
        # Events in memory that no journal has: a stop loses these, and spills the others.
        self._uncommitted = 0
        # Events with an outcome that no request is told, or not yet: a receipt may expire without them.
        self._unnoted = 0
        self._abandoned = False
        self._owed: int | None = None

    @property
    def numbers(self) -> SinkNumbers:
        """The counts beside the account."""
        return self._context.numbers

    @property
    def required(self) -> bool:
        """Whether the operator wants every event in this sink before its room is free."""
        return self._context.settings.required

    async def redeliver(self, batch: Batch) -> None:
        """As `SinkCalls.redeliver`."""
        try:
            await self._calls.redeliver(batch)
        finally:
            # A replay that stores something is a witness, also one that is refused in part.
            self._look_at_put_back()

    @property
    def cursor(self) -> int:
        """The index of the journal below which this sink needs nothing. Raises `RuntimeError` without a journal."""
        if self._backlog is None:
            raise RuntimeError("there is no journal")
        return self._backlog.records.cursor

    def offer(self, chunks: Sequence[Chunk]) -> None:
        """Take chunks into the buffer. A chunk that finds no room stays in the journal, or is dropped without one."""
        backlog = self._backlog
        for chunk in chunks:
            self._ledger.accept(len(chunk.events))
            # Without an index: the journal's storage failed after the request had been answered as accepted.
            if backlog is None or chunk.index < 0:
                self._offer_uncommitted(chunk)
            else:
                backlog.offer(chunk)

    def close(self) -> None:
        """Expect no more chunks: buffered ones are due now, and with a journal each is tried once, if at all."""
        # With a journal nothing is lost that is not tried, so a stop does not wait. Without one, the retries go on.
        if self._backlog is not None:
            self._calls.drain()
        else:
            self._calls.stop_holding()
        self._buffer.waiting.close()

    async def run(self) -> None:
        """Deliver until `close` has been called and everything has its outcome."""
        async with trio.open_nursery() as nursery:
            if self._backlog is not None:
                nursery.start_soon(self._backlog.run)
            # An inner nursery: the backlog is read until the last worker has ended.
            async with trio.open_nursery() as workers:
                for _ in range(self._calls.most):
                    workers.start_soon(self._work)
            nursery.cancel_scope.cancel()

    def account(self) -> Account:
        """The account of the events that were offered. The work is in proportion to the batches in hand."""
        return self._ledger.account(self._count_in_flight(), self._owed)

    @property
    def untold(self) -> int:
        """The most events that may have no outcome in the receipt of their request."""
        account = self.account()
        # Events of a batch that have their outcome are noted when the whole batch is done.
        partly = sum(len(job.batch) - job.left for job in self._buffer.jobs)
        return account.in_flight + partly + account.spilled + sum(account.dropped.values()) + self._unnoted

    def statistics(self) -> DeliveryStatistics:
        """How the sink is served now. The work is in proportion to the batches in hand."""
        calls, backlog = self._calls, self._backlog
        arrivals = [self._buffer.oldest, backlog.records.oldest if backlog is not None else None]
        return DeliveryStatistics(
            oldest=min([each for each in arrivals if each is not None], default=None),
            on_disk=backlog.events if backlog is not None else 0,
            held=self._buffer.held + (backlog.records.refused_on_disk if backlog is not None else 0),
            breaker=calls.breaker,
            open_for=calls.open_for,
            failure=calls.failure,
            failed_at=calls.failed_at,
            refusals=calls.refusals,
        )

    def abandon(self, accepted: int, uncommitted: int = 0) -> None:
        """After all tasks have ended: leave the events without an outcome to the journal, or count them as lost.

        The engine has ``accepted`` events; ``uncommitted`` of them were not offered yet, and no journal has them.
        """
        left = self._count_in_flight() + uncommitted
        lost = left if self._backlog is None else self._uncommitted + uncommitted
        # Events that never came to this delivery are in its account too: the stop is their outcome.
        self._ledger.accept(accepted - (self._ledger.accepted - self._ledger.replayed))
        self._ledger.drop(lost, "shutdown")
        self._ledger.spill(left - lost)
        self._uncommitted = 0
        self._abandoned = True
        self._calls.throttled.write_rest()
        if self._backlog is not None:
            self._owed = self._backlog.end()

    async def give_up_below(self, index: int) -> None:
        """Drop the events below ``index`` that are not in memory: the journal is crowded, and forgets their records.

        Raises `hermes.LogUnavailable` and `hermes.LogDamaged`.
        """
        if self._backlog is not None:
            lost, disowned = await self._backlog.give_up_below(index)
            self._uncommitted += disowned
            self._attempts.drop(lost, "journal_full", "the journal has nearly reached JOURNAL_MAX_BYTES")

    def _open_backlog(self, journal: EventJournal) -> Backlog:
        buffer = self._buffer
        # Half of the memory for records that were read back, where new chunks may overtake them.
        options = BacklogOptions(
            self.name, self._context.settings, self.max_batch, (buffer.max_events // 2, buffer.max_bytes // 2)
        )
        backlog = Backlog(
            journal,
            options,
            self._take,
            lambda count: self._attempts.drop(count, "damaged", "the journal has lost them"),
            lambda: self._calls.holding,
        )
        # Accepted by an earlier run, so they are in this account, too: they will be delivered here.
        self._ledger.accept(backlog.events, again=True)
        return backlog

    def _take(self, pieces: Sequence[Chunk]) -> bool:
        """Put all pieces of a record into the buffer, or none (False)."""
        # With a journal, or while events are held, admission holds back too little to bound the memory.
        return self._buffer.take(pieces, bounded=self._backlog is not None or self._calls.holding)

    def _offer_uncommitted(self, chunk: Chunk) -> None:
        """Put a chunk that no journal has into the buffer, or drop it."""
        # Piece by piece: without a journal's record, a part of a chunk may be taken and another dropped.
        for piece in chunk.split(self.max_batch):
            if self._take((piece,)):
                self._uncommitted += len(piece)
            else:
                self._attempts.drop(len(piece), "queue_full", "its buffer is full")
                if self.awaited and piece.receipt is not None:
                    piece.receipt.note(self.name, 0, 0, len(piece))
                self._on_settled([piece])

    async def _work(self) -> None:
        async for chunks in self._buffer.waiting:
            await self._handle(chunks)

    async def _handle(self, chunks: Sequence[Chunk]) -> None:
        """Deliver chunks as one batch; while it is held, the newest of the others is tried before it is tried again."""
        # The last job is tried; the others are held. A list, not calls within calls, which have a bound: a worker that
        # held 20 batches once tried no other, and good events waited for the end of the hold.
        jobs = [self._take_in_hand(chunks)]
        tries_others = True
        try:
            while jobs:
                job = jobs[-1]
                if job.held and tries_others:
                    if others := self._buffer.waiting.take_newest_nowait():
                        jobs.append(self._take_in_hand(others))
                        continue
                    if await self._put_back(jobs):
                        continue
                tries_others = True
                if job.left and await self._attempts.make(job):
                    self._look_at_put_back()
                    continue
                jobs.pop()
                self._put_down(job)
                # The job before has its turn first, however many new ones come: else it might never be tried again.
                tries_others = False
                if self.awaited and not job.left:
                    await self._note(job)
                self._look_at_put_back()
        finally:
            # After a stop or a bug as well: what is in hand then is spilled or lost, and the account has to say which.
            for job in reversed(jobs):
                self._put_down(job)

    def _take_in_hand(self, chunks: Sequence[Chunk]) -> Job:
        job = self._buffer.take_in_hand(chunks)
        # Asked for each chunk only if there is one: the usual batch has not been refused before.
        if self._backlog is not None and self._backlog.records.refused:
            job.remember([self._backlog.records.held_at(chunk) for chunk in chunks])
        return job

    async def _put_back(self, jobs: list[Job]) -> bool:
        """Leave held batches to the journal, which has their events, if others on disk wait for their room.

        Returns whether any batch was left: then the others come into the buffer, and are tried.
        """
        backlog, calls = self._backlog, self._calls
        if backlog is None or not backlog.unread or not calls.holding or calls.draining:
            return False
        before = len(jobs)
        for job in reversed(list(jobs)):
            chunks = job.batch.chunks
            # A batch that was refused before a witness has its second try first: its events may be dead letters.
            if job.is_held_since(calls.witnesses) and backlog.records.can_put_back(chunks):
                jobs.remove(job)
                self._buffer.put_down(job)
                backlog.return_to_disk(chunks, job.places_left(), calls.witnesses)
                if self.awaited:
                    await self._note(job)
        return len(jobs) < before

    def _look_at_put_back(self) -> None:
        """Have refused records read again when the sink takes events again, or when nothing else could be tried."""
        backlog = self._backlog
        if backlog is None or not backlog.records.put_back.ranges:
            return
        # With nothing in memory and nothing to be read, no worker would find out that the sink takes events again.
        if not self._calls.holding or not (backlog.unread or self._buffer.events or self._buffer.jobs):
            backlog.read_refused_again()

    def _put_down(self, job: Job) -> None:
        self._buffer.put_down(job)
        self._release(job)

    def _spend(self, spent: Sequence[tuple[Chunk, int]]) -> None:
        """Note events that have their outcome while others of their batch are still to be written."""
        for chunk, count in spent:
            self._uncommitted -= count if self._backlog is None else self._backlog.records.spend(chunk, count)

    def _release(self, job: Job) -> None:
        """Let go of a batch: all events have their outcome in the ledger, or a stop has come before that."""
        chunks, unspent = job.batch.chunks, job.unspent()
        settled = not job.left
        count = sum(unspent)
        uncommitted = count if self._backlog is None else self._backlog.release(chunks, unspent, settled=settled)
        # A stop, then: the journal delivers again what it has, and memory is lost.
        if not settled:
            self._ledger.drop(uncommitted, "shutdown")
            self._ledger.spill(count - uncommitted)
            followed = [(chunk, left) for chunk, left in zip(chunks, unspent, strict=True) if chunk.receipt is not None]
            self._unnoted += sum(len(chunk.events) - left for chunk, left in followed)
        self._uncommitted -= uncommitted
        self._on_settled(chunks)

    async def _note(self, job: Job) -> None:
        """Tell the requests that wait for delivery the outcomes of their events.

        If this is cancelled, the receipts expire, and the answer is that the delivery is late.
        """

        def note(told: Told) -> None:
            told.receipt.note(self.name, told.delivered, told.dead_lettered, told.dropped)
            self._unnoted -= told.known

        self._unnoted += sum(told.known for told in job.tell())
        await answer_in_slices(job.tell(), note)

    def _count_in_flight(self) -> int:
        """Events without an outcome: in the buffer, in the workers' hands, on disk, and on their way into memory."""
        # Counted where they are, not as the rest of a subtraction: a bug that loses a batch must not balance.
        if self._abandoned:
            return 0
        on_disk = 0 if self._backlog is None else self._backlog.events + self._backlog.on_its_way
        return self._buffer.events + on_disk
