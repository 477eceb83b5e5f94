"""Keeps the idle connections of a pool, and decides which of them to close. Pure: time is an argument.

Invariant: last in, first out. Under little load the same few connections stay warm and the others age out. The class is
generic because its decisions need no connection.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

C = TypeVar("C")


@dataclass(slots=True)
class Pooled(Generic[C]):
    """A connection with its times, in seconds on the pool's clock."""

    connection: C
    expires_at: float
    idle_since: float = 0.0


class IdleStack(Generic[C]):
    """Idle connections, the latest on top; `max_idle` is the longest time that one may stay unused, in seconds.

    >>> idle = IdleStack(max_idle=60.0)
    >>> idle.put(Pooled("first", expires_at=3600.0), now=0.0)
    >>> idle.put(Pooled("second", expires_at=3600.0), now=50.0)
    >>> [pooled.connection for pooled in idle.take_outdated(now=61.0)], len(idle)
    (['first'], 1)
    """

    def __init__(self, max_idle: float) -> None:
        self._max_idle = max_idle
        self._stack: deque[Pooled[C]] = deque()

    def __len__(self) -> int:
        return len(self._stack)

    def put(self, pooled: Pooled[C], now: float) -> None:
        """Put a connection on top."""
        # Set here and not at the return to the pool: rolling back before it takes time of its own.
        pooled.idle_since = now
        self._stack.append(pooled)

    def take(self) -> Pooled[C] | None:
        """Take the connection on top, or return None."""
        return self._stack.pop() if self._stack else None

    def take_outdated(self, now: float) -> list[Pooled[C]]:
        """Take out the connections that were idle or alive for too long. The caller closes them."""
        outdated: list[Pooled[C]] = []
        keep: deque[Pooled[C]] = deque()
        # All of them, not only the bottom: connections differ in the end of their life.
        for pooled in self._stack:
            too_old = now >= pooled.expires_at or now - pooled.idle_since >= self._max_idle
            (outdated if too_old else keep).append(pooled)
        self._stack = keep
        return outdated

    def take_all(self) -> list[Pooled[C]]:
        """Take out every connection. The caller closes them."""
        # A copy: closing a connection is a checkpoint, and another task may use the stack meanwhile.
        taken = list(self._stack)
        self._stack.clear()
        return taken
