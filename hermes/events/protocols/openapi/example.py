"""Makes an event for examples, of a type that EVENT_TYPES allows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def example_type(event_types: Sequence[str]) -> str:
    """Return a type that EVENT_TYPES allows."""
    return "song_played" if event_types[0] == "*" or "song_played" in event_types else event_types[0]


def example_event(event_types: Sequence[str]) -> dict[str, Any]:
    """Return a whole event.

    >>> example_event(["login"])["type"], example_event(["*"])["type"]
    ('login', 'song_played')
    """
    return {
        "id": "1f0c",
        "user_id": "ann",
        "type": example_type(event_types),
        "timestamp": 1_700_000_000,
        "payload": {"title": "Alive"},
    }
