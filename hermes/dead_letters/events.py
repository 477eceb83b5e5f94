"""The dead letters of events: an event as a letter and back, which letters are events', and how they are replayed.

Invariant: an event comes back as it went in, its payload byte for byte. The source of an event's letter is the sink
that refused it; its facts are the event's fields, its body is the event's payload.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby

import msgspec
from msgspec import Raw

from hermes.dead_letters.contract import DeadLetter, Selection, Source
from hermes.dead_letters.replay import Target
from hermes.event import Batch, Chunk, Event

PART = "events"


class Facts(msgspec.Struct, gc=False):
    """The facts of an event's letter. Their order is part of what is stored (see `hermes.dead_letters.rows`)."""

    id: str
    user_id: str
    type: str
    timestamp: int
    """In Unix seconds."""


def sink_source(sink: str) -> Source:
    """The source of the letters that the sink of this name refused."""
    return Source(PART, sink)


def to_letter(
    event: Event, sink: str, reason: str, attempts: int, *, rejected_at: float, received_at: float
) -> DeadLetter:
    """The letter of an event that ``sink`` refused. It shares no memory with the body of the event's request.

    >>> letter = to_letter(make_event("7"), "postgres", "no", 1, rejected_at=1700000009.0, received_at=1700000001.0)
    >>> letter.source.name, letter.facts["id"], letter.body
    ('postgres', '7', b'{}')
    """
    facts = msgspec.structs.asdict(Facts(event.id, event.user_id, event.type, event.timestamp))
    # bytes() makes a copy: the payload itself would keep the whole request's body alive.
    body = bytes(event.payload)
    return DeadLetter(sink_source(sink), facts, body, reason, attempts, rejected_at, received_at)


def to_event(letter: DeadLetter) -> Event:
    """The event of a letter that `to_letter` made."""
    facts = msgspec.convert(letter.facts, Facts)
    return Event(facts.id, facts.user_id, facts.type, facts.timestamp, Raw(letter.body))


def to_batch(letters: Sequence[DeadLetter]) -> Batch:
    """A batch whose event at an index is that of the letter at this index, with its time of arrival."""
    chunks = []
    for received_at, group in groupby(letters, key=lambda letter: letter.received_at):
        events = [to_event(letter) for letter in group]
        chunks.append(Chunk(events, received_at, sum(len(event.payload) for event in events)))
    return Batch(chunks)


def sink_target(write: Callable[[Batch], Awaitable[None]], max_batch: int) -> Target:
    """Where a sink's letters are replayed to. ``write`` keeps the contract of `hermes.Sink.write`."""

    async def write_letters(letters: Sequence[DeadLetter]) -> None:
        await write(to_batch(letters))

    return Target(write_letters, max_batch)


def select_events(
    sink: str | None = None,
    type: str | None = None,  # noqa: A002 - the field's own name
    reason: str | None = None,
    since: float | None = None,
    numbers: Sequence[int] | None = None,
) -> Selection:
    """The letters of events that match everything that is given; without an argument, all letters of events."""
    facts = {} if type is None else {"type": type}
    return Selection(PART, sink, facts, reason, since, numbers)
