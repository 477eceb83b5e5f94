"""Remembers how many events a sink can write within its time-out. Pure.

A write that times out is tried again with half as many events, and so on; a write of the full size that takes at most
`_EASY` of the time-out allows twice as many. A sink that fails after `_LONG` of the time-out has run into a time-out of
its own, or its server's. Invariant: 1 <= ``limit`` <= the sink's own most.
"""

from __future__ import annotations

_LONG = 0.5
# Twice as many events are then expected to take half of the time-out.
_EASY = 0.25


class WorkableSize:
    """The workable size of a write: ``most`` events at first. One write may take ``timeout`` seconds.

    >>> size = WorkableSize(1000, timeout=10.0)
    >>> size.timed_out(1000)
    >>> size.limit
    500
    >>> size.wrote(500, seconds=1.0)
    >>> size.limit
    1000
    """

    def __init__(self, most: int, timeout: float) -> None:
        self.limit = most
        self._most = most
        self._timeout = timeout

    def timed_out(self, events: int) -> None:
        """Note that a write of so many events came to no end in time."""
        # A larger write, begun before the limit fell, says nothing new.
        if events <= self.limit:
            self.limit = max(1, events // 2)

    def failed(self, events: int, seconds: float, *, too_slow: bool) -> None:
        """Note that a write of so many events has failed; ``too_slow``: the sink says that the write took too long."""
        # A failure at once says nothing about the size; one after half of the time-out is a time-out of somebody else.
        if too_slow or seconds >= self._timeout * _LONG:
            self.timed_out(events)

    def wrote(self, events: int, seconds: float) -> None:
        """Note that a write of so many events has succeeded."""
        # Only a write of the full size shows that more would do.
        if events >= self.limit and seconds <= self._timeout * _EASY:
            self.limit = min(self._most, self.limit * 2)
