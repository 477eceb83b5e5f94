"""The service: the nursery tree that owns everything, on one page.

    serve ── sinks (each: buffer → breaker → retry → sink)
              └─ engine (the intake: channel, counts, handing out)
                  └─ edge (fast lane, control lane)                ← a stop begins here

Shutdown is dataflow, inside out: the edge answers what is in flight and closes; closing the intake ends the engine's
task once it has handed everything on; that ends the deliveries after their last flush; then the sinks close. One
deadline bounds it all. Invariant: when `serve` returns or raises, every accepted event has its outcome in an account.
Called by ``hermes serve``; tests run it in their own nursery.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import structlog
import trio

from hermes.config import Settings
from hermes.edge import Edge
from hermes.engine.aggregate import Aggregator
from hermes.engine.aggregate_flush import flush_aggregates
from hermes.dead_letters import DeadLetters, MemoryDeadLetters
from hermes.engine.delivery import Delivery
from hermes.engine.intake import Intake
from hermes.engine.ledger import Account
from hermes.http.ingest import PATH
from hermes.metrics import Metrics
from hermes.sink import ConfiguredSink

_log = structlog.get_logger("hermes")

_EDGE_SHARE = 0.5  # of SHUTDOWN_TIMEOUT, for what is in flight at the edge; the rest is for the sinks
_LAG_SECONDS = 0.25


@dataclass(frozen=True)
class Running:
    """What a running service tells whoever started it."""

    addresses: Sequence[tuple[str, int]]
    metrics: Metrics
    dead_letters: MemoryDeadLetters
    intake: Intake
    deliveries: Sequence[Delivery]

    def undelivered(self) -> dict[str, int]:
        """Accepted events without an outcome but that of a stop, for each sink."""
        accepted = self.intake.admission.accepted
        accounts = [delivery.account() for delivery in self.deliveries]
        return {
            account.sink: accepted - account.accepted + account.in_flight + account.dropped.get("shutdown", 0)
            for account in accounts
        }


async def serve(
    settings: Settings,
    sinks: Sequence[ConfiguredSink],
    stop: trio.Event,
    task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED,
) -> bool:
    """Run the service until ``stop`` is set, then drain. True: every accepted event has reached its sinks' outcome.

    False: SHUTDOWN_TIMEOUT came first; the log says how many events were not delivered, for each sink.
    """
    metrics = Metrics(sink.name for sink in sinks)
    dead_letters = MemoryDeadLetters(settings.dead_letters)
    aggregator = Aggregator(settings.aggregate_minutes)
    deliveries: list[Delivery] = []
    running: Running | None = None
    deadline = trio.CancelScope()
    try:
        with deadline:
            async with AsyncExitStack() as open_sinks:
                for sink in sinks:
                    opened = await open_sinks.enter_async_context(sink.plugin.open(sink.settings, settings))
                    deliveries.append(Delivery(sink.name, opened, sink.delivery, settings, metrics, dead_letters))
                async with trio.open_nursery() as delivering:
                    for delivery in deliveries:
                        delivering.start_soon(delivery.run)
                    intake = _make_intake(settings, deliveries, aggregator, metrics, dead_letters)
                    async with trio.open_nursery() as engine:
                        engine.start_soon(intake.run)
                        edge = Edge(settings, intake, aggregator, metrics)
                        async with trio.open_nursery() as serving:
                            serving.start_soon(edge.serve_data)
                            serving.start_soon(edge.serve_control)
                            serving.start_soon(_measure_loop_lag, metrics)
                            if interval := settings.aggregate_flush_interval:
                                serving.start_soon(flush_aggregates, aggregator, intake.offer_derived, interval)
                            _settle_garbage_collector()
                            running = Running(edge.addresses, metrics, dead_letters, intake, deliveries)
                            task_status.started(running)
                            await stop.wait()

                            deadline.deadline = trio.current_time() + settings.shutdown_timeout
                            _log.info("stopping", within=settings.shutdown_timeout, events=intake.admission.events)
                            intake.stop_blocking()
                            within = settings.shutdown_timeout * _EDGE_SHARE
                            with trio.move_on_after(within):
                                await edge.drain(within)
                            serving.cancel_scope.cancel()
                        intake.close()
    finally:
        accounts = _close_accounts(running) if running is not None else []
    return not deadline.cancelled_caught and not any(account.dropped.get("shutdown") for account in accounts)


def _make_intake(
    settings: Settings, deliveries: Sequence[Delivery], aggregator: Aggregator, metrics: Metrics, letters: DeadLetters
) -> Intake:
    intake = Intake(
        deliveries,
        aggregator,
        queue_size=settings.queue_size,
        queue_bytes=settings.queue_bytes,
        blocking=settings.backpressure_mode == "block",
    )
    if settings.event_types != ("*",):
        aggregator.received.update(dict.fromkeys(settings.event_types, 0))
    metrics.received = aggregator.received
    metrics.requests[PATH, 202]  # a defaultdict: the histogram is there from now on
    metrics.queue_length = lambda: intake.admission.events
    metrics.queue_capacity = lambda: settings.queue_size
    metrics.aggregates_dropped = lambda: aggregator.dropped
    metrics.dead_letters_evicted = lambda: letters.evicted
    return intake


def _close_accounts(running: Running) -> list[Account]:
    """Give every accepted event its outcome, and write the accounts to the log."""
    accounts = []
    for delivery in running.deliveries:
        delivery.abandon(running.intake.admission.accepted)
        account = delivery.account()
        accounts.append(account)
        lost = account.dropped.get("shutdown", 0)
        write = (
            _log.error
            if lost
            else _log.warning
            if any(account.dropped.values()) or account.dead_lettered
            else _log.info
        )
        write("account", **account.to_dict(), undelivered=lost)
    return accounts


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
