"""`Rate`: the present number of events a second of any flow, such as arrivals or departures. Pure.

Invariant: counts are kept by whole second over the last ten, so memory is at most eleven pairs of numbers. The caller
passes the time, in seconds of any clock that never goes back.
"""

from __future__ import annotations

from collections import deque

WINDOW = 10
"""Seconds of the past that count: long enough to smooth bursts, short enough to show a change soon."""


class Rate:
    """A rate over the last `WINDOW` seconds.

    >>> arrivals = Rate()
    >>> arrivals.record(500, now=100.0)
    >>> arrivals.record(500, now=102.0)
    >>> arrivals.per_second(now=102.0)
    500.0
    """

    __slots__ = ("_began", "_counts")

    def __init__(self) -> None:
        self._counts: deque[tuple[int, int]] = deque()
        # None and not 0: the clock may begin at any number, and Trio's does.
        self._began: float | None = None

    def record(self, count: int, now: float) -> None:
        """Count events that happened at ``now``."""
        if self._began is None:
            self._began = now
        second = int(now)
        # One pair a second, however often it is called.
        if self._counts and self._counts[-1][0] == second:
            self._counts[-1] = (second, self._counts[-1][1] + count)
        else:
            self._counts.append((second, count))
            # With a new second alone, for the bound on memory: `per_second` forgets for itself before it counts.
            self._forget(now)

    def per_second(self, now: float) -> float:
        """Return the events a second; 0 if there were none in the last `WINDOW` seconds."""
        self._forget(now)
        if not self._counts or self._began is None:
            return 0.0
        # Shortly after the first count the window is not full, so divide by the time so far; at least a second, because
        # one event in the first millisecond is not a thousand a second.
        return sum(count for _, count in self._counts) / min(WINDOW, max(1.0, now - self._began))

    def _forget(self, now: float) -> None:
        while self._counts and self._counts[0][0] <= now - WINDOW:
            self._counts.popleft()
