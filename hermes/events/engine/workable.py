"""Remembers how many events a sink can write within its time-out. Pure.

A write that times out is tried again with half as many events, and so on; a write of the full size that takes at most
`_EASY` of the time-out allows twice as many. A sink that fails after `_LONG` of the time-out has run into a time-out of
its own, or its server's. Invariant: 1 <= ``limit`` <= the sink's own most.
"""

from __future__ import annotations

_LONG = 0.5
_EASY = 0.25  # twice as many events are then expected to take half of the time-out


class WorkableSize:
    """The workable size of a write: ``most`` events at first. ``timeout`` is that of one write, in seconds."""

    def __init__(self, most: int, timeout: float) -> None:
        self.limit = most
        self._most = most
        self._timeout = timeout

    def timed_out(self, events: int) -> None:
        """A write of so many events came to no end in time."""
        if events <= self.limit:  # a larger one, begun before the limit fell, says nothing new
            self.limit = max(1, events // 2)

    def failed(self, events: int, seconds: float, *, too_slow: bool) -> None:
        """A write of so many events has failed after so long; ``too_slow``: the sink says that it took too long."""
        if too_slow or seconds >= self._timeout * _LONG:
            self.timed_out(events)

    def wrote(self, events: int, seconds: float) -> None:
        """A write of so many events has succeeded."""
        if events >= self.limit and seconds <= self._timeout * _EASY:
            self.limit = min(self._most, self.limit * 2)
