"""The offsets of a topic's messages of one priority, by which a group finds the next message of the priority.

Invariant: positions stay when the offsets at the beginning are forgotten, so a cursor of a group stays right. Pure.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left

_DEAD = 512
"""Offsets at the beginning that stay until they are worth a removal."""


class Offsets:
    """Ascending offsets. A position counts from the first that was ever appended.

    >>> offsets = Offsets()
    >>> offsets.values.extend([3, 5, 9])
    >>> offsets.position(4), offsets.at(1), offsets.end
    (1, 5, 3)
    """

    __slots__ = ("base", "values")

    def __init__(self) -> None:
        self.base = 0
        """Position of the first element of ``values``."""
        # 8 bytes an offset: in a list each would be an object of 28 bytes or more, and a pointer to it.
        self.values = array("Q")

    def copy(self) -> Offsets:
        """The same offsets, of its own."""
        offsets = Offsets()
        offsets.base, offsets.values = self.base, self.values[:]
        return offsets

    @property
    def end(self) -> int:
        """The position that the next offset gets."""
        return self.base + len(self.values)

    def position(self, offset: int) -> int:
        """The position of the first one that is at least ``offset``."""
        return self.base + bisect_left(self.values, offset)

    def at(self, position: int) -> int:
        """The offset at a position below `end`."""
        return self.values[position - self.base]

    def drop_before(self, offset: int) -> None:
        """Forget the offsets below, once they are many."""
        dead = bisect_left(self.values, offset)
        # Half at least: the removal moves the rest, so a message is moved once on the average.
        if dead >= _DEAD and 2 * dead >= len(self.values):
            del self.values[:dead]
            self.base += dead
