"""Keeps the notifications (LISTEN) that have arrived on a connection until the listener takes them.

Invariant: the backlog is bounded; lost notifications are counted.
"""

from __future__ import annotations

from collections import deque

from psycopg import Notify

BACKLOG_LIMIT = 1000
"""Notifications kept for a slow listener; the oldest are dropped."""


class NotificationBacklog:
    """A bounded queue of notifications; `dropped` counts the lost ones.

    >>> backlog = NotificationBacklog(limit=1)
    >>> backlog.put(Notify("jobs", "1", 4711))
    >>> backlog.put(Notify("jobs", "2", 4711))
    >>> backlog.dropped, [each.payload for each in backlog.take_all()]
    (1, ['2'])
    """

    def __init__(self, limit: int = BACKLOG_LIMIT) -> None:
        # deque(maxlen) drops the oldest; a listener treats a notification as "look again", so the latest one is enough.
        self._waiting: deque[Notify] = deque(maxlen=limit)
        self._limit = limit
        self.dropped = 0

    def put(self, notification: Notify) -> None:
        """Keep a notification; drop the oldest one if the backlog is full."""
        if len(self._waiting) == self._limit:
            self.dropped += 1
        self._waiting.append(notification)

    def take_all(self) -> list[Notify]:
        """Return the notifications since the last call, oldest first."""
        # All at once, because a listener acts once for any number of notifications.
        taken = list(self._waiting)
        self._waiting.clear()
        return taken
