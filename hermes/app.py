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
import math
from collections.abc import Sequence

import structlog
import trio

from hermes.cleanup import end_by, end_no_later_than
from hermes.config import Settings
from hermes.engine.aggregate_flush import flush_aggregates
from hermes.engine.ledger import Account
from hermes.engine.upkeep import keep_up, save_at_the_end
from hermes.parts import Running, open_parts
from hermes.sink import ConfiguredSink
from hermes.world import REAL, World

_log = structlog.get_logger("hermes")

_EDGE_SHARE = 0.5  # of SHUTDOWN_TIMEOUT, for what is in flight at the edge; the rest is for the sinks
_CLEAN_UP_SHARE = 0.25  # of SHUTDOWN_TIMEOUT, for what has to be cleaned up when the sinks' time is up
_MOST_CLEAN_UP_SECONDS = 2.5
_LEAST_SAVE_SECONDS = 0.5  # for the saved place, also where the clean-up before it has taken all its time
_LAG_SECONDS = 0.25
_LAST_SPANS_SECONDS = 5.0  # a receiver of traces that is slow does not keep a stop for longer


async def serve(
    settings: Settings,
    sinks: Sequence[ConfiguredSink],
    stop: trio.Event,
    task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED,
    world: World = REAL,
) -> bool:
    """Run the service until ``stop`` is set, then drain. True: every accepted event has its outcome in every sink.

    To stay in the journal, because a sink is down, is an outcome. False: SHUTDOWN_TIMEOUT came first, and the log says
    how many events were not delivered, for each sink; or the books do not balance.
    """
    end_by(math.inf)  # the end of a service that this run of Trio had before is over
    deadline = trio.CancelScope()
    end = math.inf
    with deadline:
        async with open_parts(settings, sinks, stop.is_set, world) as running:
            intake, edge, admin = running.intake, running.edge, running.admin
            async with trio.open_nursery() as exporting:
                if running.traces is not None:
                    exporting.start_soon(running.traces.run)
                try:
                    async with trio.open_nursery() as delivering:
                        for delivery in running.deliveries:
                            delivering.start_soon(delivery.run)
                        async with trio.open_nursery() as engine:
                            engine.start_soon(intake.run)
                            async with trio.open_nursery() as serving:
                                serving.start_soon(edge.serve_data)
                                serving.start_soon(edge.decode_large)
                                serving.start_soon(edge.serve_control)
                                if admin is not None:
                                    serving.start_soon(admin.serve)
                                    serving.start_soon(admin.keep_live)
                                serving.start_soon(intake.receipts.run)
                                serving.start_soon(_measure_loop_lag, running)
                                if running.journal is not None:
                                    serving.start_soon(keep_up, running.journal, running.deliveries)
                                if interval := settings.aggregate_flush_interval:
                                    counts = running.aggregator
                                    serving.start_soon(flush_aggregates, counts, intake.offer_derived, interval)
                                _settle_garbage_collector()
                                task_status.started(running)
                                try:
                                    await stop.wait()
                                finally:  # a crash as well: what it cancels cleans up within the same time
                                    end = trio.current_time() + settings.shutdown_timeout
                                    spare = min(settings.shutdown_timeout * _CLEAN_UP_SHARE, _MOST_CLEAN_UP_SECONDS)
                                    deadline.deadline = end - spare
                                    end_no_later_than(end - spare / 2)

                                _log.info("stopping", within=settings.shutdown_timeout, events=intake.admission.events)
                                within = settings.shutdown_timeout * _EDGE_SHARE
                                serving.start_soon(intake.receipts.expire_after, within / 4)
                                await _drain_edge(running, within)
                                serving.cancel_scope.cancel()
                            intake.close()
                finally:
                    if trio.current_effective_deadline() == -math.inf and not deadline.cancel_called:
                        end = -math.inf  # cancelled from outside: a second signal has come
                    accounts = await _close_books(running, end)
                    if running.traces is not None:
                        left = deadline.deadline - trio.current_time()
                        running.traces.close(min(_LAST_SPANS_SECONDS, left / 2))
    lost = any(account.dropped.get("shutdown") for account in accounts)
    return not deadline.cancelled_caught and not lost and running.books.audit()


async def _drain_edge(running: Running, within: float) -> None:
    """Answer what is in flight, on both addresses, within so many seconds; nothing new is taken from now on."""
    running.intake.stop_blocking()
    with trio.move_on_after(within):
        await running.edge.drain(within)
        if running.admin is not None:
            await running.admin.drain()


async def _close_books(running: Running, end: float) -> Sequence[Account]:
    """All tasks have ended: every accepted event gets its outcome, and the journal keeps how far the sinks came.

    What is left to clean up ends with the stop, at ``end``.
    """
    running.intake.receipts.expire_all()
    _tell_refusals(running, at_the_end=True)
    accounts = running.books.close()
    end_by(max(end, trio.current_time() + _LEAST_SAVE_SECONDS))
    if running.journal is not None:
        await save_at_the_end(running.journal)
    return accounts


async def _measure_loop_lag(running: Running) -> None:
    """How late a timer comes: what a request that arrives now would wait for. Refusals are told by the way."""
    while True:
        due = trio.current_time() + _LAG_SECONDS
        await trio.sleep_until(due)
        running.metrics.loop_lag = trio.current_time() - due
        _tell_refusals(running)


def _tell_refusals(running: Running, *, at_the_end: bool = False) -> None:
    running.edge.tell_refusals(at_the_end=at_the_end)
    if running.admin is not None:
        running.admin.tell_refusals(at_the_end=at_the_end)


def _settle_garbage_collector() -> None:
    """What exists now stays: do not walk it again. Events are in no cycles, so the young generation can be large."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
