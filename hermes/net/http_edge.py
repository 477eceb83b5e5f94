"""The edge: both HTTP lanes on HTTP_ADDR, over the endpoints of the parts.

The fast lane accepts every connection, and hands a connection over to the control lane when the next request is not for
a data route. A reactor serves all sockets of the fast lane; under TLS each connection has a task instead. Invariants:
the edge names no part, and no path of a part; nothing opens in a constructor: `open_edge` opens and closes the sockets.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import trio
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from hermes import __version__
from hermes.config import Address
from hermes.net.control.app import Site, make_app
from hermes.net.control.endpoint import Endpoint
from hermes.net.control.frame import Frame
from hermes.net.control.openapi.pages import documented
from hermes.net.control.server import ControlServer
from hermes.net.control.service import health_endpoint, index_endpoint, service_endpoints
from hermes.net.descriptors import descriptor_limit, share
from hermes.net.http.head import Heads, Route
from hermes.net.http.ingress import Ingress
from hermes.net.http.lane import Lane, Timeouts
from hermes.net.http.reactor import Reactor
from hermes.net.http.stream import StreamOptions, StreamServer
from hermes.net.listen import addresses_of, open_listeners
from hermes.net.settings import HttpSettings
from hermes.observe.metrics import Metrics, MetricSource

Listeners = Sequence[socket.socket] | Sequence[trio.abc.Listener[Any]]

_DRAINING = "draining: no new events are taken"


@dataclass(frozen=True)
class Offered:
    """What the parts bring for HTTP_ADDR.

    Each of ``endpoints`` is served on its own lane. ``not_ready()`` says why no data is taken now; None: it is taken.
    ``GET /metrics`` reads ``metrics`` and the edge's own. The page at ``/`` names ``admin_addr``.
    """

    endpoints: Sequence[Endpoint]
    not_ready: Callable[[], str | None]
    metrics: Sequence[MetricSource]
    admin_addr: Address | None


class Edge:
    """Both lanes over ``listeners``. Made by `open_edge`; serves while its three tasks run, and ends with `drain`."""

    def __init__(
        self,
        settings: HttpSettings,
        ingress: Ingress,
        listeners: Listeners,
        offered: Offered,
    ) -> None:
        timeouts = timeouts_of(settings)
        access, observe = ingress.access, ingress.requests.observe
        self.requests = ingress.requests
        data_routes = {(each.method, each.path): each.handler for each in offered.endpoints if each.lane == "fast"}
        self.data_routes = frozenset(path for _method, path in data_routes)
        heads = Heads({key: route for key, route in data_routes.items() if isinstance(route, Route)})
        # A remembered head has been judged by the old keys.
        access.when_keys_change(heads.forget)
        self._lane = lane = Lane(heads, ingress.budget, observe, time.perf_counter, ingress.rejected_feed)
        # No source is read before Prometheus asks, so `self` may stand here, although its lanes are made below.
        self.metrics = Metrics(*offered.metrics, self)
        served = (
            *offered.endpoints,
            health_endpoint("HTTP_ADDR"),
            # The stop comes first: the parts may be ready until the end, but a balancer has to send clients elsewhere.
            *service_endpoints(lambda: _DRAINING if lane.draining else offered.not_ready(), self.metrics.expose),
        )
        # Last: the index lists the paths of all the others.
        served = (*served, index_endpoint(__version__, offered.admin_addr, served, keyed=access.api_keys.configured))
        frame = Frame(observe, lane.track, lane.request_id, settings.max_body_bytes, lane.refusals)
        self._trouble = frame.trouble
        documents = documented("HTTP_ADDR", __version__, served, keyed=access.api_keys.configured)
        app = make_app(Site(frame, documents, ingress.budget, access.api_keys))
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
        # A reactor serves sockets without a task for each. Under TLS, or on a test's streams, each connection has a
        # task.
        if sockets and tls is None:
            self._data = Reactor(lane, sockets, self._control.hand_over, timeouts, most)
        else:
            self._data = StreamServer(lane, listeners, self._control.serve_stream, StreamOptions(timeouts, most, tls))

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

    def tell_refusals(self, *, at_the_end: bool = False) -> None:
        """Log how many refusals had no line of their own, if the pause since the last line is over.

        ``at_the_end``: whether it is over or not, and how many other lines were held back.
        """
        self._lane.refusals.tell_rest(at_the_end=at_the_end)
        if at_the_end:
            self._trouble.write_rest()
            self._control.tell_rest()

    async def serve_data(self) -> None:
        """Accept every connection, and serve the data routes, until cancelled."""
        await self._data.serve()

    async def serve_control(self) -> None:
        """Serve the connections that are handed over, until cancelled."""
        await self._control.serve()

    async def drain(self, within: float) -> None:
        """Accept no more connections, answer the requests in flight, and return when every connection has ended."""
        # Before the lanes drain: from now on /ready says so, and each answer ends its connection.
        self._lane.draining = True
        # Half of the time: a slow client of the fast lane must not keep the control lane from its own drain.
        with trio.move_on_after(within / 2):
            await self._data.drain()
        # Last: while the fast lane drains it still hands connections over, and a draining control lane closes such a
        # connection unanswered.
        await self._control.drain()


@contextmanager
def open_edge(
    settings: HttpSettings,
    ingress: Ingress,
    listeners: Listeners | None,
    offered: Offered,
) -> Iterator[Edge]:
    """The edge, listening on HTTP_ADDR until the end of the block; on ``listeners`` of others where they are given.

    Raises `ConfigError` if the service cannot listen.
    """
    # Listeners of a caller are the caller's to close.
    with nullcontext(listeners) if listeners is not None else open_listeners(settings.http_addr) as places:
        yield Edge(settings, ingress, places, offered)


def timeouts_of(settings: HttpSettings) -> Timeouts:
    """The time that a client may take, on either address."""
    return Timeouts(
        header=settings.header_timeout,
        body=settings.body_timeout,
        idle=settings.idle_timeout,
        write=settings.write_timeout,
    )
