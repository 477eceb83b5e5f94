"""The status of a running service as types: the JSON of ``GET /status``, which the dashboard and ``hermes top`` show.

The facts of the service stand at the top, the status of each part under ``parts`` by its name. Invariant: nothing here
knows a part.
"""

from __future__ import annotations

from typing import Any

import msgspec


class RequestStatus(msgspec.Struct, frozen=True):
    """The data requests of the last minute: their number, and quantiles of their duration in seconds.

    Without a request the quantiles are null.
    """

    count: int
    p50: float | None
    p99: float | None


class ServiceStatus(msgspec.Struct, frozen=True):
    """The whole status. Times are in Unix seconds."""

    version: str
    now: float
    started: float
    durability: str
    draining: bool
    requests: RequestStatus
    connections: int
    loop_lag: float
    """Seconds that a timer of the run loop comes late."""
    memory: int | None
    """Resident bytes of the process, where the system tells."""
    # A type for each part would have to know the parts.
    parts: dict[str, Any]
    """The status of each part, by the part's name."""
