"""A simulated sink: a database on another machine, with a primary key, which a crash of the service does not touch.

Invariants: an event id is stored once, as it first came; a batch is committed as a whole or, where the timetable says
so, in part before it fails. Whoever is cancelled in the middle of a write cannot know whether it was committed, and
neither can the service. What the service does wrong towards the sink is a complaint, for the oracle to find.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from random import Random
from typing import ClassVar, Literal, Protocol

import msgspec
import trio

from hermes.base.errors import BatchRejected, SinkUnavailable
from hermes.config import NoSettings
from hermes.events.configured_sinks import ConfiguredSink
from hermes.events.event import Batch, Event
from hermes.events.sink import DeliverySettings, SinkPlugin
from tests.simulation.trace import Trace


class Mood(Enum):
    """How the sink does."""

    UP = "up"
    SLOW = "slow"
    DOWN = "down"
    """Refuses at once."""
    HANGS = "hangs"
    """Never answers."""
    HALF_DONE = "half-done"
    """Commits, and then says that it is unavailable."""
    PARTIAL = "partial"
    """Commits a part, and then says that it is unavailable."""
    REFUSES = "refuses"
    """Refuses every event, for one reason."""
    FLAKY = "flaky"
    """Any of these, from call to call."""


_FLAKY = (Mood.UP, Mood.UP, Mood.SLOW, Mood.DOWN, Mood.HALF_DONE, Mood.PARTIAL)


@dataclass(frozen=True)
class SinkPlan:
    """What the seed decides about a sink. ``latency`` of a commit in seconds; ``poisonous``: one id in so many.

    Each life of the service gets the next ``max_batch``, in turn. A sink that is no ``machine`` is a built-in one, with
    its ``settings``.
    """

    name: str
    delivery: DeliverySettings
    max_batch: Sequence[int]
    concurrency: int
    latency: float
    poisonous: int
    kind: Literal["machine", "sqlite", "file"] = "machine"
    settings: msgspec.Struct | None = None


class JudgedSink(Protocol):
    """What the oracle and the world ask of a sink, wherever it keeps what it has."""

    plan: SinkPlan
    mood: Mood
    cured: bool
    confirmed: int
    complaints: list[str]

    @property
    def rows(self) -> Sequence[Event]:
        """What is stored, in the order in which it was."""

    @property
    def stored(self) -> dict[str, Event]:
        """The same by event id."""

    @property
    def repeated(self) -> Counter[str]:
        """How often each event was given to it again."""

    def refuses(self, event_id: str) -> bool:
        """Whether the sink refuses this event now."""

    def may_have_refused(self, event_id: str) -> bool:
        """Whether the event may be a dead letter."""

    def configured(self, life: int) -> ConfiguredSink:
        """The sink as a life of the service gets it."""

    def disconnect(self) -> None:
        """The service has crashed."""

    def check_files(self) -> None:
        """All is over: complain of what is wrong with the files."""


@dataclass
class SimulatedSink:
    """The machine. ``rows`` in the order in which they were committed; ``stored`` finds them by event id.

    ``confirmed`` counts the events whose storing the present life of the service was told of.
    """

    plan: SinkPlan
    random: Random
    trace: Trace
    mood: Mood = Mood.UP
    rows: list[Event] = field(default_factory=list)
    stored: dict[str, Event] = field(default_factory=dict)
    repeated: Counter[str] = field(default_factory=Counter)
    refused: set[str] = field(default_factory=set)
    confirmed: int = 0
    complaints: list[str] = field(default_factory=list)
    cured: bool = False
    has_key: ClassVar[bool] = True
    session: Session | None = None

    def is_poison(self, event_id: str) -> bool:
        """Whether the sink refuses this event, until it is ``cured``."""
        poisonous = self.plan.poisonous
        return poisonous > 0 and sum(f"{self.plan.name}/{event_id}".encode()) % poisonous == 0

    def refuses(self, event_id: str) -> bool:
        """Whether the sink refuses this event now."""
        return self.mood is Mood.REFUSES or (not self.cured and self.is_poison(event_id))

    def may_have_refused(self, event_id: str) -> bool:
        """Whether the event may be a dead letter."""
        return self.is_poison(event_id) or event_id in self.refused

    def commit(self, events: list[Event]) -> None:
        """Store what is new."""
        for event in events:
            if event.id in self.stored:
                self.repeated[event.id] += 1
                if self.has_key:
                    continue
            # A copy: what the service does to its own objects afterwards is no concern of a database.
            row = Event(event.id, event.user_id, event.type, event.timestamp, event.payload.copy())
            self.rows.append(row)
            self.stored.setdefault(event.id, row)
        self.trace.note("sink", self.plan.name, "committed", len(events), len(self.stored))

    def configured(self, life: int) -> ConfiguredSink:
        """The sink as a life of the service gets it."""

        @asynccontextmanager
        async def open_session(*_: object) -> AsyncIterator[Session]:
            await trio.lowlevel.checkpoint()
            self.session = Session(self, life)
            yield self.session

        return ConfiguredSink(self.plan.name, SinkPlugin(open_session), NoSettings(), self.plan.delivery)

    def check_files(self) -> None:
        """It has none."""

    def disconnect(self) -> None:
        """The service has crashed: what it sends from now on does not come."""
        if self.session is not None:
            self.session.dead = True

    def complain(self, what: str) -> None:
        """The service has broken the rules."""
        self.complaints.append(f"sink {self.plan.name}: {what}")


class Session:
    """The sink as one life of the service sees it. From a life that is ``dead`` no call comes through."""

    def __init__(self, machine: SimulatedSink, life: int) -> None:
        self.max_batch = machine.plan.max_batch[life % len(machine.plan.max_batch)]
        self.concurrency = machine.plan.concurrency
        self.dead = False
        self._machine = machine
        self._running = 0
        machine.confirmed = 0

    async def write(self, batch: Batch) -> None:
        if self.dead:
            await trio.sleep_forever()
        machine = self._machine
        events = list(batch)
        self._check(events)
        refused = {index: "poison" for index, event in enumerate(events) if machine.refuses(event.id)}
        machine.refused.update(events[index].id for index in refused)
        good = [event for index, event in enumerate(events) if index not in refused]
        mood = machine.mood if machine.mood is not Mood.FLAKY else machine.random.choice(_FLAKY)
        machine.trace.note("sink", machine.plan.name, "write", len(events), mood.value)
        self._running += 1
        try:
            await self._answer(mood, good)
        except trio.Cancelled:
            if mood is not Mood.DOWN and machine.random.random() < 0.5:
                machine.commit(good)  # it had arrived
            raise
        finally:
            self._running -= 1
        machine.confirmed += len(events) - len(refused)
        if refused:
            raise BatchRejected(refused)

    async def _answer(self, mood: Mood, good: list[Event]) -> None:
        """Commit at a moment that the mood decides, and return or raise as it does."""
        machine = self._machine
        latency = machine.plan.latency * machine.random.uniform(0.5, 1.5)
        if mood is Mood.DOWN:
            await trio.sleep(0.001)
            raise SinkUnavailable("down", retry_after=machine.random.choice((None, None, 0.5)))
        if mood is Mood.HANGS:
            await trio.sleep_forever()
        await trio.sleep(latency * (50 if mood is Mood.SLOW else 1))
        if mood is Mood.PARTIAL:
            machine.commit(good[: machine.random.randint(0, len(good))])
        else:
            machine.commit(good)
        try:
            await trio.sleep(latency)
        except trio.Cancelled:
            good.clear()  # all is committed already; nothing is left to arrive late
            raise
        if mood in {Mood.PARTIAL, Mood.HALF_DONE}:
            raise SinkUnavailable(mood.value)

    def _check(self, events: list[Event]) -> None:
        machine = self._machine
        if not events:
            machine.complain("an empty batch")
        if len(events) > self.max_batch:
            machine.complain(f"a batch of {len(events)} where {self.max_batch} are wanted at most")
        if self._running >= self.concurrency:
            machine.complain(f"more than {self.concurrency} writes at once")
