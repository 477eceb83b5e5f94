"""Notifications (LISTEN) that have arrived on a connection and were not taken yet.

Invariant: the backlog is bounded; what does not fit is counted. Used by `connection`.
"""

from __future__ import annotations

from collections import deque

from psycopg import Notify

BACKLOG_LIMIT = 1000
"""Notifications kept for a listener that is slow to take them; the oldest ones give way."""


class NotificationBacklog:
    """A bounded queue of notifications; `dropped` counts the lost ones."""

    def __init__(self, limit: int = BACKLOG_LIMIT) -> None:
        self._waiting: deque[Notify] = deque(maxlen=limit)
        self._limit = limit
        self.dropped = 0

    def put(self, notification: Notify) -> None:
        """Keep a notification, dropping the oldest one when there is no room."""
        if len(self._waiting) == self._limit:
            self.dropped += 1
        self._waiting.append(notification)

    def take_all(self) -> list[Notify]:
        """Return what has arrived since the last call, oldest first."""
        taken = list(self._waiting)
        self._waiting.clear()
        return taken
