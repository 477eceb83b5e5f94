"""`LoadedRecord`: one record of the journal, while any of its events are in memory for one sink. Pure.

Invariant: an event of the record has its outcome, or is in one piece, or was put back on disk.
"""

from __future__ import annotations

from collections.abc import Sequence

from hermes.events.event import Chunk


class LoadedRecord:
    """A record of ``events`` events, the first of which has the number ``first`` in the journal.

    ``left`` events are in memory, in ``pieces`` chunks; ``places`` says which of the record's events each piece has,
    unless one piece has all. ``back`` has a bit for each event that was put back on disk, refused when there were
    ``put_back_at`` witnesses, while others are in memory. ``fed``: the record was read back. ``held_at`` is the
    ``put_back_at`` of an earlier time in memory; None: the record was never put back. ``spilled`` events were in memory
    when a worker stopped. ``kept`` is false when the journal has forgotten the record, so that only memory has the
    events.

    >>> chunk = make_chunk([make_event("a"), make_event("b"), make_event("c")])
    >>> record = LoadedRecord(chunk, first=40)
    >>> pieces = chunk.split(2)
    >>> record.share_out(pieces, range(3))
    >>> [record.places[piece] for piece in pieces]
    [range(0, 2), range(2, 3)]
    """

    __slots__ = (
        "back",
        "events",
        "fed",
        "first",
        "held_at",
        "kept",
        "left",
        "pieces",
        "places",
        "put_back_at",
        "received_at",
        "spilled",
    )

    def __init__(self, chunk: Chunk, first: int) -> None:
        self.events = self.left = len(chunk.events)
        self.first = first
        self.pieces = 1
        # None stands for the usual record, whose one piece has all events: a dict for each would cost memory.
        self.places: dict[Chunk, Sequence[int]] | None = None
        self.received_at = chunk.received_at
        self.fed = False
        self.held_at: int | None = None
        self.kept = True
        self.spilled = self.back = self.put_back_at = 0

    def share_out(self, pieces: Sequence[Chunk], places: Sequence[int]) -> None:
        """The events at ``places``, all that are left, are in these pieces."""
        # Counted, not kept: the buffer and the workers have the pieces.
        self.pieces = len(pieces)
        if self.pieces == 1 and self.left == self.events:
            # The usual record has one piece with all events, so nothing has to be remembered.
            return
        self.places, start = {}, 0
        for piece in pieces:
            stop = start + len(piece.events)
            self.places[piece] = places[start:stop]
            start = stop


def select_events(chunk: Chunk, places: Sequence[int]) -> Chunk:
    """The events at these places, with the index, the receipt and the traced requests of the chunk.

    >>> [event.id for event in select_events(make_chunk([make_event("a"), make_event("b")]), [1]).events]
    ['b']
    """
    # The size in proportion, as `Chunk.split` shares it out: payloads are not measured again.
    events = [chunk.events[place] for place in places]
    rest = Chunk(events, chunk.received_at, chunk.size * len(events) // len(chunk.events), derived=chunk.derived)
    rest.index, rest.receipt, rest.traced = chunk.index, chunk.receipt, chunk.traced
    return rest
