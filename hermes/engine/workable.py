"""Remembers how many events a sink can write within its time-out. Pure.

A write that times out is tried again with half as many events, and so on; a write of the full size that takes at most
`_EASY` of the time-out allows twice as many. Invariant: 1 <= ``limit`` <= the sink's own most.
"""

from __future__ import annotations

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

    def wrote(self, events: int, seconds: float) -> None:
        """A write of so many events has succeeded."""
        if events >= self.limit and seconds <= self._timeout * _EASY:
            self.limit = min(self._most, self.limit * 2)
