"""The parts of a running service, made and wired to each other; nothing runs yet.

Invariant: `open_parts` opens in the order in which things are needed, closes in the opposite one, and what cannot be
opened is a `hermes.ConfigError` or `hermes.PluginError` before the first event is taken. The app opens them and runs
their tasks; what later services need is added here, and to the tree in the app.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hermes.admin import AdminEdge, open_admin
from hermes.config import Settings
from hermes.dead_letters import DeadLetters
from hermes.edge import Edge, open_edge
from hermes.engine.aggregate import Aggregator
from hermes.engine.context import SinkContext
from hermes.engine.delivery import Delivery
from hermes.engine.engine import Engine
from hermes.engine.intake import Intake
from hermes.engine.journal import EventJournal, open_journal
from hermes.http.access import Access
from hermes.log import Log
from hermes.loop_lag import LoopLag
from hermes.metrics import Metrics
from hermes.sink import ConfiguredSink
from hermes.traces import open_traces
from hermes.traces.work import NO_TRACING, Tracing
from hermes.world import EVENTS_LOG, World

if TYPE_CHECKING:
    from hermes.traces.opening import Traces


@dataclass(frozen=True)
class Running:
    """The parts of a service. ``admin`` and ``traces`` are None where they are not wanted."""

    metrics: Metrics
    loop_lag: LoopLag
    dead_letters: DeadLetters
    engine: Engine
    edge: Edge
    admin: AdminEdge | None
    traces: Traces | None
    access: Access

    @property
    def addresses(self) -> Sequence[tuple[str, int]]:
        """Where events come in."""
        return self.edge.addresses

    @property
    def admin_addresses(self) -> Sequence[tuple[str, int]]:
        """Where operators are answered; empty: nowhere."""
        return self.admin.addresses if self.admin is not None else ()


@asynccontextmanager
async def open_parts(
    settings: Settings, sinks: Sequence[ConfiguredSink], draining: Callable[[], bool], world: World
) -> AsyncIterator[Running]:
    """The parts that the settings ask for; ``draining`` says whether a stop has begun."""
    loop_lag = LoopLag()
    metrics = Metrics(loop_lag)
    aggregator = Aggregator(settings.aggregate_minutes)
    async with AsyncExitStack() as opened:
        log: Log | None = None
        if settings.durability != "memory":
            log = await opened.enter_async_context(world.open_log(settings, EVENTS_LOG))
        dead_letters = await opened.enter_async_context(world.open_dead_letters(settings))
        metrics.add(dead_letters.evictions)
        journal = await open_journal(log, settings.journal_max_bytes) if log is not None else None
        traces = await opened.enter_async_context(open_traces(settings, metrics))
        tracing = traces.spans if traces is not None else NO_TRACING
        deliveries = []
        for sink in sinks:
            target = await opened.enter_async_context(sink.plugin.open(sink.settings, settings))
            context = SinkContext(sink.name, target, sink.delivery, dead_letters, tracing)
            deliveries.append(Delivery(context, settings, journal))
        intake = _make_intake(settings, deliveries, aggregator, journal, tracing)
        engine = Engine(intake, deliveries, journal, aggregator, settings.aggregate_flush_interval)
        access = Access(settings)
        tracer = traces.spans if traces is not None else None
        for source in engine.metrics:
            metrics.add(source)
        edge = opened.enter_context(open_edge(settings, engine, metrics, access, world.listeners, tracer))
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
                )
            )
        yield Running(metrics, loop_lag, dead_letters, engine, edge, admin, traces, access)


def _make_intake(
    settings: Settings,
    deliveries: Sequence[Delivery],
    aggregator: Aggregator,
    journal: EventJournal | None,
    tracing: Tracing,
) -> Intake:
    if journal is not None:
        journal.forget_unknown_sinks()
    intake = Intake(
        deliveries,
        aggregator,
        queue_size=settings.queue_size,
        queue_bytes=settings.queue_bytes,
        blocking=settings.backpressure_mode == "block",
        journal=journal,
        ack_timeout=settings.ack_timeout,
        tracing=tracing,
    )
    if settings.event_types != ("*",):
        aggregator.received.update(dict.fromkeys(settings.event_types, 0))
    return intake
