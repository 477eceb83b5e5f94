"""The endpoints of the events on HTTP_ADDR: the data routes of every protocol, routes beside them, and the counts."""

from __future__ import annotations

from collections.abc import Sequence

from hermes.control.endpoint import Endpoint
from hermes.control.segment_gets import endpoints_beside
from hermes.control.service import aggregates_endpoint
from hermes.engine.engine import Engine
from hermes.http.ingress import Ingress
from hermes.http.traced import RequestTracer, trace_routes
from hermes.protocols.events import PATH
from hermes.protocols.routes import make_endpoints, make_routes
from hermes.settings import Settings


def make_event_endpoints(
    settings: Settings, engine: Engine, ingress: Ingress, tracer: RequestTracer | None
) -> Sequence[Endpoint]:
    """The endpoints over this engine; ``tracer`` decides which requests are traced."""
    rejected = ingress.requests.rejected
    routes = make_routes(
        engine.intake,
        rejected,
        workshop=ingress.workshop,
        event_types=settings.event_types,
        max_body_bytes=settings.max_body_bytes,
        any_times=settings.event_times == "any",
        keys=ingress.access.api_keys,
        origins=settings.cors_origins,
    )
    # Around every route at once: a protocol need not know of traces.
    if tracer is not None:
        routes = trace_routes(routes, tracer, engine.intake, rejected, ingress.new_request_id)
    # A rate over the histogram needs a sample to begin with, so it is there before the first request.
    ingress.requests.expect(PATH, 202)
    return (
        *make_endpoints(routes, settings.event_types, any_times=settings.event_times == "any"),
        *endpoints_beside({route.name: route for route in routes}),
        aggregates_endpoint(engine.aggregator.snapshot),
    )
