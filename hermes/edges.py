"""Both addresses of a service, opened over its parts: HTTP_ADDR for applications, ADMIN_ADDR for operators."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import trio

from hermes.admin import AdminEdge, open_admin
from hermes.core import Core
from hermes.edge import Edge, open_edge
from hermes.http.access import Access
from hermes.loop_lag import LoopLag
from hermes.metrics import Metrics
from hermes.part import Listener, RunningPart

_TELL_SECONDS = 0.25


@dataclass(frozen=True)
class Edges:
    """The open addresses; ``admin`` is None without ADMIN_ADDR. They serve while every one of ``tasks`` runs."""

    edge: Edge
    admin: AdminEdge | None
    access: Access
    listeners: Sequence[Listener]
    metrics: Metrics
    loop_lag: LoopLag

    @property
    def addresses(self) -> Sequence[tuple[str, int]]:
        """Where events come in."""
        return self.edge.addresses

    @property
    def admin_addresses(self) -> Sequence[tuple[str, int]]:
        """Where operators are answered; empty: nowhere."""
        return self.admin.addresses if self.admin is not None else ()

    @property
    def tasks(self) -> Sequence[Callable[[], Awaitable[None]]]:
        """What has to run, each until it is cancelled."""
        edge, admin = self.edge, self.admin
        own = (edge.serve_data, edge.decode_large, edge.serve_control, self.loop_lag.measure, self._keep_telling)
        operators = () if admin is None else (admin.serve, admin.keep_live)
        return *own, *operators, *(listener.serve for listener in self.listeners)

    async def drain(self, within: float) -> None:
        """Accept nothing more, and answer what is in flight, on every address, within so many seconds.

        The operators' address is the last: the others drain before the eyes of those who watch.
        """
        with trio.move_on_after(within):
            async with trio.open_nursery() as draining:
                draining.start_soon(self.edge.drain, within)
                for listener in self.listeners:
                    draining.start_soon(listener.drain)
            if self.admin is not None:
                await self.admin.drain()

    def tell_refusals(self, *, at_the_end: bool = False) -> None:
        """Log how many refusals had no line of their own, where it is time to."""
        self.edge.tell_refusals(at_the_end=at_the_end)
        if self.admin is not None:
            self.admin.tell_refusals(at_the_end=at_the_end)

    async def _keep_telling(self) -> None:
        while True:
            await trio.sleep(_TELL_SECONDS)
            self.tell_refusals()


@contextmanager
def open_edges(core: Core, parts: Mapping[str, RunningPart], draining: Callable[[], bool]) -> Iterator[Edges]:
    """Listen on both addresses until the end of the block; ``draining`` says whether a stop has begun.

    Raises `ConfigError` for an address where the service cannot listen.
    """
    settings = core.settings
    access, loop_lag = Access(settings), LoopLag()
    metrics = Metrics(loop_lag, *(source for part in parts.values() for source in part.metrics))
    engine, dead_letters, tracer = (parts[name].value for name in ("events", "dead_letters", "traces"))
    endpoints = [endpoint for part in parts.values() for endpoint in part.endpoints]
    with ExitStack() as opened:
        edge = opened.enter_context(
            open_edge(settings, engine, metrics, access, core.world.listeners, tracer, endpoints)
        )
        metrics.add(edge)
        admin = None
        if (address := settings.admin_addr) is not None:
            admin = opened.enter_context(
                open_admin(
                    address,
                    settings,
                    engine,
                    dead_letters,
                    access,
                    edge=edge,
                    loop_lag=loop_lag,
                    draining=draining,
                    endpoints=endpoints,
                    panels=[panel for part in parts.values() for panel in part.panels],
                )
            )
        listeners = [listener for part in parts.values() for listener in part.listeners]
        yield Edges(edge, admin, access, listeners, metrics, loop_lag)
