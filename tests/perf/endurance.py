"""A minute at the limit: what a stalled sink costs in memory, whether that grows, and whether the rate sags."""

from __future__ import annotations

import time
from pathlib import Path

from tests.perf import load, processes
from tests.perf.rows import Row

_QUEUE = 100_000
_EDGE = 10


def memory(folder: Path, *, seconds: int) -> list[Row]:
    """Fill a stalled sink's buffer with 150-byte events, one a POST; for a minute more they go to the journal alone."""
    settings = {"SINKS": "stdout", "SINK_STDOUT_TIMEOUT": "1h", "QUEUE_SIZE": str(_QUEUE), "SHUTDOWN_TIMEOUT": "1s"}
    with processes.hermes(folder, stalled=True, settings=settings) as server:
        empty = server.rss_mib()
        load.hermes_load(server, total=_QUEUE + 1000, connections=64, duration=60)
        behind = server.metric("hermes_sink_backlog_events")
        full = server.rss_mib()
        peak = full
        with load.start_hermes_load(server, duration=seconds, connections=64) as client:
            while client.poll() is None:
                peak = max(peak, server.rss_mib())
                time.sleep(0.25)
        on_disk = server.metric("hermes_sink_backlog_events") - _QUEUE
    return [
        Row(
            "memory, a sink stalled with 100,000 events of 150 bytes in its buffer",
            f"{full:.0f} MB RSS ({empty:.0f} when empty)",
            "< 200 MB",
            200 / full if behind >= _QUEUE else 0.0,
            {"empty_mib": empty, "full_mib": full, "events_behind": behind},
        ),
        Row(
            f"the same after {seconds} s more of events",
            f"{peak:.0f} MB at most, {peak - full:+.1f} MB ({on_disk:,.0f} events on disk)",
            "flat: < 5 MB more",
            5 / max(peak - full, 0.001) if peak - full >= 5 else 1.0,
            {"peak_mib": peak},
        ),
    ]


def sagging(folder: Path, *, seconds: int) -> list[Row]:
    """Events a second of the server's own CPU time in the last ten seconds, against the first ten.

    The speed of a shared machine itself changes by more than is looked for here. The load generator is the witness: it
    does the same for each request from first to last, so what its own CPU time a request has changed is the machine.
    """
    samples = []
    with (
        processes.hermes(folder, settings={"SINKS": "null", "DURABILITY": "memory"}) as server,
        load.start_hermes_load(server, duration=seconds + 2, connections=64) as client,
    ):
        time.sleep(1)  # the load's own start
        for _ in range(seconds + 1):
            received = server.metric("hermes_events_received_total")
            samples.append((received, time.perf_counter(), server.cpu_seconds(), processes.cpu_seconds(client.pid)))
            time.sleep(1)
        client.wait()
    clock, cpu, witness = (
        _rate(samples[-_EDGE - 1], samples[-1], column) / _rate(samples[0], samples[_EDGE], column)
        for column in (1, 2, 3)
    )
    return [
        Row(
            f"sagging: last ten seconds of {seconds} against the first",
            f"{cpu / witness:.3f} (by server CPU {cpu:.3f}, by the clock {clock:.3f}, the machine {witness:.3f})",
            "≥ 0.97",
            cpu / witness / 0.97,
            {"by_server_cpu": cpu, "by_the_clock": clock, "machine": witness},
        )
    ]


def _rate(begin: tuple[float, ...], end: tuple[float, ...], column: int) -> float:
    """Events a second of the time in this column of two samples, whose first column counts events."""
    return (end[0] - begin[0]) / (end[column] - begin[column])
