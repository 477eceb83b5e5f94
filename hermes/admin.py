"""The admin edge: serves operators on ADMIN_ADDR, an address of their own.

Connections are few here, so each has a task. Invariants: this address shares no data route and no key with HTTP_ADDR;
the streams that never end are ended before the other requests are drained.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import trio

from hermes import __version__
from hermes.config import Address
from hermes.control.admin import judge_admin
from hermes.control.app import Site, make_app
from hermes.control.dashboard import EVENT_PANELS, SERVICE_PANEL, dashboard_endpoints
from hermes.control.dead_letters import DeadLetterDesk, dead_letter_endpoints
from hermes.control.endpoint import Endpoint
from hermes.control.frame import Frame
from hermes.control.live import Live, live_endpoints
from hermes.control.openapi.pages import documented
from hermes.control.panel import Panel
from hermes.control.rejected import RejectedDesk, rejected_endpoints
from hermes.control.server import ControlServer
from hermes.control.service import health_endpoint
from hermes.control.tap import TapDesk, tap_endpoints
from hermes.dead_letters import DeadLetters
from hermes.dead_letters.events import sink_source, sink_target
from hermes.descriptors import descriptor_limit, share
from hermes.edge import Edge, timeouts_of
from hermes.engine.engine import Engine
from hermes.engine.status import Sources, Status
from hermes.engine.status_types import ServiceStatus
from hermes.engine.tap import Tap, Wanted
from hermes.http.access import Access
from hermes.http.head import Heads
from hermes.http.keys import Keys
from hermes.http.lane import BodyBudget, Lane
from hermes.http.listen import addresses_of, open_listeners
from hermes.http.stream import StreamServer
from hermes.loop_lag import LoopLag
from hermes.settings import Settings

# One connection in so many has no place in the control lane: a newcomer must get as far as its request.
_NEWCOMERS = 16
_MAX_BODY_BYTES = 2**20
# A browser does not notice the end of a connection that it holds in reserve: a stop would wait for the browser.
_LINGER_SECONDS = 0.25


class AdminEdge:
    """Serves while `serve` and `keep_live` run; ends with `drain`. Made by `open_admin`.

    The status shows the requests to ``edge``. Beyond loopback this address speaks TLS if ``edge`` does.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        address: Address,
        settings: Settings,
        engine: Engine,
        dead_letters: DeadLetters,
        access: Access,
        *,
        edge: Edge,
        loop_lag: LoopLag,
        draining: Callable[[], bool],
        endpoints: Sequence[Endpoint] = (),
        panels: Sequence[Panel] = (),
    ) -> None:
        timeouts = timeouts_of(settings)
        self._lane = lane = Lane(Heads({}), BodyBudget(_MAX_BODY_BYTES), edge.requests.observe, time.perf_counter)
        targets = {
            sink_source(delivery.name): sink_target(delivery.redeliver, delivery.max_batch)
            for delivery in engine.deliveries
        }
        status = Status(
            Sources(
                version=__version__,
                durability=settings.durability,
                started=time.time(),
                queue_bytes=settings.queue_bytes,
                engine=engine,
                durations=edge.requests.durations,
                rejected=edge.requests.rejected,
                connections=lambda: edge.connections,
                loop_lag=lambda: loop_lag.seconds,
                evicted=lambda: dead_letters.evictions.total,
                routes=edge.data_routes,
                draining=draining,
                memory=_resident_bytes,
            ),
            trio.current_time(),
        )
        self._live = Live(
            lambda: status.tick(trio.current_time()),
            lambda: msgspec.json.encode(status.snapshot(trio.current_time(), time.time())),
        )
        self._tap = engine.intake.tap
        own = (
            *dashboard_endpoints((*EVENT_PANELS, *panels, SERVICE_PANEL)),
            *live_endpoints(self._live, ServiceStatus),
            *tap_endpoints(_make_tap_desk(self._tap)),
            *rejected_endpoints(RejectedDesk(edge.rejected, lambda: self._tap.closed)),
            *dead_letter_endpoints(DeadLetterDesk(dead_letters, targets)),
            *endpoints,
            health_endpoint("ADMIN_ADDR"),
        )
        keys = access.admin_keys
        served = documented("ADMIN_ADDR", __version__, own, keyed=keys.configured)
        frame = Frame(edge.requests.observe, lane.track, lane.request_id, _MAX_BODY_BYTES, lane.refusals)
        # The judge asks for a key before a path is looked up, so that a stranger does not learn which paths there are.
        app = make_app(Site(frame, served, lane.body_budget, Keys(), judge_admin(keys, served)))
        most = share(descriptor_limit(), settings.max_connections).admin
        self._control = ControlServer(app, timeouts, _MAX_BODY_BYTES, most - most // _NEWCOMERS)
        tls = None
        if access.certificate is not None and not address.is_loopback:
            tls = access.certificate.context
        self.addresses = addresses_of(sockets)
        self._server = StreamServer(
            lane, sockets, self._control.serve_stream, timeouts, most, tls, linger=_LINGER_SECONDS
        )

    def tell_refusals(self, *, at_the_end: bool = False) -> None:
        """Log how many refusals had no line of their own, if the pause since the last line is over."""
        self._lane.refusals.tell_rest(at_the_end=at_the_end)

    async def serve(self) -> None:
        """Serve until cancelled."""
        await self._server.serve()

    async def keep_live(self) -> None:
        """Send the status to every watcher each second, until cancelled."""
        await self._live.run()

    async def drain(self) -> None:
        """Accept nothing more, answer what is in flight, and return when every connection has ended."""
        # These streams would never end by themselves, and the drain below would wait for them.
        self._live.end()
        self._tap.close()
        await self._server.drain()
        await self._control.drain()


@contextmanager
def open_admin(
    address: Address,
    settings: Settings,
    engine: Engine,
    dead_letters: DeadLetters,
    access: Access,
    *,
    edge: Edge,
    loop_lag: LoopLag,
    draining: Callable[[], bool],
    endpoints: Sequence[Endpoint] = (),
    panels: Sequence[Panel] = (),
) -> Iterator[AdminEdge]:
    """The admin edge, listening on ``address`` until the end of the block.

    ``endpoints`` are those of the parts, and of debugging. ``panels`` are shown on the dashboard after those of the
    events. Raises `ConfigError` if it cannot listen.
    """
    with open_listeners(address, "ADMIN_ADDR") as sockets:
        yield AdminEdge(
            sockets,
            address,
            settings,
            engine,
            dead_letters,
            access,
            edge=edge,
            loop_lag=loop_lag,
            draining=draining,
            endpoints=endpoints,
            panels=panels,
        )


def _make_tap_desk(tap: Tap) -> TapDesk:
    return TapDesk(
        follow=lambda types, user, sample: tap.follow(Wanted(types, user, sample)), crowded=lambda: tap.crowded
    )


def _resident_bytes() -> int | None:
    """The memory of this process, where the kernel is Linux's (proc(5), statm)."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None
