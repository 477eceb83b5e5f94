"""A batch on its way into a sink, in one piece or in several: what of it is still to be written. Pure.

Invariants: an index of the batch is in one portion that is still to be written, or it has an outcome; ``left`` counts
those without one. A batch that is written at once is never copied.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from hermes.event import Batch, Chunk


class Portion(NamedTuple):
    """Events that are written at once: their indexes in the whole batch, ascending, and the batch that they make."""

    indexes: Sequence[int]
    batch: Batch


class Job:
    """The delivery of one batch."""

    __slots__ = ("_spent", "_todo", "attempt", "batch", "dropped", "failures", "held_at", "left", "refused")

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.left = len(batch)
        self.attempt = 0
        """Tries of the portion that comes next."""
        self.failures = 0
        """Tries of it that failed since it was last held: these count for the retries."""
        self.refused: dict[int, str] = {}
        """Index and reason of each event that became a dead letter."""
        self.dropped: Sequence[int] = ()
        """Indexes that were given up, ascending."""
        self.held_at: int | None = None
        """`Suspicion.witnesses` when the sink first refused nearly everything of a portion; None: it has not."""
        self._todo: list[Sequence[int]] = [range(self.left)]
        self._spent: dict[Chunk, int] = {}

    def next(self, most: int) -> Portion:
        """The portion that comes next, of at most ``most`` events."""
        head = self._todo[0]
        if len(head) > most:
            self._todo[:1] = [head[:most], head[most:]]
            head = self._todo[0]
        # The usual case: nothing was split off or held, so the sink gets the batch itself and nothing is copied.
        whole = len(head) == len(self.batch)
        return Portion(head, self.batch if whole else Batch(list(self._select(head))))

    def done(self, portion: Portion, refused: Mapping[int, str]) -> list[tuple[Chunk, int]]:
        """Every event of the next portion has its outcome; ``refused`` are places in the portion.

        Returns the chunks, and how many of their events, that need not be kept for this sink any more, though others
        of the job do; nothing when the whole job is done.
        """
        del self._todo[0]
        self.refused.update((portion.indexes[place], reason) for place, reason in refused.items())
        # The next portion has tries of its own: it has failed for nothing yet.
        self.attempt = self.failures = 0
        self.held_at = None
        return self._spend(portion.indexes)

    def hold(self, portion: Portion, refused: Iterable[int], witnesses: int) -> list[tuple[Chunk, int]]:
        """Of the next portion only the places ``refused`` are left, and they are held. Returns what `done` does."""
        rest = [portion.indexes[place] for place in sorted(refused)]
        # They stay the next portion: after a pause they are tried again, before others of this batch.
        self._todo[0] = rest
        self.failures = 0
        if self.held_at is None:
            self.held_at = witnesses
        written = set(portion.indexes).difference(rest)
        return self._spend(sorted(written))

    def drop(self) -> int:
        """Give up what is left. Returns how many events that is."""
        self.dropped = sorted(index for portion in self._todo for index in portion)
        self.left = 0
        return len(self.dropped)

    def unspent(self) -> list[int]:
        """For each chunk, how many of its events `done` and `hold` have not returned."""
        return [len(chunk.events) - self._spent.get(chunk, 0) for chunk in self.batch.chunks]

    def _spend(self, indexes: Sequence[int]) -> list[tuple[Chunk, int]]:
        self.left -= len(indexes)
        if not self.left:
            return []  # the whole job is released at once, which costs less than chunk by chunk
        spent = [(chunk, len(places)) for chunk, places in self._by_chunk(indexes)]
        for chunk, count in spent:
            self._spent[chunk] = self._spent.get(chunk, 0) + count
        return spent

    def _by_chunk(self, indexes: Sequence[int]) -> Iterator[tuple[Chunk, list[int]]]:
        """The chunks that have any of the indexes, with their places in the chunk."""
        start = 0
        for chunk in self.batch.chunks:
            stop = start + len(chunk.events)
            inside = indexes[bisect_left(indexes, start) : bisect_left(indexes, stop)]
            if inside:
                yield chunk, [index - start for index in inside]
            start = stop

    def _select(self, indexes: Sequence[int]) -> Iterator[Chunk]:
        for chunk, places in self._by_chunk(indexes):
            count = len(chunk.events)
            if len(places) == count:
                yield chunk  # untouched chunks are shared, for they may be large
                continue
            events = [chunk.events[place] for place in places]
            piece = Chunk(events, chunk.received_at, chunk.size * len(events) // count, derived=chunk.derived)
            piece.traced = chunk.traced
            yield piece
