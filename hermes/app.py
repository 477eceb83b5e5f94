"""The service: the nursery tree that owns everything, on one page.

    serve ── dead letters ── traces ── events, each part around those that need it
              └─ the addresses: HTTP_ADDR (fast lane, control lane) · ADMIN_ADDR       ← a stop begins here

The tree names no part: `hermes.parts` lists them, and each says which parts it needs. Shutdown is dataflow, from the
inside out: the addresses answer what is in flight and close; that ends the innermost part once all that it took has its
outcome, then the part around it, and so on; then what the parts have opened is closed. One deadline bounds all of it.

Invariant: when `serve` returns or raises, everything that was accepted has its outcome in an account, and what is not
settled is in the journal, if there is one.
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
from hermes.net.edges import Edges, open_edges
from hermes.net.http.ingress import Ingress
from hermes.part import RunningPart, open_parts, run_around
from hermes.world import REAL, World

_log = structlog.get_logger("hermes")

_EDGE_SHARE = 0.5  # of SHUTDOWN_TIMEOUT, for what is in flight at the edge; the rest is for the parts
_WAIT_SHARE = 0.25  # of the edges' time, for requests that wait for a part; their answers still have to be sent
_CLEAN_UP_SHARE = 0.25  # of SHUTDOWN_TIMEOUT, for what has to be cleaned up when the parts' time is up
_MOST_CLEAN_UP_SECONDS = 2.5


@dataclass(frozen=True)
class Running:
    """A service that runs: its parts by name, and its addresses."""

    parts: Mapping[str, RunningPart]
    edges: Edges


async def serve(
    configuration: Configuration,
    stop: trio.Event,
    task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED,
    world: World = REAL,
) -> bool:
    """Run the service until ``stop`` is set, then drain. True: all that was accepted has its outcome, in every part.

    To stay in the journal, because a sink is down, is an outcome. False: SHUTDOWN_TIMEOUT came first, and the log says
    how much was not delivered; or an account does not add up.
    """
    end_by(math.inf)  # the end of a service that this run of Trio had before is over
    core = Core(configuration.settings, world, Ingress(configuration.settings))
    deadline = trio.CancelScope()
    with deadline:
        async with open_parts(configuration.parts, core) as parts:
            with open_edges(core, parts, stop.is_set) as edges:
                running = Running(parts, edges)
                within = configuration.settings.shutdown_timeout
                await run_around([*parts.values()], partial(_serve_edges, running, stop, within, deadline, task_status))
    settled = [part.settled() for part in parts.values()]  # each is asked, for each logs what does not add up
    return not deadline.cancelled_caught and all(settled)


async def _serve_edges(
    running: Running, stop: trio.Event, within: float, deadline: trio.CancelScope, task_status: trio.TaskStatus[Running]
) -> None:
    """Serve both addresses until ``stop`` is set, then answer what is in flight."""
    edges = running.edges
    try:
        async with trio.open_nursery() as serving:
            for task in edges.tasks:
                serving.start_soon(task)
            _settle_garbage_collector()
            task_status.started(running)
            try:
                await stop.wait()
            finally:  # a crash as well: what it cancels cleans up within the same time
                _bound_the_end(within, deadline)
            _log.info("stopping", within=within)
            for part in running.parts.values():
                part.drain(within * _EDGE_SHARE * _WAIT_SHARE)
            await edges.drain(within * _EDGE_SHARE)
            serving.cancel_scope.cancel()
    finally:
        edges.tell_refusals(at_the_end=True)


def _bound_the_end(seconds: float, deadline: trio.CancelScope) -> None:
    """The service begins to end: tasks end by ``deadline``, their clean-up some time before ``seconds`` are over."""
    end = trio.current_time() + seconds
    spare = min(seconds * _CLEAN_UP_SHARE, _MOST_CLEAN_UP_SECONDS)
    deadline.deadline = end - spare
    end_no_later_than(end - spare / 2)


def _settle_garbage_collector() -> None:
    """Freeze what exists now, so that the collector does not walk it again and again.

    Events are in no cycles, so the young generation can be large.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
