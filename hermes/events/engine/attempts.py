"""`Attempts`: one attempt after the other to write a batch, until each event has its outcome or a stop has come.

With a journal a batch is written again until the sink takes it. Without one a batch is given up after its retries, or
when the breaker is open, unless it is held. A batch that times out is written in smaller portions. Invariant: after
each attempt the ledger has the outcome of every event that is no longer left in the batch. Used by the workers of a
delivery.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hermes.base.errors import SinkUnavailable
from hermes.events.engine.context import SinkContext
from hermes.events.engine.job import Job
from hermes.events.engine.ledger import Ledger
from hermes.events.engine.sink_calls import RefusesEverything, SinkCalls
from hermes.events.event import Chunk


class Attempts:
    """The attempts of the workers of one sink, by ``calls``.

    ``spend(spent)`` is told of chunks some of whose events have their outcome while their batch goes on. ``keeps``: a
    journal has the events, so no batch is ever given up.

    ::

        attempts = Attempts(context, calls, ledger, spend, keeps=False)
        while job.left and await attempts.make(job):
            ...
    """

    def __init__(
        self,
        context: SinkContext,
        calls: SinkCalls,
        ledger: Ledger,
        spend: Callable[[Sequence[tuple[Chunk, int]]], None],
        *,
        keeps: bool,
    ) -> None:
        self._context = context
        self._calls = calls
        self._ledger = ledger
        self._spend = spend
        self._keeps = keeps
        self._unsaid = 0

    async def make(self, job: Job) -> bool:
        """Write the next portion of a batch. False: no event is left, or a stop leaves the batch to the journal."""
        calls = self._calls
        # A breaker that only refusals have opened costs no event that was held: it is tried once more.
        held = job.held_at is not None and not job.failures and not calls.released
        keeps = self._keeps or calls.holding or held
        # A stop waits for no sink whose last call failed: the journal has the events.
        if keeps and calls.should_stop:
            return False
        if not calls.allowed():
            self._context.numbers.open_rejects += 1
            if not keeps:
                self._give_up(job, "circuit_open", "the circuit breaker is open")
                return False
            await calls.wait_for_breaker()
        elif not await self._write(job):
            return False
        # `drain` is called only where a journal has the events: then each batch is tried once more, and no more.
        return bool(job.left) and not calls.draining

    async def _write(self, job: Job) -> bool:
        """Write the next portion of a batch; after a failure, pause. False: there are no tries left."""
        calls = self._calls
        # Asked at each try, since a write that ran into its time-out has lowered the size.
        portion = job.next(calls.workable)
        attempt = job.begin_attempt()
        try:
            if job.held_at is None:
                refused = await calls.write(portion.batch, attempt)
            else:
                refused = await calls.write_held(portion.batch, attempt, job.held_at)
            self._spend(job.done(portion, refused))
        except SinkUnavailable as failure:
            if isinstance(failure, RefusesEverything):
                self._spend(job.hold(portion, failure.reasons, calls.witnesses))
            else:
                job.fail()
            keeps = self._keeps or calls.holding
            if not keeps and job.failures > self._context.settings.retries:
                self._give_up(job, "unavailable", str(failure))
                return False
            # An open breaker is pause enough; `make` waits for it.
            if not calls.open_for:
                self._context.numbers.retries += 1
                await calls.back_off(attempt, failure)
        return True

    def drop(self, count: int, reason: str, why: str) -> None:
        """Count events that the sink will never get, for a ``reason`` of `DROPPED`; ``why`` is for the log."""
        if not count:
            return
        self._ledger.drop(count, reason)
        # The line says how many events since the one before, for not each drop has a line.
        self._unsaid += count
        if self._calls.throttled.warn("events dropped", events=self._unsaid, reason=reason, why=why):
            self._unsaid = 0

    def _give_up(self, job: Job, reason: str, why: str) -> None:
        self._context.tracing.drop(self._context.name, job.batch, reason)
        self.drop(job.drop(), reason, why)
