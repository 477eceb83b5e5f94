"""What a 202 after the commit costs against one from memory: ``DURABILITY=disk`` beside ``DURABILITY=memory``.

Both do the same work in turns within one run, and a ratio is one of medians, so that a noisy machine treats them alike.
Where CPU time is given it is that of the server: what noise changes least.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import TypeVar

from tests.perf import load, processes
from tests.perf.into_postgres import EVENTS
from tests.perf.load import Saturation
from tests.perf.processes import Server
from tests.perf.rows import NO_TARGET, Row

MODES = ("memory", "disk")
_RATE = 5000

FoundT = TypeVar("FoundT")


def null_sink(folder: Path, *, rounds: int, seconds: int) -> list[Row]:
    """The same without a database: what the journal costs when nothing else does."""
    what = "the same into the null sink, events accepted"
    return [_saturation(folder, what, rounds=rounds, seconds=seconds, connections=16, events=EVENTS)]


def single(folder: Path, *, rounds: int, seconds: int) -> list[Row]:
    """One event a POST into the null sink, the server on one core: each commit answers those who came meanwhile."""
    return [
        _saturation(
            folder,
            f"durable against memory: one event a POST, {connections} connections",
            rounds=rounds,
            seconds=seconds,
            connections=connections,
            events=1,
        )
        for connections in (64, 512)
    ]


def latency(folder: Path, *, rounds: int, seconds: int) -> list[Row]:
    """The 202 at 5,000 requests a second on a schedule, one event each, the null sink; from when each was due."""
    with _servers(folder) as servers:

        def measure(mode: str) -> dict[str, float]:
            summary = load.hermes_load(servers[mode], duration=seconds, connections=64, rate=_RATE, warmup=1)
            return {key: seconds * 1000 for key, seconds in summary["latency"].items()}

        runs = _in_turns(rounds, measure)
    words = {
        mode: " / ".join(f"{median(run[key] for run in found):.2f}" for key in ("p50", "p99", "p99_9"))
        for mode, found in runs.items()
    }
    return [
        Row(
            "durable 202 at 5,000 requests/s: p50 / p99 / p99.9, in ms",
            f"{words['disk']} (from memory {words['memory']})",
            NO_TARGET,
            None,
            dict(runs),
        )
    ]


def _saturation(folder: Path, what: str, *, rounds: int, seconds: int, connections: int, events: int) -> Row:
    with _servers(folder) as servers:
        runs = _in_turns(
            rounds,
            lambda mode: load.saturate(servers[mode], seconds, folder, connections=connections, events=events),
        )
    return _compare(what, runs, events)


def _compare(what: str, runs: dict[str, list[Saturation]], events: int) -> Row:
    rate = {mode: median(run.per_second * events for run in found) for mode, found in runs.items()}
    cpu = {mode: median(run.server_cpu_us / events for run in found) for mode, found in runs.items()}
    words = {
        mode: f"{median(run.p50_ms for run in found):.2f} / {median(run.p99_ms for run in found):.2f}"
        for mode, found in runs.items()
    }
    return Row(
        what,
        f"{rate['disk'] / rate['memory']:.2f} × ({rate['disk']:,.0f}/s to {rate['memory']:,.0f}; by server CPU "
        f"{cpu['memory'] / cpu['disk']:.2f} ×, {cpu['disk']:.2f} to {cpu['memory']:.2f} µs an event; "
        f"p50 / p99 {words['disk']} to {words['memory']} ms)",
        NO_TARGET,
        None,
        {mode: [vars(run) for run in found] for mode, found in runs.items()} | {"load": load.tool()},
    )


def _in_turns(rounds: int, measure: Callable[[str], FoundT]) -> dict[str, list[FoundT]]:
    """What ``measure`` finds for each mode, by turns."""
    runs: dict[str, list[FoundT]] = {mode: [] for mode in MODES}
    for _ in range(rounds):
        for mode in MODES:
            runs[mode].append(measure(mode))
    return runs


@contextmanager
def _servers(folder: Path) -> Iterator[dict[str, Server]]:
    """One server of each mode, on the same core, into the null sink."""
    with ExitStack() as stack:
        yield {
            mode: stack.enter_context(processes.hermes(folder, settings={"SINKS": "null", "DURABILITY": mode}))
            for mode in MODES
        }
