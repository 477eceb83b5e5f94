"""All data routes, wired to an intake. Called by the edge, which gives them to both lanes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from hermes.control.endpoint import Endpoint
from hermes.http.format import DataProtocol
from hermes.http.head import Route
from hermes.http.ingest import Ingest, Intake
from hermes.http.keys import Keys
from hermes.http.work import Workshop
from hermes.protocols.events import PATH as EVENTS
from hermes.protocols.events import PostEvents
from hermes.protocols.otlp import PATH as LOGS
from hermes.protocols.otlp import OtlpLogs
from hermes.protocols.segment import Segment
from hermes.protocols.segment_answers import LIBRARY_METRICS, library_metrics_route

if TYPE_CHECKING:
    from hermes.control.openapi.operation import Operation

_GROWTH = 4
_MOST_GROWN = 128 * 2**20  # half of what a record of the journal may have
"""How much larger than the largest body the events of a request may be, whose encoding has shared what they repeat."""


def make_routes(
    intake: Intake,
    rejected: Counter[str],
    *,
    workshop: Workshop,
    event_types: Sequence[str],
    max_body_bytes: int,
    any_times: bool = False,
    keys: Keys | None = None,
    origins: Sequence[str] = (),
) -> tuple[Route, ...]:
    """Every protocol's routes, all with the same keys, limits and origins, and one ``workshop`` for large bodies.

    ``keys`` None: open to all.
    """
    keys = Keys() if keys is None else keys
    protocols: tuple[DataProtocol, ...] = (
        PostEvents(event_types, time.time, any_times=any_times),
        Segment(event_types, max_body_bytes, time.time),
        OtlpLogs(event_types, min(_GROWTH * max_body_bytes, max(_MOST_GROWN, max_body_bytes)), time.time),
    )
    ingests = [
        Ingest(intake, protocol, rejected, workshop=workshop, max_body_bytes=max_body_bytes, keys=keys, origins=origins)
        for protocol in protocols
    ]
    routes = [route for ingest in ingests for route in ingest.routes]
    return (*routes, library_metrics_route(ingests[0].response_lines))


def make_endpoints(
    routes: Sequence[Route], event_types: Sequence[str], *, any_times: bool = False
) -> tuple[Endpoint, ...]:
    """The data routes as endpoints with their operations; ``event_types`` and ``any_times`` as for the routes."""
    return tuple(
        Endpoint(
            "POST",
            route.name,
            route,
            partial(_describe, route.name, tuple(event_types), any_times),
            # The browser library asks for no key where it leaves numbers about itself, of which none is kept.
            key="none" if route.name == LIBRARY_METRICS else "handler",
        )
        for route in routes
    )


def _describe(path: str, event_types: Sequence[str], any_times: bool) -> Iterable[Operation]:
    # Imported when the document is first asked for: its types cost some milliseconds of a start.
    from hermes.protocols.openapi import events, otlp, segment

    if path == EVENTS:
        yield events.declare_events(event_types, any_times=any_times)
    elif path == LOGS:
        yield otlp.declare_otlp(event_types)
    elif path == LIBRARY_METRICS:
        yield segment.declare_library_metrics()
    else:
        yield segment.declare_messages(path, event_types)
