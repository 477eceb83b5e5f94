"""The events on ADMIN_ADDR: the tap, the rejected events, and the sections of the dashboard."""

from __future__ import annotations

from collections.abc import Sequence

from hermes.events.engine.tap import Tap
from hermes.events.rejected_routes import RejectedDesk, rejected_endpoints
from hermes.events.tap_routes import tap_endpoint
from hermes.net.control.endpoint import Endpoint
from hermes.net.control.panel import Panel
from hermes.net.http.rejected_feed import RejectedFeed

_HERE = "hermes.events"

PANELS = (
    Panel("events", "Events", _HERE, "panels/events.js"),
    Panel("sinks", "Sinks", _HERE, "panels/sinks.js"),
    Panel("rejections", "Rejected", _HERE, "panels/rejections.js"),
    Panel("aggregates", "Aggregates", _HERE, "panels/aggregates.js"),
    Panel("counts", "Counts", _HERE, "panels/counts.js"),
)


def make_operator_endpoints(tap: Tap, rejected: RejectedFeed) -> Sequence[Endpoint]:
    """The endpoints over this tap and this feed. When the tap is closed, the streams of both end."""
    # The feed holds nothing that could be closed, so its followers look whether the tap is closed. Otherwise their
    # endless answers would hold up a stop.
    return tap_endpoint(tap), *rejected_endpoints(RejectedDesk(rejected, lambda: tap.closed))
