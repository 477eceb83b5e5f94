"""`Job`: a batch on its way into a sink, in one portion or in several. Pure.

Invariants: each index of the batch has an outcome, or is in one portion that is still to be written; ``left`` counts
the indexes without an outcome. A batch that is written at once is never copied.
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
    """The answer to a request that waits for a chunk: how many of the events have which outcome in this sink."""

    receipt: Receipt
    delivered: int
    dead_lettered: int
    dropped: int

    @property
    def known(self) -> int:
        """Events that have an outcome."""
        return self.delivered + self.dead_lettered + self.dropped


class _Todo:
    """A portion that is still to be written.

    ``attempt`` counts its tries, ``failures`` the failed tries since the portion was last held. ``held_at`` is the
    number of `Suspicion.witnesses` when the sink first refused nearly everything of the portion; None: it never did.
    """

    __slots__ = ("attempt", "failures", "held_at", "indexes")

    def __init__(self, indexes: Sequence[int], held_at: int | None) -> None:
        self.indexes = indexes
        self.attempt = self.failures = 0
        self.held_at = held_at

    @property
    def held(self) -> bool:
        """Whether the sink has refused the portion in this job."""
        # A portion that was held before, and read back from the journal, is to be tried: nobody has asked the sink yet.
        return self.attempt > 0 and self.held_at is not None


class Job:
    """The delivery of one batch.

    >>> job = Job(make_batch([make_event(n) for n in "abcd"]))
    >>> half = job.next(2)
    >>> job.begin_attempt()
    1
    >>> [(chunk is job.batch.chunks[0], spent) for chunk, spent in job.done(half, refused={1: "too long"})]
    [(True, 2)]
    >>> job.left, [event.id for event in job.next(9).batch]
    (2, ['c', 'd'])
    """

    __slots__ = ("_spent", "_todo", "batch", "dropped", "left", "refused")

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.left = len(batch)
        self.refused: dict[int, str] = {}
        """Index and reason of each event that became a dead letter."""
        self.dropped: Sequence[int] = ()
        """Indexes that were given up, ascending."""
        # A range costs nothing to make; most batches are written at once, and no list of indexes is ever needed.
        self._todo = [_Todo(range(self.left), None)]
        self._spent: dict[Chunk, int] = {}

    def remember(self, held_at: Sequence[int | None]) -> None:
        """Say, before the first try, at how many witnesses each chunk was held before; None: it was not."""
        self._todo, start = [], 0
        for at, chunks in groupby(zip(held_at, self.batch.chunks, strict=True), key=lambda pair: pair[0]):
            stop = start + sum(len(chunk.events) for _, chunk in chunks)
            # Portions of their own: events that were never refused must not share the fate of those that were.
            self._todo.append(_Todo(range(start, stop), at))
            start = stop

    @property
    def held_at(self) -> int | None:
        """The `Suspicion.witnesses` when the sink first refused nearly everything of the next portion, or None."""
        return self._todo[0].held_at if self._todo else None

    @property
    def failures(self) -> int:
        """The tries of the next portion that failed since the portion was last held: the retries that are spent."""
        return self._todo[0].failures if self._todo else 0

    @property
    def held(self) -> bool:
        """Whether the sink has refused all that is left, together with nearly everything else."""
        # Refused portions go to the end, so if the first is refused, all are.
        return bool(self._todo) and self._todo[0].held

    @property
    def held_events(self) -> int:
        """Events that the sink has refused together with nearly everything else."""
        return sum(len(todo.indexes) for todo in self._todo if todo.held)

    def is_held_since(self, witnesses: int) -> bool:
        """Whether the job is `held`, and the sink has stored nothing since it first refused any of the events."""
        return self.held and all(todo.held_at == witnesses for todo in self._todo)

    def next(self, most: int) -> Portion:
        """The portion that comes next, of at most ``most`` events."""
        head = self._todo[0]
        if len(head.indexes) > most:
            rest = _Todo(head.indexes[most:], head.held_at)
            # A held portion was refused as a whole, so the second half is held as well. Other tries do not count: the
            # half has failed for nothing yet.
            rest.attempt = head.attempt if head.held else 0
            head.indexes = head.indexes[:most]
            self._todo.insert(1, rest)
        # The usual case: nothing was split off or held, so the sink gets the batch itself and nothing is copied.
        whole = len(head.indexes) == len(self.batch)
        return Portion(head.indexes, self.batch if whole else Batch(list(self._select(head.indexes))))

    def begin_attempt(self) -> int:
        """Count a try of the next portion. Returns the number of its tries."""
        self._todo[0].attempt += 1
        return self._todo[0].attempt

    def fail(self) -> None:
        """Count the try of the next portion as failed."""
        self._todo[0].failures += 1

    def done(self, portion: Portion, refused: Mapping[int, str]) -> list[tuple[Chunk, int]]:
        """Every event of the next portion has its outcome; ``refused`` are places in the portion.

        Returns each chunk with the number of its events that need not be kept for this sink any more, while others of
        the job have no outcome; nothing when the whole job is done.
        """
        # The next portion has tries of its own: it has failed for nothing yet.
        del self._todo[0]
        self.refused.update((portion.indexes[place], reason) for place, reason in refused.items())
        return self._spend(portion.indexes)

    def hold(self, portion: Portion, refused: Iterable[int], witnesses: int) -> list[tuple[Chunk, int]]:
        """Hold the places ``refused`` of the next portion; its other events are stored. Returns the same as `done`."""
        held = self._todo.pop(0)
        # Sorted, for `_by_chunk` finds the indexes of a chunk by bisection.
        held.indexes = [portion.indexes[place] for place in sorted(refused)]
        # Refusals of the sink must not cost the batch its retries: the first hiccup after a hold would drop the events.
        held.failures = 0
        if held.held_at is None:
            held.held_at = witnesses
        # Behind the other portions of this batch: there may be good events in them.
        self._todo.append(held)
        written = set(portion.indexes).difference(held.indexes)
        return self._spend(sorted(written))

    def drop(self) -> int:
        """Give up the events that are left. Returns their number."""
        # The indexes are kept: a request that waits is told which of its events were dropped.
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
        # By bisection, since a batch may have as many chunks as events, and few of them are followed.
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
            # The whole job is released at once, which costs less than chunk by chunk.
            return []
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
        # Chunk by chunk, since a sink may walk over the chunks for their times of arrival.
        for chunk, places in self._by_chunk(indexes):
            count = len(chunk.events)
            if len(places) == count:
                # Untouched chunks are shared, because they may be large.
                yield chunk
                continue
            events = [chunk.events[place] for place in places]
            # Without the journal's index and the receipt: the whole chunk, not this copy, is released and noted.
            piece = Chunk(events, chunk.received_at, chunk.size * len(events) // count, derived=chunk.derived)
            piece.traced = chunk.traced
            yield piece
