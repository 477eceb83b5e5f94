"""The connections of a pool that nobody uses, and which of them may be used again. Pure: time is an argument.

Last in, first out: under little load the same few connections stay warm and the others age out. Generic, because
deciding needs no connection. Used by `pool`.
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
    """Idle connections, the one that came last on top. `max_idle` is how long one may lie unused, in seconds."""

    def __init__(self, max_idle: float) -> None:
        self._max_idle = max_idle
        self._stack: deque[Pooled[C]] = deque()

    def __len__(self) -> int:
        return len(self._stack)

    def put(self, pooled: Pooled[C], now: float) -> None:
        """Lay a connection on top."""
        pooled.idle_since = now
        self._stack.append(pooled)

    def take(self) -> Pooled[C] | None:
        """Take the top one, or None."""
        return self._stack.pop() if self._stack else None

    def take_outdated(self, now: float) -> list[Pooled[C]]:
        """Take out those that have been idle for too long or have reached the end of their life, for closing."""
        outdated: list[Pooled[C]] = []
        keep: deque[Pooled[C]] = deque()
        for pooled in self._stack:
            too_old = now >= pooled.expires_at or now - pooled.idle_since >= self._max_idle
            (outdated if too_old else keep).append(pooled)
        self._stack = keep
        return outdated

    def take_all(self) -> list[Pooled[C]]:
        """Take out every one, for closing."""
        taken = list(self._stack)
        self._stack.clear()
        return taken
