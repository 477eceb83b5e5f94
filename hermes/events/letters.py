"""The dead letters of events: turns an event into a letter and back, selects such letters, and replays them.

Invariant: an event comes back unchanged, its payload byte for byte. The source of an event's letter is the sink
that refused the event; the facts are the event's fields, the body is the event's payload.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby
from typing import Any

import msgspec
from msgspec import Raw

from hermes.dead_letters.contract import SINKS_PART, DeadLetter, Source
from hermes.dead_letters.notation import format_time
from hermes.dead_letters.replay import Target
from hermes.dead_letters.view import LetterView
from hermes.events.event import Batch, Chunk, Event

# The contract owns the name: operators name the sources of this part, and of no other, without the part.
PART = SINKS_PART


# gc=False: strings and an integer make no cycle for the garbage collector to find.
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
    """The letter of an event that ``sink`` refused. The letter shares no memory with the body of the event's request.

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
    # Raw: a sink gets the payload byte for byte. To parse it here could change numbers and the order of keys.
    return Event(facts.id, facts.user_id, facts.type, facts.timestamp, Raw(letter.body))


def to_batch(letters: Sequence[DeadLetter]) -> Batch:
    """A batch with one event for each letter, in the same order, with the letters' times of arrival."""
    chunks = []
    # groupby, and no sort: a sink names the events that it refuses by their index, which is the letter's.
    # A chunk has a single time of arrival, so neighbours with the same time share a chunk.
    for received_at, group in groupby(letters, key=lambda letter: letter.received_at):
        events = [to_event(letter) for letter in group]
        chunks.append(Chunk(events, received_at, sum(len(event.payload) for event in events)))
    return Batch(chunks)


def sink_target(write: Callable[[Batch], Awaitable[None]], max_batch: int) -> Target:
    """The target to which a sink's letters are replayed. ``write`` keeps the contract of `hermes.Sink.write`."""

    async def write_letters(letters: Sequence[DeadLetter]) -> None:
        await write(to_batch(letters))

    return Target(write_letters, max_batch)


class EventMembers(msgspec.Struct):
    """The members of an event's letter in JSON. ``event`` can be sent to ``POST /events`` again."""

    sink: str
    event: Event


def _kind() -> type[msgspec.Struct]:
    from hermes.net.control.openapi.schemas import restate  # here, for it takes a while to import

    # In the service the payload is raw bytes, whose schema msgspec cannot know.
    words = "The event, as it would be sent to `POST /events`."
    event = restate(Event, "LetterEvent", words, payload=(dict[str, Any],))
    kind: type[msgspec.Struct] = restate(EventMembers, "EventMembers", "", event=(event,))
    return kind


EVENT_LETTERS = LetterView(
    source="sink",
    body="payload",
    titles={"id": "event id", "user_id": "user id"},
    texts={"timestamp": lambda seconds: f"{seconds} ({format_time(seconds)})"},
    listed=("type", "id"),
    members=lambda letter: EventMembers(letter.source.name, to_event(letter)),
    kind=_kind,
)
"""How the letters of events are shown."""
