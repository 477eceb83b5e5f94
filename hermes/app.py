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
from hermes.parts import Running, open_parts
from hermes.sink import ConfiguredSink
from hermes.world import REAL, World

_log = structlog.get_logger("hermes")

_EDGE_SHARE = 0.5  # of SHUTDOWN_TIMEOUT, for what is in flight at the edge; the rest is for the sinks
_CLEAN_UP_SHARE = 0.25  # of SHUTDOWN_TIMEOUT, for what has to be cleaned up when the sinks' time is up
_MOST_CLEAN_UP_SECONDS = 2.5
_TELL_SECONDS = 0.25
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

    async def serve_edges() -> None:
        async with trio.open_nursery() as serving:
            serving.start_soon(running.edge.serve_data)
            serving.start_soon(running.edge.decode_large)
            serving.start_soon(running.edge.serve_control)
            if running.admin is not None:
                serving.start_soon(running.admin.serve)
                serving.start_soon(running.admin.keep_live)
            serving.start_soon(running.loop_lag.measure)
            serving.start_soon(_keep_telling_refusals, running)
            _settle_garbage_collector()
            task_status.started(running)
            try:
                await stop.wait()
            finally:  # a crash as well: what it cancels cleans up within the same time
                _bound_the_end(settings.shutdown_timeout, deadline)
            _log.info("stopping", within=settings.shutdown_timeout, events=running.engine.queued)
            await _drain_edge(running, settings.shutdown_timeout * _EDGE_SHARE)
            serving.cancel_scope.cancel()

    with deadline:
        async with open_parts(settings, sinks, stop.is_set, world) as running, trio.open_nursery() as exporting:
            if running.traces is not None:
                exporting.start_soon(running.traces.run)
            try:
                await running.engine.run(serve_edges)
            finally:
                _tell_refusals(running, at_the_end=True)
                if running.traces is not None:
                    left = deadline.deadline - trio.current_time()
                    running.traces.close(min(_LAST_SPANS_SECONDS, left / 2))
    lost = any(account.dropped.get("shutdown") for account in running.engine.accounts())
    return not deadline.cancelled_caught and not lost and running.engine.audit()


def _bound_the_end(seconds: float, deadline: trio.CancelScope) -> None:
    """The service begins to end: tasks end by ``deadline``, their clean-up some time before ``seconds`` are over."""
    end = trio.current_time() + seconds
    spare = min(seconds * _CLEAN_UP_SHARE, _MOST_CLEAN_UP_SECONDS)
    deadline.deadline = end - spare
    end_no_later_than(end - spare / 2)


async def _drain_edge(running: Running, within: float) -> None:
    """Answer what is in flight, on both addresses, within so many seconds; nothing new is taken from now on."""
    running.engine.drain(within / 4)
    with trio.move_on_after(within):
        await running.edge.drain(within)
        if running.admin is not None:
            await running.admin.drain()


async def _keep_telling_refusals(running: Running) -> None:
    """Log now and then how many refusals had no line of their own, until cancelled."""
    while True:
        await trio.sleep(_TELL_SECONDS)
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
