"""The admin edge: serves operators on ADMIN_ADDR, an address of their own.

Invariants: this address shares no data route and no key with HTTP_ADDR; endless streams end before the other requests
are drained; no part is named here, and nothing opens in a constructor: `open_admin` opens and closes the sockets.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec
import trio

from hermes import __version__
from hermes.config import Address
from hermes.net.control.admin import judge_admin
from hermes.net.control.app import Site, make_app
from hermes.net.control.dashboard import SERVICE_PANEL, dashboard_endpoints
from hermes.net.control.endpoint import Endpoint
from hermes.net.control.frame import Frame
from hermes.net.control.live import Live, live_endpoints
from hermes.net.control.openapi.pages import documented
from hermes.net.control.panel import Panel
from hermes.net.control.server import ControlServer
from hermes.net.control.service import health_endpoint
from hermes.net.descriptors import descriptor_limit, share
from hermes.net.http.head import Heads
from hermes.net.http.ingress import Ingress
from hermes.net.http.keys import Keys
from hermes.net.http.lane import BodyBudget, Lane
from hermes.net.http.stream import StreamOptions, StreamServer
from hermes.net.http_edge import timeouts_of
from hermes.net.listen import addresses_of, open_listeners
from hermes.net.settings import HttpSettings
from hermes.net.status import StatusBoard

# One connection in so many has no place in the control lane: a newcomer must get as far as its request.
_NEWCOMERS = 16
# No event comes in here: the longest body selects the dead letters of a replay or a deletion.
_MAX_BODY_BYTES = 2**20
# A browser does not notice the end of a connection that it holds in reserve: a stop would wait for the browser.
_LINGER_SECONDS = 0.25


@dataclass(frozen=True)
class Shown:
    """Everything that the parts bring for ADMIN_ADDR.

    ``panels`` are the sections of the dashboard, in their order; the service's own comes last. Each of ``end_streams``
    is called in a stop, and ends answers that would never end by themselves.
    """

    board: StatusBoard
    panels: Sequence[Panel] = ()
    endpoints: Sequence[Endpoint] = ()
    end_streams: Sequence[Callable[[], None]] = ()


class AdminEdge:
    """Serves while `serve` and `keep_live` run; ends with `drain`. Made by `open_admin`.

    Beyond loopback this address speaks TLS if HTTP_ADDR does.
    """

    def __init__(
        self, sockets: Sequence[socket.socket], address: Address, settings: HttpSettings, ingress: Ingress, shown: Shown
    ) -> None:
        access, observe, timeouts = ingress.access, ingress.requests.observe, timeouts_of(settings)
        # Without a route of its own this lane leaves every request to the control lane.
        self._lane = lane = Lane(Heads({}), BodyBudget(_MAX_BODY_BYTES), observe, time.perf_counter)
        board = shown.board
        self._live = Live(
            lambda: board.tick(trio.current_time()),
            lambda: msgspec.json.encode(board.snapshot(trio.current_time(), time.time())),
        )
        self._end_streams = (self._live.end, *shown.end_streams)
        own = (
            *dashboard_endpoints((*shown.panels, SERVICE_PANEL)),
            *live_endpoints(self._live, board.kinds),
            *shown.endpoints,
            health_endpoint("ADMIN_ADDR"),
        )
        keys = access.admin_keys
        served = documented("ADMIN_ADDR", __version__, own, keyed=keys.configured)
        frame = Frame(observe, lane.track, lane.request_id, _MAX_BODY_BYTES, lane.refusals)
        self._trouble = frame.trouble
        # The judge asks for a key before a path is looked up, so that a stranger does not learn which paths there are.
        # The keys of the site are empty: API_KEYS open nothing here, and the judge has asked for an admin key.
        app = make_app(Site(frame, served, lane.body_budget, Keys(), judge_admin(keys, served)))
        most = share(descriptor_limit(), settings.max_connections).admin
        self._control = ControlServer(app, timeouts, _MAX_BODY_BYTES, most - most // _NEWCOMERS)
        tls = None
        # On loopback no other machine can listen in.
        if access.certificate is not None and not address.is_loopback:
            tls = access.certificate.context
        self.addresses = addresses_of(sockets)
        # A task for each connection, and no reactor: connections are few here.
        self._server = StreamServer(
            lane, sockets, self._control.serve_stream, StreamOptions(timeouts, most, tls, linger=_LINGER_SECONDS)
        )

    def tell_refusals(self, *, at_the_end: bool = False) -> None:
        """Log how many refusals had no line of their own, if the pause since the last line is over.

        ``at_the_end``: whether it is over or not, and how many other lines were held back.
        """
        self._lane.refusals.tell_rest(at_the_end=at_the_end)
        if at_the_end:
            self._trouble.write_rest()
            self._control.tell_rest()

    async def serve(self) -> None:
        """Serve until cancelled."""
        await self._server.serve()

    async def keep_live(self) -> None:
        """Send the status to every watcher each second, until cancelled."""
        await self._live.run()

    async def drain(self) -> None:
        """Accept no more connections, answer the requests in flight, and return when every connection has ended."""
        # These streams would never end by themselves, and the drain below would wait for them.
        for end in self._end_streams:
            end()
        await self._server.drain()
        # The server forgets a connection that it hands over: the control lane drains that.
        await self._control.drain()


@contextmanager
def open_admin(address: Address, settings: HttpSettings, ingress: Ingress, shown: Shown) -> Iterator[AdminEdge]:
    """Open the admin edge, listening on ``address`` until the end of the block.

    Raises `ConfigError` if the service cannot listen there. ::

        with open_admin(address, http, ingress, Shown(board)) as admin:
            nursery.start_soon(admin.serve)
    """
    with open_listeners(address, "ADMIN_ADDR") as sockets:
        yield AdminEdge(sockets, address, settings, ingress, shown)
