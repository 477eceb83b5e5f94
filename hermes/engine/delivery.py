"""The delivery to one sink: its own buffer, workers, breaker and retries, so that a dead sink never slows the others.

    offer → buffer (a Dispatcher: flushed by size or by interval) → worker → breaker → write → outcome
       └── no room: stays in the journal ──┘                            └── pause and again ──┘

With a journal nothing is given up while the service runs: a batch is written again until the sink takes it, and what
finds the buffer full is read back later. Without one a batch is given up after its retries, or when the breaker is
open. Invariant: every event that is offered gets exactly one outcome in the ledger (delivered, dead-lettered, spilled
to the journal, or dropped with a reason), also when the worker is cancelled in the middle of a write. The intake
offers; the app runs `run`, which ends when the intake has closed and all is settled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter

import trio

from hermes.config import Settings
from hermes.dead_letters import DeadLetters
from hermes.dispatch import Dispatcher, QueueFull
from hermes.engine.backlog import Backlog
from hermes.engine.calls import SinkCalls
from hermes.engine.journal import EventJournal
from hermes.engine.ledger import Account, Ledger
from hermes.errors import PluginError, SinkUnavailable
from hermes.event import Batch, Chunk
from hermes.metrics import Metrics
from hermes.sink import DeliverySettings, Sink


class Delivery:
    """One sink at work. ``on_settled`` hears of chunks whose outcome in this sink is known.

    With a ``journal`` the sink's progress and backlog are kept there. Raises `PluginError` for a sink that takes
    nothing: ``max_batch`` or ``concurrency`` below 1.
    """

    def __init__(
        self,
        name: str,
        sink: Sink,
        delivery: DeliverySettings,
        service: Settings,
        metrics: Metrics,
        dead_letters: DeadLetters,
        journal: EventJournal | None = None,
    ) -> None:
        if sink.max_batch < 1 or sink.concurrency < 1:
            raise PluginError(
                f"sink {name!r} has max_batch {sink.max_batch} and concurrency {sink.concurrency}: "
                "each must be 1 or more. Tell its author."
            )
        self.name = name
        self.required = delivery.required
        self.awaited = delivery.required
        self.max_batch = sink.max_batch
        self.on_settled: Callable[[Sequence[Chunk]], None] = lambda _chunks: None
        self._settings = delivery
        self._workers = min(service.worker_count, sink.concurrency)
        self._all_metrics = metrics
        self._metrics = metrics.sinks[name]
        self._ledger = Ledger(name, self._metrics)
        self._calls = SinkCalls(name, sink, delivery, self._metrics, self._ledger, dead_letters, self._workers)
        self.redeliver = self._calls.redeliver
        self._dropped_unsaid = 0
        self._unkept = 0  # events in flight that no journal has
        self._max_bytes = max(service.queue_bytes, service.max_body_bytes)
        self._buffer: Dispatcher[Chunk] = Dispatcher(
            interval=service.flush_interval,
            flush_items=min(service.batch_size, sink.max_batch),
            max_batch_items=sink.max_batch,
            max_buffered_items=max(service.queue_size, sink.max_batch),
            max_buffered_bytes=self._max_bytes,
            size=attrgetter("size"),
            count=len,
        )
        self._backlog = self._open_backlog(journal, delivery) if journal is not None else None
        self._metrics.backlog = lambda: self._ledger.account().in_flight

    def offer(self, chunks: Sequence[Chunk]) -> None:
        """Take chunks into the buffer. Those for which there is no room stay in the journal, or are dropped."""
        backlog = self._backlog
        for chunk in chunks:
            self._ledger.accept(len(chunk.events))
            if backlog is None or chunk.index < 0:
                self._offer_unkept(chunk)
            elif backlog.arrive(chunk) and not self._take(backlog.cut(chunk)):
                backlog.leave(chunk)

    def close(self) -> None:
        """No more will be offered: what is buffered is due now, and with a journal it is tried just once more."""
        if self._backlog is not None:
            self._calls.hurry()
        self._buffer.close()

    async def run(self) -> None:
        """Deliver until `close` has been called and everything has its outcome."""
        async with trio.open_nursery() as nursery:
            if self._backlog is not None:
                nursery.start_soon(self._backlog.run)
            async with trio.open_nursery() as workers:
                for _ in range(self._workers):
                    workers.start_soon(self._work)
            nursery.cancel_scope.cancel()

    def account(self) -> Account:
        """What became of the events that were offered."""
        return self._ledger.account()

    def abandon(self, accepted: int) -> None:
        """All tasks have ended: of ``accepted`` events, what has no outcome, here or on its way, stays or is lost."""
        missing = accepted - (self._ledger.accepted - self._ledger.replayed)
        self._ledger.accept(missing)
        left = self._ledger.account().in_flight
        lost = left if self._backlog is None else self._unkept
        self._ledger.drop(lost, "shutdown")
        self._ledger.spill(left - lost)
        self._unkept = 0

    async def give_up_oldest(self, share: int) -> None:
        """The journal is crowded: of what only it holds for this sink, the oldest part (1 / ``share``) is dropped."""
        if self._backlog is not None and (lost := await self._backlog.give_up_oldest(share)):
            self._count_drop(lost, "journal_full", "the journal has nearly reached JOURNAL_MAX_BYTES")

    def _open_backlog(self, journal: EventJournal, delivery: DeliverySettings) -> Backlog:
        backlog = Backlog(
            self.name,
            journal,
            max_chunk=self.max_batch,
            catch_up=delivery.catch_up,
            floor=delivery.catch_up_floor,
            order=delivery.catch_up_order,
            take=self._take,
            lose=lambda events: self._count_drop(events, "damaged", "the journal has lost them"),
        )
        self._ledger.accept(backlog.owed, again=True)
        return backlog

    def _take(self, pieces: Sequence[Chunk]) -> bool:
        """Put all pieces of a record into the buffer, or none (False)."""
        if len(pieces) > 1:
            count, size = sum(map(len, pieces)), sum(piece.size for piece in pieces)
            if not self._buffer.has_room(count, size):
                return False
        for piece in pieces:
            # From a time with larger settings it may be larger than the whole buffer; alone it does no harm.
            piece.size = min(piece.size, self._max_bytes)
            try:
                self._buffer.enqueue(piece)
            except QueueFull:
                return False
        return True

    def _offer_unkept(self, chunk: Chunk) -> None:
        """What no journal has is in the buffer or lost."""
        for piece in chunk.split(self.max_batch):
            try:
                self._buffer.enqueue(piece)
            except QueueFull:
                self._drop([piece], "queue_full", "its buffer is full")
                self.on_settled([piece])
            else:
                self._unkept += len(piece)

    async def _work(self) -> None:
        async for chunks in self._buffer:
            batch = Batch(chunks)
            settled = False
            try:
                settled = await self._deliver(batch)
            finally:
                self._let_go(chunks, settled=settled)

    async def _deliver(self, batch: Batch) -> bool:
        """Write a batch until its outcome is in the ledger (True), or it is left to the journal (False)."""
        calls, keeps = self._calls, self._backlog is not None
        self._all_metrics.batch_size.observe(len(batch))
        attempt = 0
        while True:
            if not calls.allowed():
                self._metrics.open_rejects += 1
                if not keeps:
                    self._drop(batch.chunks, "circuit_open", "the circuit breaker is open")
                    return True
                await calls.wait_for_breaker()
            else:
                attempt += 1
                try:
                    refused = await calls.write(batch, attempt)
                except SinkUnavailable as failure:
                    if not keeps and attempt > self._settings.retries:
                        self._drop(batch.chunks, "unavailable", str(failure))
                        return True
                    if not calls.open_for:
                        self._metrics.retries += 1
                        await calls.rest(attempt, failure)
                else:
                    self._note(batch, refused)
                    return True
            if calls.hurrying:
                return False

    def _let_go(self, chunks: Sequence[Chunk], *, settled: bool) -> None:
        """A worker is done with chunks: they have their outcome in the ledger, or it is a stop and they have not."""
        backlog = self._backlog
        unkept = sum(len(chunk) for chunk in chunks if backlog is None or chunk.index < 0)
        if not settled:
            self._ledger.drop(unkept, "shutdown")
            self._ledger.spill(sum(map(len, chunks)) - unkept)
        self._unkept -= unkept
        if backlog is not None:
            backlog.release(chunks, settled=settled)
        self.on_settled(chunks)

    def _note(self, batch: Batch, refused: Mapping[int, str]) -> None:
        """Tell the requests that wait for delivery what has become of their events."""
        if not self.awaited:
            return
        start = 0
        for chunk in batch.chunks:
            stop = start + len(chunk.events)
            if chunk.receipt is not None:
                dead = sum(1 for index in refused if start <= index < stop)
                chunk.receipt.note(self.name, stop - start - dead, dead)
            start = stop

    def _drop(self, chunks: Sequence[Chunk], reason: str, why: str) -> None:
        self._count_drop(sum(map(len, chunks)), reason, why)
        for chunk in chunks:
            if self.awaited and chunk.receipt is not None:
                chunk.receipt.note(self.name, 0, 0, len(chunk))

    def _count_drop(self, count: int, reason: str, why: str) -> None:
        self._ledger.drop(count, reason)
        self._dropped_unsaid += count
        if self._calls.complaints.tell("events dropped", events=self._dropped_unsaid, reason=reason, why=why):
            self._dropped_unsaid = 0
