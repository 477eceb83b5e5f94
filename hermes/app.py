"""The service: the nursery tree that owns everything, on one page.

    serve ── dead letters ── traces ── events, each part around those that need it
              └─ the addresses: HTTP_ADDR (fast lane, control lane) · ADMIN_ADDR       ← a stop begins here

The tree names no part: `hermes.parts` lists the parts, and each part names the parts that it needs. Shutdown is
dataflow, from the inside out: the addresses answer the requests in flight and close; then the innermost part ends, once
all its events have an outcome, then the part around it, and so on; then the files and connections of the parts close.
One deadline bounds all of this.

Invariant: when `serve` returns or raises, every accepted event has its outcome in an account, and an event without an
outcome is in the journal, if there is a journal.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import structlog
import trio

from hermes.base.cleanup import end_by, end_no_later_than
from hermes.configuration import Configuration
from hermes.core import Core
from hermes.net.edges import Edges, check_addresses, open_edges
from hermes.net.http.ingress import Ingress
from hermes.part import RunningPart, open_parts, run_around
from hermes.storage import REAL, World

_log = structlog.get_logger("hermes")

# Of SHUTDOWN_TIMEOUT, for the requests in flight at the edges; the rest is for the parts.
_EDGE_SHARE = 0.5
# Of the edges' time, for requests that wait for a part; their answers still have to be sent.
_WAIT_SHARE = 0.25
# Of SHUTDOWN_TIMEOUT, for the clean-up when the parts' time is up.
_CLEAN_UP_SHARE = 0.25
_MOST_CLEAN_UP_SECONDS = 2.5


@dataclass(frozen=True)
class Running:
    """A running service: the parts by name, and the addresses."""

    parts: Mapping[str, RunningPart]
    edges: Edges


async def serve(
    configuration: Configuration,
    stop: trio.Event,
    task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED,
    world: World = REAL,
) -> bool:
    """Run the service until ``stop`` is set, then drain. Return whether every accepted event has its outcome.

    To stay in the journal, because a sink is down, is an outcome. False means that SHUTDOWN_TIMEOUT came first, and the
    log says how much was not delivered; or that an account does not add up. ::

        stop = trio.Event()
        running = await nursery.start(serve, configuration, stop)
        print(running.edges.addresses)
        stop.set()
    """
    # Takes back the end that an earlier service of this run of Trio has set, as in a test.
    end_by(math.inf)
    settings = configuration.settings
    declared = tuple(each.part for each in configuration.parts)
    # The ingress before the parts: the data routes of every part are made with this one ingress.
    core = Core(settings, world, Ingress(settings.http, settings.access), declared)
    # Before the parts, which make files: a start whose port is taken leaves nothing behind.
    check_addresses(core)
    # Without an end at first: `_bound_the_end` gives the deadline once a stop, or a crash, begins.
    deadline = trio.CancelScope()
    with deadline:
        async with open_parts(configuration.parts, core) as parts:
            # After the parts: the first request finds every part open.
            with open_edges(core, parts, stop.is_set) as edges:
                running = Running(parts, edges)
                within = settings.run.shutdown_timeout
                await run_around([*parts.values()], partial(_serve_edges, running, stop, within, deadline, task_status))
    # A list, so that every part is asked: each logs an account that does not add up.
    settled = [part.settled() for part in parts.values()]
    return not deadline.cancelled_caught and all(settled)


async def _serve_edges(
    running: Running, stop: trio.Event, within: float, deadline: trio.CancelScope, task_status: trio.TaskStatus[Running]
) -> None:
    """Serve both addresses until ``stop`` is set, then answer the requests in flight."""
    edges = running.edges
    try:
        async with trio.open_nursery() as serving:
            for task in edges.tasks:
                serving.start_soon(task)
            # No task has run yet, for the next checkpoint starts them: no object of a request is frozen.
            _freeze_garbage_collector()
            task_status.started(running)
            try:
                await stop.wait()
            finally:
                # Also in a crash: the tasks that it cancels clean up within the same time.
                _bound_the_end(within, deadline)
            _log.info("stopping", within=within)
            # Before the edges: a request that waits for a part must be answered before its connection can end.
            for part in running.parts.values():
                part.drain(within * _EDGE_SHARE * _WAIT_SHARE)
            await edges.drain(within * _EDGE_SHARE)
            # The tasks of a drained edge do not return by themselves: each runs until cancelled.
            serving.cancel_scope.cancel()
    finally:
        # Refusals of a kind are counted while its line waits for the pause to end. No other line will tell the count.
        edges.tell_refusals(at_the_end=True)


def _bound_the_end(seconds: float, deadline: trio.CancelScope) -> None:
    """Begin the end of the service: tasks end by ``deadline``, their clean-up some time before ``seconds`` are over."""
    end = trio.current_time() + seconds
    spare = min(seconds * _CLEAN_UP_SHARE, _MOST_CLEAN_UP_SECONDS)
    deadline.deadline = end - spare
    # Not the whole rest: the accounts are written and the places saved after the clean-up.
    end_no_later_than(end - spare / 2)


def _freeze_garbage_collector() -> None:
    """Freeze the objects that exist now, and let the garbage collector run seldom."""
    # Before the freeze: cyclic garbage of the start would be frozen too, and stay until the end.
    gc.collect()
    # Everything that was imported and opened stays until the end: the collector need not walk these objects again.
    gc.freeze()
    # Events are in no cycles, so the young generation can be large.
    gc.set_threshold(50_000, 20, 50)
