"""Opens both addresses of a service over its parts: HTTP_ADDR for applications, ADMIN_ADDR for operators.

Invariant: at the end of the block no socket of either address is open.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import trio

from hermes.core import Core
from hermes.net.admin_edge import AdminEdge, Shown, open_admin
from hermes.net.control.debugging import debug_endpoints
from hermes.net.control.endpoint import at
from hermes.net.http.access import Access
from hermes.net.http.ingress import Ingress
from hermes.net.http_edge import Edge, Offered, open_edge
from hermes.net.listen import check_address
from hermes.net.status import Facts, StatusBoard, resident_bytes
from hermes.observe.loop_lag import LoopLag
from hermes.observe.metrics import Metrics
from hermes.part import Listener, RunningPart
from hermes.version import __version__

# Much less than the 5 seconds between two lines, so the number of refusals comes soon after a pause.
_TELL_SECONDS = 0.25


@dataclass(frozen=True)
class Edges:
    """The open addresses; ``admin`` is None without ADMIN_ADDR. The addresses serve while all of ``tasks`` run."""

    edge: Edge
    admin: AdminEdge | None
    ingress: Ingress
    listeners: Sequence[Listener]
    loop_lag: LoopLag

    @property
    def access(self) -> Access:
        """The keys and the certificate, which can change while the service runs."""
        return self.ingress.access

    @property
    def metrics(self) -> Metrics:
        """The metrics of the service and of its parts."""
        return self.edge.metrics

    @property
    def addresses(self) -> Sequence[tuple[str, int]]:
        """The addresses where events come in, as host and port."""
        return self.edge.addresses

    @property
    def admin_addresses(self) -> Sequence[tuple[str, int]]:
        """The addresses where operators are answered; empty without ADMIN_ADDR."""
        return self.admin.addresses if self.admin is not None else ()

    @property
    def tasks(self) -> Sequence[Callable[[], Awaitable[None]]]:
        """The functions that have to run, each until cancelled."""
        edge, admin = self.edge, self.admin
        lanes = (edge.serve_data, self.ingress.decode_large, edge.serve_control)
        operators = () if admin is None else (admin.serve, admin.keep_live)
        servers = (listener.serve for listener in self.listeners)
        return *lanes, *operators, *servers, self.loop_lag.measure, self._keep_telling

    async def drain(self, within: float) -> None:
        """Accept no more connections, and answer the requests in flight on every address, within so many seconds."""
        with trio.move_on_after(within):
            # All at once: a slow client of one server must not take the time of the other servers.
            async with trio.open_nursery() as draining:
                # The time as an argument too: this edge divides the time among its two lanes.
                draining.start_soon(self.edge.drain, within)
                for listener in self.listeners:
                    draining.start_soon(listener.drain)
            # After the others: an operator can watch how they drain.
            if self.admin is not None:
                await self.admin.drain()

    def tell_refusals(self, *, at_the_end: bool = False) -> None:
        """Log the number of refusals without a line of their own, if the pause since the last line is over."""
        self.edge.tell_refusals(at_the_end=at_the_end)
        if self.admin is not None:
            self.admin.tell_refusals(at_the_end=at_the_end)

    async def _keep_telling(self) -> None:
        while True:
            await trio.sleep(_TELL_SECONDS)
            self.tell_refusals()


def check_addresses(core: Core) -> None:
    """Raise `ConfigError` for an address where the service cannot listen now, without listening there."""
    # Listeners of a test stand in the place of HTTP_ADDR, which is then not bound.
    if core.world.listeners is None:
        check_address(core.settings.http.http_addr, "HTTP_ADDR")
    if (admin := core.settings.admin.admin_addr) is not None:
        check_address(admin, "ADMIN_ADDR")


@contextmanager
def open_edges(core: Core, parts: Mapping[str, RunningPart], draining: Callable[[], bool]) -> Iterator[Edges]:
    """Listen on both addresses until the end of the block; ``draining`` says whether a stop has begun.

    Raises `ConfigError` for an address where the service cannot listen.
    """
    settings, ingress, loop_lag = core.settings, core.ingress, LoopLag()
    metrics = (loop_lag, *(source for part in parts.values() for source in part.metrics))
    endpoints = [endpoint for part in parts.values() for endpoint in part.endpoints]
    show = partial(_show, parts)
    # Stacks and profiles are for operators: HTTP_ADDR shows them to everybody who can reach it.
    debugging = debug_endpoints("HTTP_ADDR", show) if settings.admin.debug_endpoints else ()
    # If ADMIN_ADDR cannot be opened, the sockets of HTTP_ADDR are closed too.
    with ExitStack() as opened:
        own = (*at("HTTP_ADDR", endpoints), *debugging)
        offered = Offered(own, partial(_why_not_ready, parts), metrics, settings.admin.admin_addr)
        edge = opened.enter_context(open_edge(settings.http, ingress, core.world.listeners, offered))
        admin = None
        # After HTTP_ADDR: the status tells the connections and the data routes of that edge.
        if (address := settings.admin.admin_addr) is not None:
            facts = Facts(
                version=__version__,
                durability=settings.storage.durability,
                # Here and not at the start of the process: a service is up once its parts are open.
                started=time.time(),
                durations=ingress.requests.durations,
                routes=edge.data_routes,
                # Functions and no numbers: each status reads the present ones.
                connections=lambda: edge.connections,
                loop_lag=lambda: loop_lag.seconds,
                draining=draining,
                memory=resident_bytes,
            )
            statuses = {name: part.status for name, part in parts.items() if part.status is not None}
            shown = Shown(
                StatusBoard(facts, statuses, trio.current_time()),
                # A part is shown before the parts that it needs.
                [panel for part in reversed([*parts.values()]) for panel in part.panels],
                (*at("ADMIN_ADDR", endpoints), *debug_endpoints("ADMIN_ADDR", show)),
                [part.end_streams for part in parts.values()],
            )
            admin = opened.enter_context(open_admin(address, settings.http, ingress, shown))
        listeners = [listener for part in parts.values() for listener in part.listeners]
        yield Edges(edge, admin, ingress, listeners, loop_lag)


def _why_not_ready(parts: Mapping[str, RunningPart]) -> str | None:
    # A part comes after the parts that it needs, so the first reason is the nearest to the cause.
    return next(filter(None, (part.why_not_ready() for part in parts.values())), None)


def _show(parts: Mapping[str, RunningPart]) -> dict[str, object]:
    return {name: value for part in parts.values() for name, value in part.show().items()}
