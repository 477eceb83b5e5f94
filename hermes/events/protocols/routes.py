"""Makes all data routes, connected to an intake.

Invariant: both lanes serve the same routes, with the same keys, limits and origins.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from hermes.events.ingest.format import DataProtocol
from hermes.events.ingest.refusal import Refusals
from hermes.events.ingest.route import Ingest, IngestOptions, Intake
from hermes.events.protocols.otlp import PATH as LOGS
from hermes.events.protocols.otlp import OtlpLogs
from hermes.events.protocols.post_events import PATH as EVENTS
from hermes.events.protocols.post_events import PostEvents
from hermes.events.protocols.segment import Segment
from hermes.events.protocols.segment_answers import LIBRARY_METRICS, library_metrics_route
from hermes.net.control.endpoint import Endpoint
from hermes.net.http.head import Route
from hermes.net.http.keys import Keys
from hermes.net.http.work import Workshop

if TYPE_CHECKING:
    from hermes.net.control.openapi.operation import Operation

# The bound on the events of an OTLP request, as a multiple of the largest body: each event repeats its resource.
_GROWTH = 4
# Half of the bytes that a record of the journal may have.
_MOST_GROWN = 128 * 2**20


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
    """Return the routes of every protocol, with the same keys, limits and origins, and one ``workshop`` for all.

    Without ``keys`` the routes are open to all. ::

        routes = make_routes(
            intake, Counter(), workshop=workshop, event_types=["*"], max_body_bytes=2**20, keys=Keys(["secret"])
        )
    """
    refusals = Refusals(rejected, max_body_bytes)
    options = IngestOptions(refusals, workshop, max_body_bytes, Keys() if keys is None else keys, origins)
    protocols: tuple[DataProtocol, ...] = (
        PostEvents(event_types, time.time, any_times=any_times),
        Segment(event_types, max_body_bytes, time.time),
        # Never less than one body: a large MAX_BODY_BYTES stays usable.
        OtlpLogs(event_types, min(_GROWTH * max_body_bytes, max(_MOST_GROWN, max_body_bytes)), time.time),
    )
    ingests = [Ingest(intake, protocol, options) for protocol in protocols]
    routes = [route for ingest in ingests for route in ingest.routes]
    # Its answer needs only the header lines, which are the same for all ingests.
    return (*routes, library_metrics_route(ingests[0].response_lines))


def make_endpoints(
    routes: Sequence[Route], event_types: Sequence[str], *, any_times: bool = False
) -> tuple[Endpoint, ...]:
    """Return the data routes as endpoints with their operations. Takes the arguments of `make_routes`."""
    return tuple(
        Endpoint(
            "POST",
            route.name,
            route,
            partial(_describe, route.name, tuple(event_types), any_times),
            # The browser library sends its own metrics without a key. Hermes keeps no metric of a library.
            key="none" if route.name == LIBRARY_METRICS else "handler",
        )
        for route in routes
    )


def _describe(path: str, event_types: Sequence[str], any_times: bool) -> Iterable[Operation]:
    # Imported with the first request for the document: its types would cost some milliseconds at each start.
    from hermes.events.protocols.openapi import events, otlp, segment

    if path == EVENTS:
        yield events.declare_events(event_types, any_times=any_times)
    elif path == LOGS:
        yield otlp.declare_otlp(event_types)
    elif path == LIBRARY_METRICS:
        yield segment.declare_library_metrics()
    else:
        yield segment.declare_messages(path, event_types)
