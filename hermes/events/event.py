"""The data that travels through Hermes: event, chunk (the events of one request), batch (the chunks of one write).

Invariant: nothing on the way changes an event, and ``payload`` stays the client's own bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Annotated, overload

import msgspec
from msgspec import Meta, Raw

from hermes.events.ack import Receipt, Tell
from hermes.observe.traced_request import TracedRequest

MAX_TIMESTAMP = 253_402_300_799
"""The last second of the year 9999, in Unix seconds: the last time that every sink can store."""

EMPTY_PAYLOAD = Raw(b"{}")

EVENT_BYTES = 256
"""The bytes of memory that an event takes beside its payload, by the count of the queue's and the journal's bounds."""


# gc=False: an event refers to no container, so the collector need not visit the millions in a full queue.
class Event(msgspec.Struct, gc=False):
    """One event of a client.

    ``id`` is the idempotency key; ``timestamp`` is in Unix seconds; ``payload`` is the raw text of a JSON object
    (``bytes(event.payload)``), never re-encoded. The strings hold no U+0000.

    >>> event = Event("7", "ann", "song_played", 1700000000, msgspec.Raw(b'{"title": "Alive"}'))
    >>> bytes(event.payload)
    b'{"title": "Alive"}'
    >>> msgspec.json.decode(event.payload)
    {'title': 'Alive'}
    """

    id: Annotated[str, Meta(min_length=1, max_length=256)]
    user_id: Annotated[str, Meta(min_length=1, max_length=256)]
    # Without a bound: `EventDecoder` gives the type its form, which depends on EVENT_TYPES.
    type: str
    timestamp: Annotated[int, Meta(ge=0, le=MAX_TIMESTAMP)]
    # An event may lack a payload. A sink gets a JSON object all the same, and needs no case of its own.
    payload: Raw = EMPTY_PAYLOAD


class Chunk:
    """Events that arrived together, in the client's order.

    ``received_at`` is the wall-clock time of arrival in Unix seconds. ``size`` is the number of bytes that the chunk
    keeps alive, by admission's count. ``unsettled`` is the number of sinks whose outcome admission still waits for.
    ``derived`` marks events that Hermes made of other events; they are not counted again. ``index`` is the chunk's
    place in the journal, -1 before it has one; ``waiting`` are the requests that are answered once the chunk has an
    index. ``receipt`` follows the events of a request that waits for their delivery. ``traced`` are the traced requests
    of the events, or None; a chunk that was read back from a journal has lost them. ``continues``: the next chunk has
    more events of the same request, and shares the commit.

    >>> chunk = Chunk([make_event("1"), make_event("2")], received_at=1700000001.5, size=200)
    >>> [event.id for event in chunk.events], chunk.received_at
    (['1', '2'], 1700000001.5)
    """

    __slots__ = (
        "continues",
        "derived",
        "events",
        "index",
        "receipt",
        "received_at",
        "size",
        "traced",
        "unsettled",
        "waiting",
    )

    def __init__(self, events: list[Event], received_at: float, size: int, *, derived: bool = False) -> None:
        self.events = events
        self.received_at = received_at
        self.size = size
        self.unsettled = 0
        self.derived = derived
        self.continues = False
        # 0 is the index of a journal's first record.
        self.index = -1
        # A list, because a chunk may carry the events of several small requests.
        self.waiting: list[Tell] = []
        self.receipt: Receipt | None = None
        self.traced: list[TracedRequest] | None = None

    def split(self, most: int) -> Sequence[Chunk]:
        """Return chunks of at most ``most`` events each, which share out the size; the chunk itself if small enough.

        Each piece has the journal's index, the receipt and the traced requests of this chunk. The requests that wait
        for the commit are left to the caller, who tells them only after the last piece.

        >>> [(len(piece), piece.size) for piece in make_chunk(5).split(2)]
        [(2, 216), (2, 216), (1, 108)]
        """
        count = len(self.events)
        if count <= most:
            return (self,)
        starts = range(0, count, most)
        # Differences of rounded sums, so that the sizes of the pieces add up to the size exactly.
        sizes = [self.size * min(start + most, count) // count - self.size * start // count for start in starts]
        pieces = [
            Chunk(self.events[start : start + most], self.received_at, size, derived=self.derived)
            for start, size in zip(starts, sizes, strict=True)
        ]
        # `waiting` and `continues` stay with the caller, who knows which piece is the last.
        for piece in pieces:
            piece.index, piece.receipt, piece.traced = self.index, self.receipt, self.traced
        return pieces

    @property
    def is_awaited(self) -> bool:
        """Whether a request waits for the commit of the chunk, or for its delivery."""
        return bool(self.waiting) or self.receipt is not None

    def __len__(self) -> int:
        return len(self.events)


class Batch(Sequence[Event]):
    """The events of one write, in order of arrival, kept as the chunks in which they arrived.

    A batch is a plain sequence of events. A sink that also needs the times of arrival iterates over ``chunks``.

    >>> batch = Batch([make_chunk([make_event("1"), make_event("2")]), make_chunk([make_event("3")])])
    >>> len(batch), [event.id for event in batch]
    (3, ['1', '2', '3'])
    >>> [(chunk.received_at, len(chunk)) for chunk in batch.chunks]
    [(1700000001.25, 2), (1700000001.25, 1)]
    """

    __slots__ = ("_events", "chunks")

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self.chunks = chunks
        # Made on first use: a sink that walks the chunks never needs the list.
        self._events: list[Event] | None = None

    @property
    def events(self) -> list[Event]:
        """All events in one list, made on first use. ``BatchRejected`` names events by their indexes in this list."""
        if self._events is None:
            self._events = list(chain.from_iterable([chunk.events for chunk in self.chunks]))
        return self._events

    @property
    def arrivals(self) -> list[float]:
        """The time of arrival of each event, in Unix seconds; as long as ``events``."""
        return [chunk.received_at for chunk in self.chunks for _ in chunk.events]

    def __len__(self) -> int:
        return sum(map(len, self.chunks))

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    @overload
    def __getitem__(self, index: int) -> Event: ...
    @overload
    def __getitem__(self, index: slice) -> list[Event]: ...
    def __getitem__(self, index: int | slice) -> Event | list[Event]:
        return self.events[index]
