"""The bounded backlog of notifications."""

from __future__ import annotations

from psycopg import Notify

from hermes.store.postgres.notifications import NotificationBacklog


def test_notifications_are_taken_once_in_order() -> None:
    backlog = NotificationBacklog()
    for payload in ("a", "b"):
        backlog.put(Notify("news", payload, 1))
    assert [notification.payload for notification in backlog.take_all()] == ["a", "b"]
    assert backlog.take_all() == []


def test_a_full_backlog_drops_the_oldest_and_counts_it() -> None:
    backlog = NotificationBacklog(limit=2)
    for payload in ("a", "b", "c"):
        backlog.put(Notify("news", payload, 1))
    assert [notification.payload for notification in backlog.take_all()] == ["b", "c"]
    assert backlog.dropped == 1
