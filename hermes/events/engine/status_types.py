"""The status of the events as types: what ``GET /status`` has under ``parts.events``.

Invariant: a status is bounded, however many types, reasons and minutes there are.
"""

from __future__ import annotations

import msgspec

HISTORY = 120
"""Seconds of which the rate is kept, one by one."""

MINUTES = 60
"""Minutes of the aggregates that a status has."""

MOST_TYPES = 10
"""Types of the aggregates that are shown each by itself."""


class SinkStatus(msgspec.Struct, frozen=True):
    """One sink. In events but where it says otherwise."""

    name: str
    required: bool
    """``SINK_<NAME>_REQUIRED``; where no sink has it, the first sink is required."""
    delivered: int
    rate: float
    """Delivered a second, lately."""
    in_flight: int
    """Accepted, and no outcome yet."""
    on_disk: int
    """The part of these that is in the journal alone, for the sink is behind."""
    held: int
    """The part of these that is held, for the sink refuses nearly everything for one reason."""
    lag: float | None
    """Seconds since the oldest event without an outcome arrived; 0 if there is none, None while it is not known."""
    breaker: str
    """"closed", "half_open" or "open"."""
    opens_in: float
    """Seconds until an open breaker lets a call through."""
    failure: str
    failed_at: float | None
    """The message of the last failed call, and its time in Unix seconds."""
    retries: int
    dead_lettered: int
    evicted: int
    """Refused, and their dead letters had to make room for newer ones."""
    refusals: dict[str, int]
    """The refused ones by reason, since the start."""
    dropped: dict[str, int]


class QueueStatus(msgspec.Struct, frozen=True):
    """The events that hold room in the queue."""

    events: int
    capacity: int
    bytes: int
    capacity_bytes: int


class JournalStatus(msgspec.Struct, frozen=True):
    """The journal, in bytes. ``failing`` says why its storage does not work, while it does not."""

    bytes: int
    capacity: int
    failing: str | None


class AggregateStatus(msgspec.Struct, frozen=True):
    """Counts by type and minute, for the last `MINUTES` minutes, from ``first`` (Unix time // 60) on.

    ``counts`` has a list for each type, in the order of ``types``. Where there are more than `MOST_TYPES`, the last,
    "(other)", has the sums of the types that are not named. ``elsewhere`` is how many events have another time by their
    own timestamps: no client's clock moves the window.
    """

    first: int
    types: list[str]
    counts: list[list[int]]
    elsewhere: int


class EventsStatus(msgspec.Struct, frozen=True):
    """Events: how many come in, and what becomes of them in every sink."""

    received: int
    by_type: dict[str, int]
    rate: float
    """Events a second, lately."""
    history: list[int]
    """Events of each of the last seconds, the oldest first; at most `HISTORY`."""
    rejected: dict[str, int]
    """Refused events by reason, and requests that might have held some."""
    queue: QueueStatus
    journal: JournalStatus | None
    sinks: list[SinkStatus]
    aggregates: AggregateStatus
