"""The delivery to one sink: its own buffer, workers, breaker and retries, so that a dead sink never slows the others.

    offer → buffer (a Dispatcher: flushed by size or by interval) → worker → breaker → write → outcome
                                                                      └── pause and again ──┘

Invariants: every event that is offered gets exactly one outcome in the ledger (delivered, dead-lettered or dropped with
a reason), also when the worker is cancelled in the middle of a write; no call reaches the sink while the breaker is
open. The intake offers; the app runs `run`, which ends when the intake has closed and all is settled.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from operator import attrgetter

import msgspec
import structlog
import trio

from hermes.breaker import Breaker
from hermes.config import Settings
from hermes.dispatch import Dispatcher, QueueFull
from hermes.dead_letters import DeadLetter, DeadLetters
from hermes.engine.ledger import Account, Ledger
from hermes.errors import BatchRejected, PluginError, SinkUnavailable
from hermes.event import Batch, Chunk
from hermes.metrics import Metrics
from hermes.sink import DeliverySettings, Sink, variable_prefix

_log = structlog.get_logger("hermes.delivery")
_MOST_DOUBLINGS = 64  # far beyond any MAX_BACKOFF, and no number of retries overflows the power
_LOG_PAUSE = 5.0  # a sink that is down says so this often, in seconds, however many batches it refuses


class Delivery:
    """One sink at work. ``on_settled`` hears of chunks whose outcome in this sink is known.

    Raises `PluginError` for a sink that takes nothing: ``max_batch`` or ``concurrency`` below 1.
    """

    def __init__(
        self,
        name: str,
        sink: Sink,
        delivery: DeliverySettings,
        service: Settings,
        metrics: Metrics,
        dead_letters: DeadLetters,
    ) -> None:
        if sink.max_batch < 1 or sink.concurrency < 1:
            raise PluginError(
                f"sink {name!r} has max_batch {sink.max_batch} and concurrency {sink.concurrency}: "
                "each must be 1 or more. Tell its author."
            )
        self.name = name
        self.required = delivery.required
        self.max_batch = sink.max_batch
        self.on_settled: Callable[[Sequence[Chunk]], None] = lambda _chunks: None
        self._sink = sink
        self._settings = delivery
        self._workers = min(service.worker_count, sink.concurrency)
        self._dead_letters = dead_letters
        self._all_metrics = metrics
        self._metrics = metrics.sinks[name]
        self._ledger = Ledger(name, self._metrics)
        self._breaker = Breaker(failures=delivery.breaker_failures, open_for=delivery.breaker_open)
        self._metrics.breaker_state = lambda: self._breaker.state.value
        self._buffer: Dispatcher[Chunk] = Dispatcher(
            interval=service.flush_interval,
            flush_items=min(service.batch_size, sink.max_batch),
            max_batch_items=sink.max_batch,
            max_buffered_items=max(service.queue_size, sink.max_batch),
            max_buffered_bytes=max(service.queue_bytes, service.max_body_bytes),
            size=attrgetter("size"),
            count=len,
        )
        self._dropped_unsaid = 0
        self._next_log: dict[str, float] = {}

    def offer(self, chunks: Sequence[Chunk]) -> None:
        """Take chunks into the buffer; those for which there is no room are dropped and counted."""
        enqueue = self._buffer.enqueue
        for chunk in chunks:
            self._ledger.accept(len(chunk.events))
            try:
                enqueue(chunk)
            except QueueFull:
                self._drop([chunk], len(chunk.events), "queue_full", "its buffer is full")

    def close(self) -> None:
        """No more will be offered: what is buffered is due now."""
        self._buffer.close()

    async def run(self) -> None:
        """Deliver until `close` has been called and everything has its outcome."""
        async with trio.open_nursery() as nursery:
            for _ in range(self._workers):
                nursery.start_soon(self._work)

    def account(self) -> Account:
        """What became of the events that were offered."""
        return self._ledger.account()

    def abandon(self, accepted: int) -> None:
        """All tasks have ended: of ``accepted`` events, what has no outcome, here or on the way here, is dropped."""
        self._ledger.accept(accepted - self._ledger.accepted)
        left = self._ledger.account().in_flight
        if left:
            self._ledger.drop(left, "shutdown")

    async def _work(self) -> None:
        async for chunks in self._buffer:
            batch = Batch(chunks)
            settled = False
            try:
                await self._deliver(batch)
                settled = True
            finally:
                if not settled:
                    self._ledger.drop(len(batch), "shutdown")
                self.on_settled(chunks)

    async def _deliver(self, batch: Batch) -> None:
        """Write a batch, again and again if need be, until its outcome is in the ledger."""
        count = len(batch)
        self._all_metrics.batch_size.observe(count)
        attempt = 0
        while self._breaker.allow(trio.current_time()):
            attempt += 1
            failure = await self._write(batch, attempt)
            if failure is None:
                return
            if attempt > self._settings.retries:
                self._count_drop(count, "unavailable", str(failure))
                return
            if self._breaker.remaining(trio.current_time()) <= 0:
                self._metrics.retries += 1
                await trio.sleep(self._pause(attempt, failure))
        self._metrics.open_rejects += 1
        self._count_drop(count, "circuit_open", "the circuit breaker is open")

    async def _write(self, batch: Batch, attempt: int) -> SinkUnavailable | None:
        """One call of the sink. None: the batch is settled."""
        breaker, began = self._breaker, trio.current_time()
        failure = None
        answered = False
        try:
            with trio.move_on_after(self._settings.timeout) as scope:
                await self._sink.write(batch)
            if scope.cancelled_caught:
                failure = SinkUnavailable(f"no answer within {variable_prefix(self.name)}TIMEOUT")
            else:
                self._ledger.deliver(len(batch))
            answered = True
        except SinkUnavailable as error:
            failure = error
            answered = True
            self._tell("write failed", attempt=attempt, of=self._settings.retries + 1, reason=str(error))
        except BatchRejected as error:
            await self._bury(batch, error, attempt)
            answered = True
        except Exception as error:
            # The one place that knows whose bug it is: the traceback follows when it has come to the top.
            _log.error("a bug in the sink ends the service", sink=self.name, error=repr(error))
            raise
        finally:
            now = trio.current_time()
            self._metrics.flush_seconds.observe(now - began)
            if not answered:
                breaker.abandoned(now)
        before = breaker.state
        if failure is None:
            breaker.succeeded(now)
        else:
            breaker.failed(now)
        if breaker.state is not before:
            _log.warning("breaker changed", sink=self.name, state=breaker.state.name.lower(), reason=str(failure or ""))
        return failure

    async def _bury(self, batch: Batch, rejected: BatchRejected, attempts: int) -> None:
        """The named events are dead letters; all others are delivered."""
        count, refused = len(batch), sorted(rejected.reasons.items())
        strangers = [index for index, _ in refused if not 0 <= index < count]
        if strangers:  # before anything is counted, for this ends the process
            raise ValueError(f"sink {self.name!r} rejected index {strangers[0]} of {count} events") from rejected
        now, arrivals = time.time(), batch.arrivals
        letters = []
        for index, reason in refused:
            # A copy, for the payload would keep the whole request's body alive.
            event = msgspec.structs.replace(batch[index], payload=batch[index].payload.copy())
            letters.append(DeadLetter(event, self.name, reason, attempts, now, arrivals[index]))
        await self._dead_letters.add(letters)
        self._ledger.dead_letter(len(refused))
        self._ledger.deliver(count - len(refused))
        for index, reason in refused[:1]:
            self._tell("events rejected", events=len(refused), first=batch[index].id, reason=reason)

    def _drop(self, chunks: Sequence[Chunk], count: int, reason: str, why: str) -> None:
        self._count_drop(count, reason, why)
        self.on_settled(chunks)

    def _count_drop(self, count: int, reason: str, why: str) -> None:
        self._ledger.drop(count, reason)
        self._dropped_unsaid += count
        if self._tell("events dropped", events=self._dropped_unsaid, reason=reason, why=why):
            self._dropped_unsaid = 0

    def _tell(self, what: str, **facts: object) -> bool:
        """Log, but not once a batch for a sink that is down. False: not this time."""
        now = trio.current_time()
        if now >= self._next_log.get(what, now):
            self._next_log[what] = now + _LOG_PAUSE
            _log.warning(what, sink=self.name, **facts)
            return True
        return False

    def _pause(self, attempt: int, failure: SinkUnavailable) -> float:
        """Exponential backoff with full jitter, but no shorter than the sink asked for.

        Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
        """
        doublings = min(attempt - 1, _MOST_DOUBLINGS)
        longest = min(self._settings.max_backoff, self._settings.backoff * 2.0**doublings)
        return max(random.uniform(0, longest), failure.retry_after or 0.0)  # noqa: S311 - spreads load, hides nothing
