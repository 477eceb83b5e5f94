"""A sink that follows a test's script and records its calls; it replaces a database in tests.

Invariant: one write uses up one outcome, in the order in which the writes begin; a cancelled write stores nothing. The
sink runs on the virtual clock, and passes `hermes.testing.check_sink`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from hermes.base.errors import BatchRejected, SinkUnavailable
from hermes.base.repeated_event import RepeatedEvent
from hermes.events.event import Batch, Event
from hermes.events.sink import SinkPlugin

Outcome = BaseException | trio.Event | None
"""The outcome of one write: None stores the batch; a `trio.Event` delays storing until it is set; an exception is
raised (`BatchRejected` after storing the events that it does not name)."""


@dataclass
class Write:
    """One call of `ScriptedSink.write`: its events, its begin and end (Trio's clock), and its outcome.

    ``outcome`` is None while the write runs, then ``done``, ``unavailable``, ``rejected``, ``cancelled`` or
    ``crashed``.

        sink = ScriptedSink()
        await sink.write(make_batch(3))
        assert [(len(write.events), write.outcome) for write in sink.writes] == [(3, "done")]
    """

    events: list[Event]
    began_at: float
    ended_at: float | None = None
    outcome: str | None = None


@dataclass
class ScriptedSink:
    """A sink that follows ``script``, one outcome a write, and stores every batch once the script is used up.

    ``stored`` has the events in the order in which their writes ended; ``writes`` has every call. ``most_at_once`` is
    the highest number of concurrent writes. ``opened`` and ``closed`` count.

        sink = ScriptedSink.following(SinkUnavailable("down"), None)
        with pytest.raises(SinkUnavailable):
            await sink.write(make_batch(3))
        await sink.write(make_batch(3))
        assert len(sink.stored) == 3
    """

    script: deque[Outcome] = field(default_factory=deque)
    max_batch: int = 1000
    concurrency: int = 1
    stored: list[Event] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    most_at_once: int = 0
    opened: int = 0
    closed: int = 0
    _running: int = 0
    _always: Outcome = None
    _changed: RepeatedEvent = field(default_factory=RepeatedEvent)

    @classmethod
    def following(cls, *outcomes: Outcome, max_batch: int = 1000, concurrency: int = 1) -> ScriptedSink:
        """Return a sink with this script."""
        return cls(deque(outcomes), max_batch, concurrency)

    def stall(self) -> None:
        """Make every write that begins from now on wait, script or not, until `resume`."""
        self._always = trio.Event()

    def fail(self, error: Exception | None = None) -> None:
        """Make every write that begins from now on fail, script or not, until `resume`."""
        self._always = error or SinkUnavailable("the test says so")

    def resume(self) -> None:
        """End `stall` or `fail`; stalled writes store their events."""
        if isinstance(self._always, trio.Event):
            self._always.set()
        self._always = None

    async def write(self, batch: Batch) -> None:
        """Follow the script's next outcome. Raises the exception that the script holds."""
        # `stall` and `fail` go before the script, and leave the script as it is.
        outcome = self._always
        if outcome is None and self.script:
            outcome = self.script.popleft()
        call = Write(list(batch.events), trio.current_time())
        # Before the write runs, so that a test sees a write that is under way.
        self.writes.append(call)
        self._running += 1
        self.most_at_once = max(self.most_at_once, self._running)
        self._changed.set()
        try:
            await self._perform(call, outcome)
        except BaseException as error:
            # Any exception, a cancellation included: the record must say how each write ended.
            call.outcome = _name(error)
            raise
        else:
            call.outcome = "done"
        finally:
            call.ended_at = trio.current_time()
            self._running -= 1
            self._changed.set()

    async def _perform(self, call: Write, outcome: Outcome) -> None:
        # A write is a checkpoint in any case, as the contract asks.
        await trio.lowlevel.checkpoint()
        if isinstance(outcome, trio.Event):
            await outcome.wait()
        # The contract: the events that the exception does not name are stored.
        elif isinstance(outcome, BatchRejected):
            self.stored += [event for index, event in enumerate(call.events) if index not in outcome.reasons]
            raise outcome
        elif outcome is not None:
            raise outcome
        self.stored += call.events

    async def wait_writes(self, count: int) -> None:
        """Return as soon as ``count`` writes have begun since the sink was made."""
        await self._wait(lambda: len(self.writes) >= count)

    async def wait_stored(self, count: int) -> None:
        """Return as soon as ``count`` events have been stored since the sink was made."""
        await self._wait(lambda: len(self.stored) >= count)

    async def _wait(self, reached: Callable[[], bool]) -> None:
        await trio.lowlevel.checkpoint()
        while not reached():
            await self._changed.wait()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[ScriptedSink]:
        """Open the sink for the length of the block, as a plugin does. It may be opened again; ``opened`` counts."""
        self.opened += 1
        await trio.lowlevel.checkpoint()
        try:
            yield self
        finally:
            self.closed += 1

    def plugin(self) -> SinkPlugin:
        """Return a plugin that opens this sink, as an entry point would name it."""
        # One sink for every opening, so that a test can look into it.
        return SinkPlugin(open=lambda _settings, _service: self.open(), summary="follows a test's script")


def _name(error: BaseException) -> str:
    # Every other exception is a bug of a sink, which the engine lets crash.
    kinds = {SinkUnavailable: "unavailable", BatchRejected: "rejected", trio.Cancelled: "cancelled"}
    return next((name for kind, name in kinds.items() if isinstance(error, kind)), "crashed")


def unavailable(count: int = 1, *, retry_after: float | None = None) -> Iterable[SinkUnavailable]:
    """Return ``count`` refusals for a script: ``ScriptedSink.following(*unavailable(3))``.

    >>> sink = ScriptedSink.following(*unavailable(3, retry_after=5.0))
    """
    return [SinkUnavailable(f"refusal {n + 1} of {count}", retry_after=retry_after) for n in range(count)]
