"""`LoadedRecord`: one record of the journal while any of its events are in memory for one sink. Pure.

Invariant: an event of the record has its outcome, or is in one piece, or was put back on disk.
"""

from __future__ import annotations

from collections.abc import Sequence

from hermes.events.event import Chunk


class LoadedRecord:
    """A record in memory, whose first event has the number ``first``. ``left`` of its ``events`` are there yet.

    ``pieces`` are in memory or on their way; ``places`` says which of the record's events each piece has, where a piece
    has not all of them. ``back`` has a bit for each event that was put back on disk, refused when there were
    ``put_back_at`` witnesses, while others are in memory. ``fed``: it was read back. ``held_at`` is the ``put_back_at``
    of an earlier time in memory; None: it was never put back. ``spilled`` were there when a worker stopped. ``kept`` is
    false when the journal has forgotten it, so that memory is all that has it.
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
        self.places: dict[Chunk, Sequence[int]] | None = None
        self.received_at = chunk.received_at
        self.fed = False
        self.held_at: int | None = None
        self.kept = True
        self.spilled = self.back = self.put_back_at = 0

    def share_out(self, pieces: Sequence[Chunk], places: Sequence[int]) -> None:
        """The events at ``places``, all that are left, are in these pieces."""
        self.pieces = len(pieces)
        if self.pieces == 1 and self.left == self.events:
            return  # the usual record has one piece with all events, so nothing has to be remembered
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
    events = [chunk.events[place] for place in places]
    rest = Chunk(events, chunk.received_at, chunk.size * len(events) // len(chunk.events), derived=chunk.derived)
    rest.index, rest.receipt, rest.traced = chunk.index, chunk.receipt, chunk.traced
    return rest
