"""A sink that does what a test tells it and remembers what it was asked: the stand-in for a database.

Invariant: an outcome is used up by one write, in the order the writes begin; a write that is cancelled stores nothing.
It runs on the virtual clock, and it passes `hermes.testing.check_sink` like any sink. Used by the engine's tests.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from hermes.errors import BatchRejected, SinkUnavailable
from hermes.event import Batch, Event
from hermes.repeated_event import RepeatedEvent
from hermes.sink import SinkPlugin

Outcome = BaseException | trio.Event | None
"""What one write does: None stores the batch; an event waits until it is set, then stores it; an exception is raised
(`BatchRejected` after storing the events that it does not name)."""


@dataclass
class Write:
    """One call of `ScriptedSink.write`: when it began and ended (Trio's clock), with what, and how it went.

    ``outcome`` is None while it runs, then ``done``, ``unavailable``, ``rejected``, ``cancelled`` or ``crashed``.

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
    """A sink that follows ``script``, one outcome a write, and stores every batch when the script is over.

    ``stored`` has the events in the order in which their writes ended; ``writes`` every call. ``most_at_once`` is the
    highest number of writes that ran together. ``opened`` and ``closed`` count.

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
        """A sink with this script."""
        return cls(deque(outcomes), max_batch, concurrency)

    def stall(self) -> None:
        """Make every write that begins from now on wait, script or not, until `resume`."""
        self._always = trio.Event()

    def fail(self, error: Exception | None = None) -> None:
        """Make every write that begins from now on fail, script or not, until `resume`."""
        self._always = error or SinkUnavailable("the test says so")

    def resume(self) -> None:
        """End `stall` or `fail`; stalled writes store what they hold."""
        if isinstance(self._always, trio.Event):
            self._always.set()
        self._always = None

    async def write(self, batch: Batch) -> None:
        """Do what the script says. Raises what it says."""
        outcome = self._always
        if outcome is None and self.script:
            outcome = self.script.popleft()
        call = Write(list(batch.events), trio.current_time())
        self.writes.append(call)
        self._running += 1
        self.most_at_once = max(self.most_at_once, self._running)
        self._tell()
        try:
            await self._perform(call, outcome)
        except BaseException as error:
            call.outcome = _name(error)
            raise
        else:
            call.outcome = "done"
        finally:
            call.ended_at = trio.current_time()
            self._running -= 1
            self._tell()

    async def _perform(self, call: Write, outcome: Outcome) -> None:
        await trio.lowlevel.checkpoint()
        if isinstance(outcome, trio.Event):
            await outcome.wait()
        elif isinstance(outcome, BatchRejected):
            self.stored += [event for index, event in enumerate(call.events) if index not in outcome.reasons]
            raise outcome
        elif outcome is not None:
            raise outcome
        self.stored += call.events

    async def wait_writes(self, count: int) -> None:
        """Return as soon as ``count`` writes have begun, since the sink was made."""
        await self._wait(lambda: len(self.writes) >= count)

    async def wait_stored(self, count: int) -> None:
        """Return as soon as ``count`` events are stored, since the sink was made."""
        await self._wait(lambda: len(self.stored) >= count)

    async def _wait(self, reached: Callable[[], bool]) -> None:
        await trio.lowlevel.checkpoint()
        while not reached():
            await self._changed.wait()

    def _tell(self) -> None:
        self._changed.set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[ScriptedSink]:
        """The sink while it is open, as a plugin would open it; it counts and may be opened again."""
        self.opened += 1
        await trio.lowlevel.checkpoint()
        try:
            yield self
        finally:
            self.closed += 1

    def plugin(self) -> SinkPlugin:
        """The value of an entry point that opens this sink."""
        return SinkPlugin(open=lambda _settings, _service: self.open(), summary="follows a test's script")


def _name(error: BaseException) -> str:
    kinds = {SinkUnavailable: "unavailable", BatchRejected: "rejected", trio.Cancelled: "cancelled"}
    return next((name for kind, name in kinds.items() if isinstance(error, kind)), "crashed")


def unavailable(count: int = 1, *, retry_after: float | None = None) -> Iterable[SinkUnavailable]:
    """As many refusals for a script: ``ScriptedSink.following(*unavailable(3))``.

    >>> sink = ScriptedSink.following(*unavailable(3, retry_after=5.0))
    """
    return [SinkUnavailable(f"refusal {n + 1} of {count}", retry_after=retry_after) for n in range(count)]
