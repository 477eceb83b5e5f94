"""Counts of events by type and minute, for ``GET /aggregates``.

Bounded by minutes, of which the one farthest from now makes room, so that no client whose clock is wrong takes the
place of the others; by types, of which the late ones count as one; and by cells, a type in a minute each, of which the
late ones count as one a minute. Invariant: the counts in ``snapshot`` plus ``dropped`` are the events that were added.
Pure. Called by the intake, once for the chunks of one wake-up.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Mapping, Sequence

from hermes.events.event import Chunk

MAX_TYPES = 1000
MAX_CELLS = 50_000
"""Some 7 MB, and 0.2 s for ``GET /aggregates``; every type in every minute of a day would be 29 times as much."""

OTHER = "(other)"
"""Counts the types beyond the first thousand, and in each minute those beyond the cells: only a free choice of types
(``EVENT_TYPES=*``) brings so many. It has a cell of its own a minute above `MAX_CELLS`."""


class Aggregator:
    """Keeps the counts of the ``max_minutes`` minutes nearest to now that any event named, in ``max_cells`` or so.

    >>> aggregator = Aggregator(max_minutes=60)
    >>> aggregator.add([make_chunk([make_event("a", type="play", timestamp=120), make_event("b", type="play")])])
    >>> aggregator.window(2, 2)
    {2: Counter({'play': 1})}
    """

    def __init__(self, max_minutes: int, max_cells: int = MAX_CELLS) -> None:
        self.received: Counter[str] = Counter()
        self.dropped = 0
        self._max_minutes = max_minutes
        self._max_cells = max_cells
        self._cells = 0
        self._minutes: dict[int, Counter[str]] = {}
        # The minutes, the oldest first: the farthest from now is at one of the two ends.
        self._order: list[int] = []

    def add(self, chunks: Sequence[Chunk]) -> None:
        """Count the events of chunks. Now is when the last of them arrived."""
        now = int(chunks[-1].received_at) // 60 if chunks else 0
        # Counted by one call for all chunks, because this runs for every event.
        # Not a list: 10,000 tuples at once would make the garbage collector walk all events that wait.
        # Without derived chunks: counts that were flushed as events would be counted again.
        counts = Counter(
            (event.type, event.timestamp // 60) for chunk in chunks if not chunk.derived for event in chunk.events
        )
        for (name, minute), count in counts.items():
            # A type that is known stays itself; only new ones, beyond the bound, are summed up.
            kind = name if name in self.received or len(self.received) < MAX_TYPES else OTHER
            self.received[kind] += count
            self._add(kind, minute, count, now)

    def _add(self, kind: str, minute: int, count: int, now: int) -> None:
        bucket = self._minutes.get(minute)
        if bucket is None:
            if len(self._minutes) >= self._max_minutes:
                place = 0 if now - self._order[0] >= self._order[-1] - now else -1
                # No client's clock pushes out the minutes of the others: a minute that is farther is not kept at all.
                if abs(minute - now) > abs(self._order[place] - now):
                    self.dropped += count
                    return
                farthest = self._minutes.pop(self._order.pop(place))
                self.dropped += farthest.total()
                self._cells -= len(farthest)
            bucket = self._minutes[minute] = Counter()
            insort(self._order, minute)
        # A full table takes no new cell; each minute has one more for the others.
        if kind not in bucket:
            if self._cells >= self._max_cells:
                kind = OTHER
            self._cells += kind not in bucket
        bucket[kind] += count

    def window(self, first: int, last: int) -> dict[int, Mapping[str, int]]:
        """The counts of the minutes from ``first`` to ``last``, both included; minutes without any are left out."""
        return {minute: counts for minute in range(first, last + 1) if (counts := self._minutes.get(minute))}

    def snapshot(self) -> dict[str, int]:
        """The counts, keyed ``type:minute`` (the minute is ``timestamp // 60``), oldest minute first."""
        return {
            f"{kind}:{minute}": count
            for minute in sorted(self._minutes)
            for kind, count in sorted(self._minutes[minute].items())
        }
