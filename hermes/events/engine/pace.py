"""`Pace`: how fast a backlog is read, so that catching up does not take the disk and the sink from new events.

The pace is a multiple of the rate of arrival, and no lower than a floor. Pure: time is passed in, in seconds.
"""

from __future__ import annotations

from hermes.base.rate import Rate

# A debt that is paid within this time is not worth a timer.
_LEAST_PAUSE = 0.01
# After this time the pace is asked for again, for arrivals change.
_LONGEST_PAUSE = 1.0


class Pace:
    """Reads ``factor`` times as fast as events arrive, and at least ``floor`` events a second.

    >>> pace = Pace(factor=1.5, floor=1000)
    >>> pace.owe(500, now=0.0)
    >>> pace.pause(now=0.0), pace.pause(now=0.5)
    (0.5, 0.0)
    """

    __slots__ = ("_arrivals", "_debt", "_factor", "_floor", "_reckoned_at")

    def __init__(self, factor: float, floor: float) -> None:
        self._factor = factor
        self._floor = floor
        self._arrivals = Rate()
        # Events that were read ahead of the pace, as of `_reckoned_at`.
        self._debt = 0.0
        self._reckoned_at = 0.0

    def record_arrival(self, count: int, now: float) -> None:
        """Count events that have arrived."""
        self._arrivals.record(count, now)

    def owe(self, count: int, now: float) -> None:
        """Count events that were read."""
        self._reckon(now)
        self._debt += count

    def pause(self, now: float) -> float:
        """Seconds to wait before the next read; 0: read on. Ask again after it, for arrivals may have changed."""
        rate = self._reckon(now)
        if self._debt <= rate * _LEAST_PAUSE:
            return 0.0
        return min(self._debt / rate, _LONGEST_PAUSE)

    def _reckon(self, now: float) -> float:
        """Pay the debt for the time that has passed. Returns the pace in events a second."""
        rate = max(self._floor, self._arrivals.per_second(now) * self._factor)
        # Never below 0: a time without a backlog is no credit for a stampede.
        self._debt = max(0.0, self._debt - rate * (now - self._reckoned_at))
        self._reckoned_at = now
        return rate
