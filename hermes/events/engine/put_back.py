"""`PutBack`: the refused records of one sink that were put back on disk, so that others get their room in memory.

While a sink refuses everything, its workers would fill the memory with refused events, and a good event that lies on
disk would wait until the hold ends. The journal has the refused records anyway, so a range of indexes is enough; of a
record in which some events have their outcome, the places of the others are kept as well. Invariants: ranges ascend and
do not overlap, and neighbours that were first refused at the same time are one range; ``events`` counts the events in
the ranges that have no outcome. Pure.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Range:
    """Records on disk alone, from ``start`` to before ``stop``.

    ``held_at`` is the number of `Suspicion.witnesses` when the sink first refused them; None: it was never asked.
    """

    __slots__ = ("held_at", "start", "stop")

    def __init__(self, start: int, stop: int, held_at: int | None = None) -> None:
        self.start = start
        self.stop = stop
        self.held_at = held_at


class _Refused(Range):
    """A range that is not read for now. ``first`` is the number in the journal of its first event, of ``events``."""

    __slots__ = ("events", "first", "received_at")

    def __init__(self, index: int, held_at: int, first: int, events: int, received_at: float) -> None:
        super().__init__(index, index + 1, held_at)
        self.first = first
        self.events = events
        self.received_at = received_at


class Part(NamedTuple):
    """A record of ``events`` events, some of which have no outcome: ``left`` has a bit for the place of each.

    >>> Part(5, to_bits([1, 4])).done
    3
    """

    events: int
    left: int

    @property
    def done(self) -> int:
        """Events that have their outcome."""
        return self.events - self.left.bit_count()

    def places(self) -> list[int]:
        """The places of the events without an outcome, ascending.

        >>> Part(5, to_bits([1, 4])).places()
        [1, 4]
        """
        # The last digit stands for place 0.
        return [place for place, bit in enumerate(reversed(f"{self.left:b}")) if bit == "1"]


def to_bits(places: Iterable[int]) -> int:
    """A number with a bit for each of the places.

    >>> bin(to_bits([0, 3]))
    '0b1001'
    """
    # A bit for each event, since there may be a thousand such records of 5,000 events each.
    if isinstance(places, range) and places.step == 1:
        return ((1 << len(places)) - 1) << places.start
    bits = 0
    for place in places:
        bits |= 1 << place
    return bits


class PutBack:
    """The ranges that are not read while the sink refuses everything, and the parts of records.

    A part stays here until its record is read back, also when its range is to be read again.

    >>> back = PutBack()
    >>> back.add(7, held_at=0, first=70, part=Part(10, to_bits(range(10))), received_at=1.0)
    >>> back.add(8, held_at=0, first=80, part=Part(10, to_bits([2, 3])), received_at=2.0)
    >>> [(each.start, each.stop) for each in back.ranges], back.events, back.done_between(0, 9)
    ([(7, 9)], 12, 8)
    """

    def __init__(self) -> None:
        self.ranges: list[_Refused] = []
        self.events = 0
        """Events of the ranges that have no outcome."""
        self.parts: dict[int, Part] = {}

    def add(self, index: int, *, held_at: int, first: int, part: Part, received_at: float) -> None:
        """Keep the record at ``index``, of which no event is in memory any more; ``first`` is its first number."""
        # A whole record needs nothing but its place in a range, so memory does not grow with the number of records.
        if part.done:
            self.parts[index] = part
        self.events += part.left.bit_count()
        # Workers put records back in any order.
        place = bisect_left(self.ranges, index, key=lambda each: each.start)
        self.ranges.insert(place, _Refused(index, held_at, first, part.events, received_at))
        # With the next one first: joined with the one before, the range would have another place.
        self._join(place)
        self._join(place - 1)

    def take(self) -> list[Range]:
        """Take out all the ranges: their records are to be read again."""
        # Plain ranges: from now on nothing has to be known of their events, for they are counted as they are read.
        ranges = [Range(each.start, each.stop, each.held_at) for each in self.ranges]
        self.ranges, self.events = [], 0
        return ranges

    def take_part(self, index: int) -> Part | None:
        """Take out the part of a record that is read back; None: no event of the record has an outcome."""
        return self.parts.pop(index, None)

    def events_before(self, stop: int) -> int:
        """All events, done or not, of the records in the ranges below ``stop``, which is in no range."""
        return sum(each.events for each in self.ranges if each.start < stop)

    def done_between(self, start: int, stop: int) -> int:
        """Events that have their outcome, of the parts from ``start`` to before ``stop``."""
        return sum(part.done for index, part in self.parts.items() if start <= index < stop)

    def forget(self, start: int, stop: int) -> None:
        """Forget the parts from ``start`` to before ``stop``: the records are gone."""
        for index in [index for index in self.parts if start <= index < stop]:
            del self.parts[index]

    def cut(self, below: int, before: int) -> None:
        """Forget the ranges below ``below``, before which the journal took ``before`` events."""
        ranges = []
        for each in self.ranges:
            if each.stop > below:
                if each.start < below:
                    # Events are numbered in the order of their records, so the cut range needs no look at the journal.
                    each.events -= before - each.first
                    each.start, each.first = below, before
                ranges.append(each)
        self.ranges = ranges
        # Counted anew: how many of a cut range's events had their outcome is known of its parts alone.
        self.events = sum(each.events - self.done_between(each.start, each.stop) for each in ranges)

    def _join(self, place: int) -> None:
        """Make one of the range at ``place`` and the next, if they touch and were first refused at the same time."""
        pair: Sequence[_Refused] = self.ranges[place : place + 2] if place >= 0 else ()
        # Not with a range of another time: `held_at` decides whether a second refusal is the events' own fault.
        if len(pair) == 2 and pair[0].stop == pair[1].start and pair[0].held_at == pair[1].held_at:
            pair[0].stop = pair[1].stop
            pair[0].events += pair[1].events
            del self.ranges[place + 1]
