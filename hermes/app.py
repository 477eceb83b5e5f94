"""The service: the nursery tree that owns everything, on one page.

    serve ── log and dead letters (what is kept; by DURABILITY)
              └─ traces (the export of spans, where TRACES_ENDPOINT is set)
                  └─ sinks (each: buffer → breaker → retry → sink; its backlog in the journal)
                      └─ engine (the intake: channel, commit, counts, handing out; upkeep of the journal; receipts)
                          └─ edge (fast lane, control lane) · admin edge   ← a stop begins here

Shutdown is dataflow, inside out: the edge answers what is in flight and closes; closing the intake ends the engine's
task once it has handed everything on; that ends the deliveries after their last flush; then the last spans are sent,
the sinks close, and last the log. One deadline bounds it all. Invariant: when `serve` returns or raises, every accepted
event has its outcome in an account, and what is not settled is in the journal, if there is one.
Called by ``hermes serve``; tests run it in their own nursery.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import structlog
import trio

from hermes.admin import AdminEdge
from hermes.config import Settings
from hermes.dead_letters import DeadLetters
from hermes.edge import Edge
from hermes.engine.accounting import Books
from hermes.engine.aggregate import Aggregator
from hermes.engine.aggregate_flush import flush_aggregates
from hermes.engine.delivery import Delivery
from hermes.engine.intake import Intake
from hermes.engine.journal import EventJournal, open_journal
from hermes.engine.upkeep import keep_up, save_at_the_end
from hermes.metrics import Metrics
from hermes.protocols.events import PATH
from hermes.sink import ConfiguredSink
from hermes.traces import open_traces
from hermes.traces.work import NO_TRACING, Tracing
from hermes.world import REAL, World

_log = structlog.get_logger("hermes")

_EDGE_SHARE = 0.5  # of SHUTDOWN_TIMEOUT, for what is in flight at the edge; the rest is for the sinks
_LAG_SECONDS = 0.25
_LAST_SPANS_SECONDS = 5.0  # a receiver of traces that is slow does not keep a stop for longer


@dataclass(frozen=True)
class Running:
    """What a running service tells whoever started it."""

    addresses: Sequence[tuple[str, int]]
    admin_addresses: Sequence[tuple[str, int]]
    metrics: Metrics
    dead_letters: DeadLetters
    intake: Intake
    deliveries: Sequence[Delivery]
    journal: EventJournal | None
    books: Books


async def serve(
    settings: Settings,
    sinks: Sequence[ConfiguredSink],
    stop: trio.Event,
    task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED,
    world: World = REAL,
) -> bool:
    """Run the service until ``stop`` is set, then drain. True: every accepted event has its outcome in every sink.

    To stay in the journal, because a sink is down, is an outcome. False: SHUTDOWN_TIMEOUT came first; the log says how
    many events were not delivered, for each sink.
    """
    metrics = Metrics(sink.name for sink in sinks)
    aggregator = Aggregator(settings.aggregate_minutes)
    deliveries: list[Delivery] = []
    deadline = trio.CancelScope()
    with deadline:
        async with AsyncExitStack() as opened:
            log = await opened.enter_async_context(world.open_log(settings))
            dead_letters = await opened.enter_async_context(world.open_dead_letters(settings))
            journal = await open_journal(log, settings.journal_max_bytes) if log is not None else None
            traces = await opened.enter_async_context(open_traces(settings, metrics))
            tracing = traces.spans if traces is not None else NO_TRACING
            for sink in sinks:
                target = await opened.enter_async_context(sink.plugin.open(sink.settings, settings))
                deliveries.append(
                    Delivery(sink.name, target, sink.delivery, settings, metrics, dead_letters, journal, tracing)
                )
            intake = _make_intake(settings, deliveries, aggregator, metrics, journal, tracing)
            books = Books(intake, deliveries, journal)
            metrics.dead_letters_evicted = lambda: dead_letters.evicted
            tracer = traces.spans if traces is not None else None
            edge = Edge(settings, books, aggregator, metrics, world.listeners, tracer)
            admin = None
            if (address := settings.admin_addr) is not None:
                admin = AdminEdge(
                    address,
                    settings,
                    books,
                    aggregator,
                    metrics,
                    dead_letters,
                    routes=edge.data_routes,
                    draining=stop.is_set,
                )
            async with trio.open_nursery() as exporting:
                if traces is not None:
                    exporting.start_soon(traces.run)
                try:
                    async with trio.open_nursery() as delivering:
                        for delivery in deliveries:
                            delivering.start_soon(delivery.run)
                        async with trio.open_nursery() as engine:
                            engine.start_soon(intake.run)
                            async with trio.open_nursery() as serving:
                                serving.start_soon(edge.serve_data)
                                serving.start_soon(edge.serve_control)
                                if admin is not None:
                                    serving.start_soon(admin.serve)
                                    serving.start_soon(admin.keep_live)
                                serving.start_soon(intake.receipts.run)
                                serving.start_soon(_measure_loop_lag, metrics)
                                if journal is not None:
                                    serving.start_soon(keep_up, journal, deliveries)
                                if interval := settings.aggregate_flush_interval:
                                    serving.start_soon(flush_aggregates, aggregator, intake.offer_derived, interval)
                                _settle_garbage_collector()
                                task_status.started(
                                    Running(
                                        edge.addresses,
                                        admin.addresses if admin is not None else (),
                                        metrics,
                                        dead_letters,
                                        intake,
                                        deliveries,
                                        journal,
                                        books,
                                    )
                                )
                                await stop.wait()

                                deadline.deadline = trio.current_time() + settings.shutdown_timeout
                                _log.info("stopping", within=settings.shutdown_timeout, events=intake.admission.events)
                                intake.stop_blocking()
                                within = settings.shutdown_timeout * _EDGE_SHARE
                                serving.start_soon(intake.receipts.expire_after, within / 4)
                                with trio.move_on_after(within):
                                    await edge.drain(within)
                                    if admin is not None:
                                        await admin.drain()
                                serving.cancel_scope.cancel()
                            intake.close()
                finally:
                    intake.receipts.expire_all()
                    accounts = books.close()
                    if journal is not None:
                        await save_at_the_end(journal)
                    if traces is not None:
                        traces.close(min(_LAST_SPANS_SECONDS, (deadline.deadline - trio.current_time()) / 2))
    return not deadline.cancelled_caught and not any(account.dropped.get("shutdown") for account in accounts)


def _make_intake(
    settings: Settings,
    deliveries: Sequence[Delivery],
    aggregator: Aggregator,
    metrics: Metrics,
    journal: EventJournal | None,
    tracing: Tracing,
) -> Intake:
    if journal is not None:
        journal.forget_strangers()
        metrics.journal = journal.metrics
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
    metrics.received = aggregator.received
    metrics.requests[PATH, 202]  # a defaultdict: the histogram is there from now on
    metrics.queue_length = lambda: intake.admission.events
    metrics.queue_capacity = lambda: settings.queue_size
    metrics.aggregates_dropped = lambda: aggregator.dropped
    return intake


async def _measure_loop_lag(metrics: Metrics) -> None:
    """How late a timer comes: what a request that arrives now would wait for."""
    while True:
        due = trio.current_time() + _LAG_SECONDS
        await trio.sleep_until(due)
        metrics.loop_lag = trio.current_time() - due


def _settle_garbage_collector() -> None:
    """What exists now stays: do not walk it again. Events are in no cycles, so the young generation can be large."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
