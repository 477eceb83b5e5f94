"""The edge: both HTTP lanes on HTTP_ADDR, over the endpoints of the events and of the other parts.

The fast lane accepts every connection, and hands a connection over to the control lane when its next request is for no
data route. A reactor serves all sockets of the fast lane; under TLS each connection has a task instead. Invariants: the
lanes know the intake only as a callable; nothing opens in a constructor: `open_edge` opens and closes the sockets.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import trio
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from hermes import __version__
from hermes.config import Settings
from hermes.control.app import Site, make_app
from hermes.control.debugging import debug_endpoints
from hermes.control.endpoint import Endpoint, at
from hermes.control.frame import Frame
from hermes.control.openapi.pages import documented
from hermes.control.segment_gets import endpoints_beside
from hermes.control.server import ControlServer
from hermes.control.service import aggregates_endpoint, health_endpoint, index_endpoint, service_endpoints
from hermes.descriptors import descriptor_limit, share
from hermes.engine.engine import Engine
from hermes.engine.journal import EventJournal
from hermes.http.access import Access
from hermes.http.head import Heads, Route
from hermes.http.lane import BodyBudget, Lane, Timeouts
from hermes.http.listen import addresses_of, open_listeners
from hermes.http.reactor import Reactor
from hermes.http.rejected import RejectedFeed
from hermes.http.request_metrics import RequestMetrics
from hermes.http.stream import StreamServer
from hermes.http.traced import RequestTracer, trace_routes
from hermes.http.work import Workshop
from hermes.metrics import Metrics
from hermes.protocols.events import PATH
from hermes.protocols.routes import make_endpoints, make_routes
from hermes.repeated_event import RepeatedEvent

Listeners = Sequence[socket.socket] | Sequence[trio.abc.Listener[Any]]

# After some milliseconds of a large request the other tasks get so many turns, of up to 2 ms each.
_TURNS_OF_OTHERS = 3
_TIMES_ITS_BODY = 6
"""Memory of the largest request while it is decoded, in bodies: as sent, decompressed, in pieces, and as events."""


class Edge:
    """Both lanes over ``listeners``. Made by `open_edge`; serves while its three tasks run, and ends with `drain`."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        metrics: Metrics,
        access: Access,
        listeners: Listeners,
        tracer: RequestTracer | None = None,
        endpoints: Sequence[Endpoint] = (),
    ) -> None:
        self.requests = RequestMetrics([(PATH, 202)])
        timeouts = timeouts_of(settings)
        largest = _TIMES_ITS_BODY * settings.max_body_bytes
        budget = BodyBudget(max(settings.queue_bytes, 2 * largest), largest)  # clients without a key never have all
        self._large_came = RepeatedEvent()
        self._workshop = Workshop(budget, self._large_came.set)
        routes = make_routes(
            engine.intake,
            self.requests.rejected,
            workshop=self._workshop,
            event_types=settings.event_types,
            max_body_bytes=settings.max_body_bytes,
            any_times=settings.event_times == "any",
            keys=access.api_keys,
            origins=settings.cors_origins,
        )
        if tracer is not None:
            routes = trace_routes(routes, tracer, engine.intake, self.requests.rejected, lambda: lane.request_id())
        events = make_endpoints(routes, settings.event_types, any_times=settings.event_times == "any")
        beside = endpoints_beside({route.name: route for route in routes})
        self.endpoints = (*events, *beside, *at("HTTP_ADDR", endpoints))
        data_routes = {(each.method, each.path): each.handler for each in self.endpoints if each.lane == "fast"}
        self.data_routes = frozenset(path for _method, path in data_routes)
        heads = Heads({key: route for key, route in data_routes.items() if isinstance(route, Route)})
        access.on_new_keys = heads.forget
        self._lane = lane = Lane(heads, budget, self.requests.observe, time.perf_counter)
        served = (
            *self.endpoints,
            health_endpoint("HTTP_ADDR"),
            *service_endpoints(lambda: _why_not_ready(lane, engine.journal), metrics.expose),
            aggregates_endpoint(engine.aggregator.snapshot),
            *(debug_endpoints("HTTP_ADDR", engine.show) if settings.debug_endpoints else ()),
        )
        served = (*served, index_endpoint(__version__, settings, served))
        frame = Frame(self.requests.observe, lane.track, lane.request_id, settings.max_body_bytes, lane.refusals)
        keyed = access.api_keys.configured
        app = make_app(Site(frame, documented("HTTP_ADDR", __version__, served, keyed=keyed), budget, access.api_keys))
        shares = share(descriptor_limit(), settings.max_connections)
        tls = access.certificate.context if access.certificate is not None else None
        self._data: Reactor | StreamServer
        most = shares.data
        places = shares.control
        if tls is not None:
            # Under TLS a connection that was handed over keeps its place in the fast lane, and only the control lane
            # makes it give way. With fewer places there than in the fast lane, a newcomer finds one.
            places = min(places, max(1, most - max(1, most // 10)))
        self._control = ControlServer(app, timeouts, settings.max_body_bytes, places)
        sockets = [place for place in listeners if isinstance(place, socket.socket)]
        self.addresses = addresses_of(sockets)
        if sockets and tls is None:
            self._data = Reactor(lane, sockets, self._control.hand_over, timeouts, most)
        else:
            self._data = StreamServer(lane, listeners, self._control.serve_stream, timeouts, most, tls)

    def collect(self) -> Iterator[Metric]:
        """Every metric of the requests and of the connections, for Prometheus."""
        yield from self.requests.collect()
        yield GaugeMetricFamily("hermes_inflight_requests", "Requests begun and not answered", self._lane.inflight)
        yield GaugeMetricFamily("hermes_connections", "Open connections of the fast lane", self.connections)
        yield CounterMetricFamily(
            "hermes_connections_evicted",
            "Idle connections that made room for newer ones",
            self._data.evicted + self._control.places.evicted,
        )
        yield CounterMetricFamily(
            "hermes_connections_refused",
            "Connections that found every place of the control lane busy",
            self._control.places.refused,
        )

    @property
    def connections(self) -> int:
        """Open connections of the fast lane."""
        return self._data.connections

    @property
    def rejected(self) -> RejectedFeed:
        """The latest rejected events."""
        return self._lane.refusals.feed

    def tell_refusals(self, *, at_the_end: bool = False) -> None:
        """Log how many refusals had no line of their own, if the pause since the last line is over."""
        self._lane.refusals.tell_rest(at_the_end=at_the_end)

    async def serve_data(self) -> None:
        """Accept every connection, and serve the data routes, until cancelled."""
        await self._data.serve()

    async def decode_large(self) -> None:
        """Decode the large requests of both lanes, a piece at a time, until cancelled."""
        while True:
            if self._workshop.turn():
                for _ in range(_TURNS_OF_OTHERS):  # in each the loop looks at every socket and timer
                    await trio.lowlevel.checkpoint()
            else:
                await self._large_came.wait()

    async def serve_control(self) -> None:
        """Serve the connections that are handed over, until cancelled."""
        await self._control.serve()

    async def drain(self, within: float) -> None:
        """Accept nothing more, answer what is in flight, and return when every connection has ended.

        A client of the fast lane that takes more than half of the ``within`` seconds does not keep the control lane
        from its own drain.
        """
        self._lane.draining = True
        with trio.move_on_after(within / 2):
            await self._data.drain()
        await self._control.drain()


@contextmanager
def open_edge(
    settings: Settings,
    engine: Engine,
    metrics: Metrics,
    access: Access,
    listeners: Listeners | None = None,
    tracer: RequestTracer | None = None,
    endpoints: Sequence[Endpoint] = (),
) -> Iterator[Edge]:
    """The edge, listening on HTTP_ADDR until the end of the block; on ``listeners`` of others where they are given.

    ``endpoints`` are the other parts'; the ones of HTTP_ADDR are served, on the lane of each.
    Raises `ConfigError` if it cannot listen.
    """
    with nullcontext(listeners) if listeners is not None else open_listeners(settings.http_addr) as places:
        yield Edge(settings, engine, metrics, access, places, tracer, endpoints)


def _why_not_ready(lane: Lane, journal: EventJournal | None) -> str | None:
    if lane.draining:
        return "draining: no new events are taken"
    if journal is not None and journal.failing is not None:
        return f"the journal cannot be written: {journal.failing}"
    return None


def timeouts_of(settings: Settings) -> Timeouts:
    """The time that a client may take, on either address."""
    return Timeouts(
        header=settings.header_timeout,
        body=settings.body_timeout,
        idle=settings.idle_timeout,
        write=settings.write_timeout,
    )
