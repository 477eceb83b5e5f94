"""The tap: live events, for people who look while they go by. A follower never slows the events down.

The intake shows the tap the chunks that it hands on. Without a follower that costs one truth test a wake-up. Each
follower has a buffer of its own, bounded in events and bytes; an event that does not fit is skipped and counted, and
the follower is told how many it missed. Invariants: an event that is wanted is given to the follower once,
in the order of its arrival, or counted as skipped; at most `MOST_FOLLOWERS` look at once; a follower keeps no request's
body alive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self
from zlib import crc32

import msgspec

from hermes.base.repeated_event import RepeatedEvent
from hermes.events.event import Chunk, Event

MOST_FOLLOWERS = 8
MOST_EVENTS = 1000
MOST_BYTES = 4 * 2**20
"""The bounds of a follower's buffer: events, and bytes of payload."""

# Knuth's multiplier: the checksums of ids that count upwards lie close together.
_SPREAD = 2_654_435_761
_CIRCLE = 2**32


@dataclass(frozen=True)
class Wanted:
    """Which events: of one of ``types`` (empty: of any), of ``user`` (empty: of any), and of these a ``sample``.

    The sample, 0 to 1, is chosen by the event's id, not by chance: the same events are in it on every instance and in
    every follower, and those of a smaller sample are among those of a larger one.
    """

    types: frozenset[str] = field(default_factory=frozenset)
    user: str = ""
    sample: float = 1.0

    @property
    def everything(self) -> bool:
        """Whether no event is left out."""
        return not self.types and not self.user and self.sample >= 1

    def includes(self, event: Event) -> bool:
        """Whether the event is wanted."""
        return (
            (not self.types or event.type in self.types)
            and (not self.user or event.user_id == self.user)
            and (self.sample >= 1 or in_sample(event.id, self.sample))
        )


def in_sample(event_id: str, sample: float) -> bool:
    """Whether the event of this id is in a sample of that size, 0 to 1.

    >>> in_sample("event-7", 1.0), in_sample("event-7", 0.0)
    (True, False)
    """
    # By the id and not by chance: every instance and every follower has the same events in a sample.
    return (crc32(event_id.encode()) * _SPREAD) % _CIRCLE < sample * _CIRCLE


class Follower:
    """One reader of the tap. Made by `Tap.follow`, and used as a context manager, whose end gives the place back.

    ::

        with tap.follow(Wanted(types=frozenset({"play"}), sample=0.1)) as follower:
            while True:
                events, skipped = await follower.receive()
                if not (events or skipped):
                    break  # the service stops
    """

    def __init__(self, tap: Tap, wanted: Wanted) -> None:
        self._tap = tap
        self._wanted = wanted
        # Kept, because it is asked for each chunk: the usual follower wants every event.
        self._everything = wanted.everything
        self._events: list[Event] = []
        self._bytes = self._skipped = 0
        self._news = RepeatedEvent()

    async def receive(self) -> tuple[list[Event], int]:
        """Wait for the events since the last call, and the number that did not fit. No event and 0: a stop."""
        while not (self._events or self._skipped or self._tap.closed):
            await self._news.wait()
        # All at once: a follower that is slow gets fewer and larger pages.
        events, skipped = self._events, self._skipped
        self._events, self._bytes, self._skipped = [], 0, 0
        return events, skipped

    def wake(self) -> None:
        """Let the follower see that the tap is closed."""
        self._news.set()

    def show(self, chunks: Sequence[Chunk]) -> None:
        """Keep the wanted events of these chunks, as far as they fit."""
        before = len(self._events) + self._skipped
        for chunk in chunks:
            events = chunk.events
            if not self._everything:
                includes = self._wanted.includes
                events = [event for event in events if includes(event)]
            # Never waits for the follower: live events are for looking, and the sinks come first.
            for place, event in enumerate(events):
                if len(self._events) >= MOST_EVENTS:
                    self._skipped += len(events) - place
                    break
                self._keep(event)
        if len(self._events) + self._skipped > before:
            self._news.set()

    def _keep(self, event: Event) -> None:
        size = len(event.payload)
        # The bound in bytes: a thousand events may be of a megabyte each.
        if self._bytes + size > MOST_BYTES:
            self._skipped += 1
            return
        # A copy, for the payload would keep the whole request's body alive.
        self._events.append(msgspec.structs.replace(event, payload=event.payload.copy()))
        self._bytes += size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tap.leave(self)


class Tap:
    """The place where events can be followed. ``listening``: there is a follower."""

    def __init__(self) -> None:
        self.listening = False
        self.closed = False
        self._followers: list[Follower] = []

    @property
    def crowded(self) -> bool:
        """Whether there is no place for another follower."""
        return len(self._followers) >= MOST_FOLLOWERS

    def follow(self, wanted: Wanted) -> Follower:
        """A new follower. Raises `RuntimeError` if the tap is crowded: ask before."""
        # The route asks before, and answers with an error of its own: this one is for a caller that does not.
        if self.crowded:
            raise RuntimeError(f"{MOST_FOLLOWERS} follow already")
        follower = Follower(self, wanted)
        self._followers.append(follower)
        self.listening = True
        return follower

    def leave(self, follower: Follower) -> None:
        """Forget a follower that has gone."""
        self._followers.remove(follower)
        self.listening = bool(self._followers)

    def show(self, chunks: Sequence[Chunk]) -> None:
        """Show chunks to every follower."""
        for follower in self._followers:
            follower.show(chunks)

    def close(self) -> None:
        """Let the followers get the events in their buffers, and then their end: a stop has begun."""
        # Else an answer that never ends would hold the stop of the operators' address.
        self.closed = True
        for follower in self._followers:
            follower.wake()
