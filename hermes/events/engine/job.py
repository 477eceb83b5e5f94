"""A batch on its way into a sink, in one piece or in several: what of it is still to be written. Pure.

Invariants: an index of the batch is in one portion that is still to be written, or it has an outcome; ``left`` counts
those without one. A batch that is written at once is never copied.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from hermes.events.ack import Receipt
from hermes.events.event import Batch, Chunk


class Portion(NamedTuple):
    """Events that are written at once: their indexes in the whole batch, ascending, and the batch that they make."""

    indexes: Sequence[int]
    batch: Batch


class Told(NamedTuple):
    """What a request that waits for a chunk is told of its events: how many have which outcome in this sink."""

    receipt: Receipt
    delivered: int
    dead_lettered: int
    dropped: int

    @property
    def known(self) -> int:
        """Events that have an outcome."""
        return self.delivered + self.dead_lettered + self.dropped


class _Todo:
    """A portion that is still to be written, its tries, and the failed ones among them since it was last held.

    ``held_at`` is `Suspicion.witnesses` when the sink first refused nearly everything of it; None: it has not.
    """

    __slots__ = ("attempt", "failures", "held_at", "indexes")

    def __init__(self, indexes: Sequence[int], held_at: int | None) -> None:
        self.indexes = indexes
        self.attempt = self.failures = 0
        self.held_at = held_at

    @property
    def held(self) -> bool:
        """Whether the sink was asked and refused it, in this job: one that was held before is to be tried at once."""
        return self.attempt > 0 and self.held_at is not None


class Job:
    """The delivery of one batch."""

    __slots__ = ("_spent", "_todo", "batch", "dropped", "left", "refused")

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.left = len(batch)
        self.refused: dict[int, str] = {}
        """Index and reason of each event that became a dead letter."""
        self.dropped: Sequence[int] = ()
        """Indexes that were given up, ascending."""
        self._todo = [_Todo(range(self.left), None)]
        self._spent: dict[Chunk, int] = {}

    def remember(self, held_at: Sequence[int | None]) -> None:
        """Before the first try: each chunk was held before, at so many witnesses, or not (None)."""
        self._todo, start = [], 0
        for at, chunks in groupby(zip(held_at, self.batch.chunks, strict=True), key=lambda pair: pair[0]):
            stop = start + sum(len(chunk.events) for _, chunk in chunks)
            # Portions of their own: events that were never refused must not share the fate of those that were.
            self._todo.append(_Todo(range(start, stop), at))
            start = stop

    @property
    def held_at(self) -> int | None:
        """Of the next portion: `Suspicion.witnesses` when the sink first refused nearly everything; None: it has
        not."""
        return self._todo[0].held_at if self._todo else None

    @property
    def failures(self) -> int:
        """Tries of the next portion that failed since it was last held: these count for the retries."""
        return self._todo[0].failures if self._todo else 0

    @property
    def held(self) -> bool:
        """Whether nothing is left but what the sink has refused together with nearly everything else."""
        return bool(self._todo) and self._todo[0].held

    @property
    def held_events(self) -> int:
        """Events that the sink has refused together with nearly everything else."""
        return sum(len(todo.indexes) for todo in self._todo if todo.held)

    def is_held_since(self, witnesses: int) -> bool:
        """Whether it is `held`, and nothing was stored since any of it was first refused."""
        return self.held and all(todo.held_at == witnesses for todo in self._todo)

    def next(self, most: int) -> Portion:
        """The portion that comes next, of at most ``most`` events."""
        head = self._todo[0]
        if len(head.indexes) > most:
            rest = _Todo(head.indexes[most:], head.held_at)
            # What was tried as a whole was tried in both halves: a held one waits for its turn as before.
            rest.attempt = head.attempt if head.held else 0
            head.indexes = head.indexes[:most]
            self._todo.insert(1, rest)
        # The usual case: nothing was split off or held, so the sink gets the batch itself and nothing is copied.
        whole = len(head.indexes) == len(self.batch)
        return Portion(head.indexes, self.batch if whole else Batch(list(self._select(head.indexes))))

    def begin_attempt(self) -> int:
        """The next portion is tried. Returns how many tries of it that makes."""
        self._todo[0].attempt += 1
        return self._todo[0].attempt

    def fail(self) -> None:
        """The try of the next portion has failed."""
        self._todo[0].failures += 1

    def done(self, portion: Portion, refused: Mapping[int, str]) -> list[tuple[Chunk, int]]:
        """Every event of the next portion has its outcome; ``refused`` are places in the portion.

        Returns the chunks, and how many of their events, that need not be kept for this sink any more, though others
        of the job do; nothing when the whole job is done.
        """
        del self._todo[0]
        self.refused.update((portion.indexes[place], reason) for place, reason in refused.items())
        return self._spend(portion.indexes)

    def hold(self, portion: Portion, refused: Iterable[int], witnesses: int) -> list[tuple[Chunk, int]]:
        """Of the next portion only the places ``refused`` are left, and they are held. Returns what `done` does."""
        held = self._todo.pop(0)
        held.indexes = [portion.indexes[place] for place in sorted(refused)]
        held.failures = 0
        if held.held_at is None:
            held.held_at = witnesses
        # Behind the other portions of this batch: there may be good events in them.
        self._todo.append(held)
        written = set(portion.indexes).difference(held.indexes)
        return self._spend(sorted(written))

    def drop(self) -> int:
        """Give up what is left. Returns how many events that is."""
        self.dropped = self._indexes_left()
        self.left = 0
        return len(self.dropped)

    def unspent(self) -> list[int]:
        """For each chunk, how many of its events `done` and `hold` have not returned."""
        return [len(chunk.events) - self._spent.get(chunk, 0) for chunk in self.batch.chunks]

    def places_left(self) -> list[Sequence[int]]:
        """For each chunk, the places of its events that have no outcome, ascending."""
        if self.left == len(self.batch):
            return [range(len(chunk.events)) for chunk in self.batch.chunks]
        left = dict(self._by_chunk(self._indexes_left()))
        return [left.get(chunk, ()) for chunk in self.batch.chunks]

    def tell(self) -> Iterator[Told]:
        """Of each chunk that a request waits for, the outcomes that are known."""
        refused, dropped, left = sorted(self.refused), self.dropped, self._indexes_left() if self.left else []
        start = 0
        for chunk in self.batch.chunks:
            stop = start + len(chunk.events)
            if chunk.receipt is not None:
                dead, gone, unknown = (
                    bisect_left(indexes, stop) - bisect_left(indexes, start) for indexes in (refused, dropped, left)
                )
                yield Told(chunk.receipt, len(chunk.events) - dead - gone - unknown, dead, gone)
            start = stop

    def _indexes_left(self) -> list[int]:
        return sorted(index for todo in self._todo for index in todo.indexes)

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
