"""The endpoints of the events on HTTP_ADDR: the data routes of every protocol, routes beside them, and the counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from hermes.events.engine.engine import Engine
from hermes.events.protocols.post_events import PATH
from hermes.events.protocols.routes import make_endpoints, make_routes
from hermes.events.settings import EngineSettings
from hermes.events.side_routes import endpoints_beside
from hermes.net.control.endpoint import Answer, Endpoint, Request
from hermes.net.control.openapi import operation
from hermes.net.control.openapi.operation import JSON, SERVICE, Content, Example, Operation
from hermes.net.http.ingress import Ingress
from hermes.net.http.response import Response
from hermes.net.http.traced_routes import RequestTracer, trace_routes


def make_event_endpoints(
    settings: EngineSettings,
    origins: Sequence[str],
    engine: Engine,
    ingress: Ingress,
    tracer: RequestTracer | None,
    rejected: Counter[str],
) -> Sequence[Endpoint]:
    """The endpoints over this engine; ``tracer`` decides which requests are traced, ``rejected`` counts refusals."""
    routes = make_routes(
        engine.intake,
        rejected,
        workshop=ingress.workshop,
        event_types=settings.event_types,
        max_body_bytes=settings.max_body_bytes,
        any_times=settings.event_times == "any",
        keys=ingress.access.api_keys,
        origins=origins,
    )
    # Around every route at once: a protocol need not know of traces.
    if tracer is not None:
        routes = trace_routes(routes, tracer, ingress.new_request_id)
    # A rate over the histogram needs a sample to begin with, so it is there before the first request.
    ingress.requests.expect(PATH, 202)
    return (
        *make_endpoints(routes, settings.event_types, any_times=settings.event_times == "any"),
        # The traced routes: the message of a pixel gets a span like a posted one.
        *endpoints_beside({route.name: route for route in routes}),
        aggregates_endpoint(engine.aggregator.snapshot),
    )


def aggregates_endpoint(aggregates: Callable[[], Mapping[str, int]]) -> Endpoint:
    """``/aggregates``."""

    async def show(_request: Request) -> Answer:
        return Response(200, msgspec.json.encode(aggregates()))

    return Endpoint("GET", "/aggregates", show, _describe_aggregates)


def _describe_aggregates() -> Iterable[Operation]:
    counts = Example("Two minutes", {"ad_clicked:28333333": 3, "song_played:28333333": 12, "song_played:28333334": 9})
    shown = Content(JSON, dict[str, Annotated[int, Meta(ge=0)]], (counts,))
    yield Operation(
        SERVICE,
        "Count events by type and minute",
        "The keys are `type:minute`, the minute being `timestamp // 60`; the oldest minute comes first. Kept for "
        "AGGREGATE_MINUTES minutes.",
        answers=(operation.Answer(200, "The counts.", (shown,)),),
    )
