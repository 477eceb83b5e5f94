"""The connections of the control lane: at most so many, and the idlest gives way to a newcomer.

Invariant: a place is refused only where every connection has a request that we are working on; one that waits for its
client, however long it may, does not keep a newcomer out. Pure.
"""

from __future__ import annotations

from enum import Enum
from typing import Protocol


class Use(Enum):
    """What a connection does, in the order in which connections give way."""

    IDLE = "idle"
    """It has no request, or is over and waits for the client to close its side."""
    WAITING = "waiting"
    """Its client has to send the rest of a request, or to read a response."""
    BUSY = "busy"
    """We work on a request."""


class Occupant(Protocol):
    """A connection that has a place."""

    def give_way(self) -> None:
        """End now: the place is another's."""


class Places:
    """The places of ``most`` connections. ``evicted`` counts those that gave way, ``refused`` those that got none."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.evicted = 0
        self.refused = 0
        # Each in the order in which its connections came to that use: the first is the one to go.
        self._by_use: dict[Use, dict[Occupant, None]] = {use: {} for use in Use}
        self._use: dict[Occupant, Use] = {}

    def __len__(self) -> int:
        return len(self._use)

    def take(self, newcomer: Occupant) -> bool:
        """Take a place. False: there is none, for all are busy."""
        if len(self._use) >= self.most:
            idlest = next(iter(self._by_use[Use.IDLE] or self._by_use[Use.WAITING]), None)
            if idlest is None:
                self.refused += 1
                return False
            self.evicted += 1
            self.leave(idlest)
            idlest.give_way()
        self._use[newcomer] = Use.IDLE
        self._by_use[Use.IDLE][newcomer] = None
        return True

    def note(self, occupant: Occupant, use: Use) -> None:
        """What a connection does now; one that has given way is no longer known."""
        before = self._use.get(occupant)
        if before is not None and before is not use:
            del self._by_use[before][occupant]
            self._by_use[use][occupant] = None
            self._use[occupant] = use

    def leave(self, occupant: Occupant) -> None:
        """The connection is over, if it is not already known to be."""
        use = self._use.pop(occupant, None)
        if use is not None:
            del self._by_use[use][occupant]
