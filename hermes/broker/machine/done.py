"""The messages of a group that are done: every offset below a watermark, and ranges above it.

Invariants: each step costs a constant or a logarithm, whatever the number of messages; the memory grows with the number
of gaps, not of messages, so that one message at the bottom that stays does not make a million above it expensive. Pure.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

_SLACK = 64
"""So many starts may be out of date before a walk over all is worth it."""


class Done:
    """Which offsets are done.

    >>> done = Done(0)
    >>> done.add(2), done.add(0), done.watermark, done.ranges()
    (None, None, 1, [(2, 3)])
    >>> done.add(1), done.watermark, done.ranges()
    (None, 3, [])
    """

    __slots__ = ("_end", "_start", "_starts", "watermark")

    def __init__(self, watermark: int, ranges: list[tuple[int, int]] | None = None) -> None:
        self.watermark = watermark
        """Every offset below is done, and this offset is not."""
        # The ranges above the watermark, by their start and by their end. No two touch each other.
        self._end: dict[int, int] = dict(ranges or ())
        self._start: dict[int, int] = {end: start for start, end in self._end.items()}
        # Every start of a range, and starts that were joined since: only `raise_to` asks for the lowest.
        self._starts = list(self._end)
        heapify(self._starts)

    def add(self, offset: int) -> None:
        """Mark an offset that is not done."""
        end = offset + 1
        if offset == self.watermark:
            self.watermark = self._take_range(end) if self._end else end
            return
        start = self._start.pop(offset, offset)
        if end in self._end:
            end = self._end.pop(end)
        self._end[start] = end
        self._start[end] = start
        if start == offset:
            heappush(self._starts, start)
            if len(self._starts) > 2 * len(self._end) + _SLACK:
                self._starts = list(self._end)
                heapify(self._starts)

    def _take_range(self, start: int) -> int:
        """Take out the range that begins at ``start``, and return its end; ``start`` if there is no such range."""
        end = self._end.pop(start, start)
        if end != start:
            del self._start[end]
        return end

    def raise_to(self, offset: int) -> None:
        """Mark every offset below ``offset``. A lower one than the watermark changes nothing."""
        if offset <= self.watermark:
            return
        self.watermark = offset
        # ``<=``: a range that begins at the watermark carries the watermark on.
        while self._starts and self._starts[0] <= self.watermark:
            end = self._take_range(heappop(self._starts))
            self.watermark = max(self.watermark, end)

    def copy(self) -> Done:
        """The same offsets, in a set of their own."""
        done = Done(self.watermark)
        done._end, done._start, done._starts = self._end.copy(), self._start.copy(), self._starts.copy()
        return done

    def ranges(self) -> list[tuple[int, int]]:
        """The ranges above the watermark, lowest first, each from its first offset to the one after its last."""
        return sorted(self._end.items())

    def __contains__(self, offset: int) -> bool:
        """Whether an offset is done. Costs a walk over the ranges: for listings and tests."""
        return offset < self.watermark or any(start <= offset < end for start, end in self._end.items())
