"""Bounds the connections of the control lane: at the bound, the idlest connection gives way to a newcomer.

Invariant: a newcomer is refused only if the service works on a request of every connection. A connection that waits for
its client keeps no newcomer out, however long the wait. Pure.
"""

from __future__ import annotations

from enum import Enum
from typing import Protocol


class Use(Enum):
    """The use of a connection, in the order in which connections give way."""

    IDLE = "idle"
    """The connection has no request, or has ended and waits for the client to close its side."""
    WAITING = "waiting"
    """The client has to send the rest of a request, or to read a response."""
    BUSY = "busy"
    """The service works on a request."""


class Occupant(Protocol):
    """A connection that has a place."""

    def give_way(self) -> None:
        """End now: another connection has the place."""


class Places:
    """The places of ``most`` connections. ``evicted`` and ``refused`` count for the metrics.

    ::

        if places.take(connection):
            places.note(connection, Use.BUSY)
            ...
            places.leave(connection)
    """

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
        """Take a place. Returns False if every connection is busy."""
        if len(self._use) >= self.most:
            # A thousand idle keep-alive connections once took /health, /ready and HTTP/2 from everybody.
            idlest = next(iter(self._by_use[Use.IDLE] or self._by_use[Use.WAITING]), None)
            if idlest is None:
                self.refused += 1
                return False
            self.evicted += 1
            # Before the call: a connection that gives way is no longer known, whatever it notes at its end.
            self.leave(idlest)
            idlest.give_way()
        # Hypercorn has not read the request yet. `note` tells when it has.
        self._use[newcomer] = Use.IDLE
        self._by_use[Use.IDLE][newcomer] = None
        return True

    def note(self, occupant: Occupant, use: Use) -> None:
        """Note the use of a connection. A connection that has given way is no longer known, and ignored."""
        before = self._use.get(occupant)
        # An unchanged use must not move the connection: its place in the order tells for how long it has been so.
        if before is not None and before is not use:
            del self._by_use[before][occupant]
            self._by_use[use][occupant] = None
            self._use[occupant] = use

    def leave(self, occupant: Occupant) -> None:
        """Free the place of a connection, unless the place is free already."""
        use = self._use.pop(occupant, None)
        if use is not None:
            del self._by_use[use][occupant]
