"""Calls of one sink: never while its breaker is open, never longer than its time-out, their failures told.

Invariants: each call that the breaker allows is reported to it exactly once; an event that a sink refuses for good is
in the dead letters before it is counted; a sink that refuses nearly everything for one reason has failed, and nothing
of that becomes a dead letter while it is held (see `hermes.events.engine.suspicion`); no more calls are under way than
the sink wants. Called by the delivery's workers, and by the replay of dead letters.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping

import structlog
import trio

from hermes.base.breaker import Breaker, BreakerState
from hermes.base.cleanup import clean_up
from hermes.base.errors import BatchRejected, LogUnavailable, SinkUnavailable, is_shortage
from hermes.base.repeated_event import RepeatedEvent
from hermes.events.engine.context import SinkContext
from hermes.events.engine.ledger import Ledger
from hermes.events.engine.suspicion import Suspicion
from hermes.events.engine.workable import WorkableSize
from hermes.events.event import Batch
from hermes.events.letters import to_letter
from hermes.events.sink import variable_prefix
from hermes.observe.throttled_log import ThrottledLog

_log = structlog.get_logger("hermes.delivery")
# Far beyond any MAX_BACKOFF, and no number of retries overflows the power.
_MOST_DOUBLINGS = 64
_DEAD_LETTER_SECONDS = 5.0
# Reasons that are counted each by itself.
_MOST_REASONS = 20
# Characters of a reason, or of a failure, that are kept for people to see.
_MOST_WORDS = 300

OTHER_REASONS = "(other reasons)"


class RefusesEverything(SinkUnavailable):
    """The sink refuses nearly everything for one reason.

    The events that ``reasons`` does not name are stored and counted.
    """

    def __init__(self, rejected: BatchRejected, total: int) -> None:
        first = next(iter(rejected.reasons.values()))[:_MOST_WORDS]
        super().__init__(f"refuses {len(rejected.reasons)} of {total} events for one reason, so they are held: {first}")
        self.reasons = rejected.reasons


class SinkCalls:
    """How the engine calls the sink of ``context``, ``most`` at once.

    ::

        calls = SinkCalls(context, ledger, most=4)
        if calls.allowed():
            try:
                refused = await calls.write(batch, attempt=1)  # by now every event is counted
            except SinkUnavailable as failure:
                await calls.back_off(1, failure)
    """

    def __init__(self, context: SinkContext, ledger: Ledger, most: int) -> None:
        settings = context.settings
        self.throttled = ThrottledLog("hermes.delivery", sink=context.name)
        self.refusals: Counter[str] = Counter()
        """Events that the sink refused for good, by reason; the late reasons count as one."""
        self.failure = ""
        self.failed_at: float | None = None
        self._context = context
        self._ledger = ledger
        # The replay of dead letters calls as well, beside the workers.
        self._room = trio.CapacityLimiter(most)
        self._breaker = Breaker(failures=settings.breaker_failures, open_for=settings.breaker_open)
        self._suspicion = Suspicion(settings.refusal_rows, settings.refusal_hold)
        self._workable = WorkableSize(context.sink.max_batch, settings.timeout)
        self._breaker_moved = RepeatedEvent()
        self._drain_begun = trio.Event()
        self._last_failed = False
        self._evicted_said = 0

    @property
    def most(self) -> int:
        """The most calls at once."""
        return int(self._room.total_tokens)

    def allowed(self) -> bool:
        """Whether the breaker lets a call through now; then exactly one `write` has to follow."""
        return self._breaker.allow(trio.current_time())

    @property
    def breaker(self) -> BreakerState:
        """The breaker's state; an open one stays so until a call is tried."""
        return self._breaker.state

    @property
    def open_for(self) -> float:
        """Seconds until the breaker may allow a trial; 0 unless it is open."""
        return self._breaker.remaining(trio.current_time())

    @property
    def draining(self) -> bool:
        """Whether `drain` was called: a call may still be made, but without a pause before it."""
        return self._drain_begun.is_set()

    @property
    def should_stop(self) -> bool:
        """Whether a stop has begun and the last call failed: the next call would only take the stop's time."""
        return self.draining and self._last_failed

    @property
    def holding(self) -> bool:
        """Whether the sink refuses everything, and its events are held for that."""
        return self._suspicion.holding

    @property
    def released(self) -> bool:
        """Whether nothing is held any more, since the sink has refused everything for too long or a stop has begun."""
        return self._suspicion.released

    @property
    def witnesses(self) -> int:
        """Writes that have stored something."""
        return self._suspicion.witnesses

    @property
    def workable(self) -> int:
        """The most events of one `write` that are expected to be written in time."""
        return self._workable.limit

    def drain(self) -> None:
        """End every pause, now and from now on."""
        self._drain_begun.set()
        # A worker that waits for the breaker looks at `draining` again.
        self._breaker_moved.set()

    def stop_holding(self) -> None:
        """Let held events become dead letters, as far as the breaker allows: at a stop no journal keeps them."""
        self._suspicion.release()
        self._breaker_moved.set()

    async def wait_for_breaker(self) -> None:
        """Wait until the breaker may think differently: its time is up, or the call of its trial has ended."""
        # Half-open, the breaker has no time of its own: the worker asks again after the longest backoff at the latest.
        with trio.move_on_after(self.open_for or self._context.settings.max_backoff):
            if self.draining:
                await trio.lowlevel.checkpoint()
            else:
                await self._breaker_moved.wait()

    async def back_off(self, attempt: int, failure: SinkUnavailable) -> None:
        """Pause after a failed attempt: exponential backoff with full jitter, but no shorter than the sink asked for.

        Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
        """
        doublings = min(attempt - 1, _MOST_DOUBLINGS)
        longest = min(self._context.settings.max_backoff, self._context.settings.backoff * 2.0**doublings)
        # Full jitter spreads the attempts of many workers and instances over the time.
        pause = max(random.uniform(0, longest), failure.retry_after or 0.0)  # noqa: S311 - spreads load, hides nothing
        with trio.move_on_after(pause):
            await self._drain_begun.wait()

    async def write(self, batch: Batch, attempt: int) -> Mapping[int, str]:
        """Make one allowed call. When it returns, the outcome of every event is in the ledger.

        Returns the reason of each refused event, by its place. Raises `hermes.SinkUnavailable`: nothing is counted, and
        the batch may be written again. With `RefusesEverything` the stored events are counted, and the others may be
        written again, by `write_held`.
        """
        return await self.write_held(batch, attempt, None)

    async def write_held(self, batch: Batch, attempt: int, held_at: int | None) -> Mapping[int, str]:
        """As `write`, with events that were held for the first time when `witnesses` was ``held_at``."""
        with self._context.tracing.write(self._context.name, batch, attempt) as work:
            try:
                await self._call(batch, lambda error: self._accuse(error, len(batch), held_at))
            except RefusesEverything as error:
                self.throttled.warn("write failed", attempt=attempt, events=len(batch), reason=str(error))
                self._ledger.deliver(len(batch) - len(error.reasons))
                raise
            except BatchRejected as error:
                # First the letter, then the count: an event that is counted as dead-lettered is kept.
                if error.reasons:
                    await self._dead_letter(batch, error.reasons, attempt)
                    work.note("dead-lettered", events=len(error.reasons), reason=next(iter(error.reasons.values())))
                self._ledger.dead_letter(len(error.reasons))
                self._count_refusals(error.reasons)
                self._ledger.deliver(len(batch) - len(error.reasons))
                return error.reasons
            except SinkUnavailable as error:
                self.throttled.warn("write failed", attempt=attempt, events=len(batch), reason=str(error))
                raise
            self._ledger.deliver(len(batch))
            return {}

    async def redeliver(self, batch: Batch) -> None:
        """Write dead letters again: an allowed call whose refusals are the caller's, as a sink's own `write` is.

        Raises `hermes.SinkUnavailable`, also while the breaker is open, and `hermes.BatchRejected`.
        """
        # Not a wait for the breaker, as a worker does: the caller decides when to come again.
        if not self.allowed():
            raise SinkUnavailable("the circuit breaker is open", retry_after=self.open_for)
        try:
            await self._call(batch, lambda error: self._accuse_again(error, len(batch)))
        except RefusesEverything as error:
            raise BatchRejected(error.reasons) from error
        except BatchRejected as error:
            self._count_redelivered(len(batch) - len(error.reasons))
            raise
        self._count_redelivered(len(batch))

    def _count_refusals(self, reasons: Mapping[int, str]) -> None:
        # Bounded: a reason may have values of the event in it, and then each is another.
        for reason, count in Counter(reason[:_MOST_WORDS] for reason in reasons.values()).items():
            known = reason in self.refusals or len(self.refusals) < _MOST_REASONS
            self.refusals[reason if known else OTHER_REASONS] += count

    def _count_redelivered(self, count: int) -> None:
        # Accepted once more: the account had the event's outcome already, as dead-lettered or evicted.
        self._ledger.accept(count, again=True)
        self._ledger.deliver(count)

    def _accuse(self, rejected: BatchRejected, total: int, held_at: int | None) -> bool:
        """Whether a refusal is a fault of the sink; a change of mind is logged."""
        suspicion = self._suspicion
        # Compared with after, because a refusal may begin a hold, end one, or change nothing.
        before, released = suspicion.since, suspicion.released
        accused = suspicion.accuse(rejected.reasons, total, trio.current_time(), held_at)
        facts = {"sink": self._context.name, "reason": suspicion.reason}
        if suspicion.released and not released:
            _log.error("the sink still refuses everything: events become dead letters", **facts)
        elif suspicion.since is not None and before is None:
            _log.error(
                "the sink refuses everything: events are held", **facts, seconds=self._context.settings.refusal_hold
            )
        elif suspicion.since is None and before is not None:
            self._say_that_it_writes(before)
        return accused

    def _accuse_again(self, rejected: BatchRejected, total: int) -> bool:
        """The same for dead letters that are written again."""
        before = self._suspicion.since
        accused = self._suspicion.accuse_again(rejected.reasons, total)
        if self._suspicion.since is None and before is not None:
            self._say_that_it_writes(before)
        return accused

    def _wrote(self) -> None:
        # Said only if there was a suspicion: this runs for every write.
        before = self._suspicion.since
        self._suspicion.wrote()
        if before is not None:
            self._say_that_it_writes(before)

    def _say_that_it_writes(self, since: float) -> None:
        _log.warning(
            "the sink takes events again", sink=self._context.name, after=round(trio.current_time() - since, 1)
        )

    async def _call(self, batch: Batch, accuse: Callable[[BatchRejected], bool]) -> None:
        """One call, reported to the breaker. A refusal of single events is a success of the sink.

        Where ``accuse`` says that a refusal is the sink's fault, it is a failure, and raised as `RefusesEverything`.
        """
        # Until the call has its end: a call that is cancelled is neither a success nor a failure of the sink.
        breaker, report = self._breaker, self._breaker.abandoned
        failure: SinkUnavailable | None = None
        began = trio.current_time()
        try:
            async with self._room:
                # Again: the wait for a place is no time of the sink's.
                began = trio.current_time()
                with trio.move_on_after(self._context.settings.timeout) as scope:
                    await self._write(batch)
            if scope.cancelled_caught:
                raise SinkUnavailable(f"no answer within {variable_prefix(self._context.name)}TIMEOUT", too_slow=True)
            report = breaker.succeeded
            self._workable.wrote(len(batch), trio.current_time() - began)
            self._wrote()
        except SinkUnavailable as error:
            report, failure = breaker.failed, error
            self._workable.failed(len(batch), trio.current_time() - began, too_slow=error.too_slow)
            raise
        except BatchRejected as error:
            report = breaker.succeeded
            self._check_indexes(error, len(batch))
            self._workable.wrote(len(batch), trio.current_time() - began)
            if not error.reasons:
                self._wrote()
            elif accuse(error):
                failure = RefusesEverything(error, len(batch))
                report = breaker.failed
                raise failure from error
            raise
        except Exception as error:
            # Only this place knows whose bug it is; the traceback follows when the error has come to the top.
            _log.error("a bug in the sink ends the service", sink=self._context.name, error=repr(error))
            raise
        finally:
            now = trio.current_time()
            self._context.numbers.flush_seconds.observe(now - began)
            self._report(report, now, failure)
            # The error holds this frame, and the frame would hold the error and the batch until the collector runs.
            failure = None

    async def _write(self, batch: Batch) -> None:
        # A lack of descriptors or memory is the machine's, and passes: the sink's author need not think of it.
        try:
            await self._context.sink.write(batch)
        except (OSError, RuntimeError) as error:
            if not is_shortage(error):
                raise
            raise SinkUnavailable(f"the machine lacks something: {error}") from error

    def _report(self, report: Callable[[float], None], now: float, failure: SinkUnavailable | None) -> None:
        # The breaker hears of each call exactly once, also of a cancelled one: else a trial would never end.
        before = self._breaker.state
        self._last_failed = failure is not None
        if failure is not None:
            self.failure, self.failed_at = str(failure)[:_MOST_WORDS], time.time()
        report(now)
        if self._breaker.state is not before:
            state = self._breaker.state.name.lower()
            _log.warning("breaker changed", sink=self._context.name, state=state, reason=str(failure or ""))
            if self._breaker.state is BreakerState.CLOSED:
                # The trouble is over, so no later line would say how many lines were not written.
                self.throttled.write_rest()
        self._breaker_moved.set()

    def _check_indexes(self, rejected: BatchRejected, count: int) -> None:
        # A wrong index would bury a good event, and count the bad one as stored: better to end with the author's name.
        for index in rejected.reasons:
            if not 0 <= index < count:
                raise ValueError(f"sink {self._context.name!r} rejected index {index} of {count} events") from rejected

    async def _dead_letter(self, batch: Batch, reasons: Mapping[int, str], attempts: int) -> None:
        """Keep the named events as dead letters. Raises `hermes.SinkUnavailable` if they cannot be kept."""
        now, arrivals = time.time(), batch.arrivals
        name = self._context.name
        letters = [
            to_letter(batch[index], name, reason, attempts, rejected_at=now, received_at=arrivals[index])
            for index, reason in sorted(reasons.items())
        ]
        try:
            # The sink has stored the others already: the account is to say so, also when a stop comes just now.
            with clean_up(_DEAD_LETTER_SECONDS) as scope:
                await self._context.dead_letters.add(letters)
        except LogUnavailable as error:
            raise SinkUnavailable(f"its dead letters cannot be kept: {error}") from error
        if scope.cancelled_caught:
            raise SinkUnavailable("its dead letters could not be kept in time")
        # The line says how many events since the one before, for not each eviction has a line.
        evicted = self._context.dead_letters.evictions.total
        if evicted > self._evicted_said and self.throttled.warn("dead letters evicted", events=evicted):
            self._evicted_said = evicted
        first = min(reasons)
        self.throttled.warn("events rejected", events=len(letters), first=batch[first].id, reason=reasons[first])
