"""What one part can do by itself: NDJSON of 500 a POST into the null sink, and the postgres sink without HTTP."""

from __future__ import annotations

from pathlib import Path

from tests.perf import load, postgres_sink, processes
from tests.perf.into_postgres import EVENTS, RANDOM, postgres_server
from tests.perf.rows import Row


def null_sink(folder: Path, *, seconds: int) -> list[Row]:
    """Accepted events a second; both cores, the load included."""
    with processes.hermes(folder, settings={"SINKS": "null", "DURABILITY": "memory"}) as server:
        found = load.saturate(server, seconds, folder, connections=16, events=EVENTS)
    rate = found.per_second * EVENTS
    return [
        Row(
            "NDJSON of 500 a POST, null sink",
            f"{rate:,.0f} events/s",
            "≥ 400,000 events/s",
            rate / 400_000,
            {"events_per_second": rate, "load": load.tool()},
        )
    ]


def sink_alone(_folder: Path, *, rows: int, rounds: int) -> list[Row]:
    """The postgres sink without the HTTP before it: random ids against ``psql \\copy`` and against ids that ascend."""
    with postgres_server() as server:
        found = postgres_sink.measure(server.dsn(), rows=rows, rounds=rounds)
    return [
        Row(
            "the postgres sink alone, random ids",
            f"{found['ratio']:.2f} × of the copy ({found['sink_rows_per_second']:,.0f} rows/s)",
            "≥ 0.6 × of the copy",
            found["ratio"] / 0.6,
            dict(found),
        ),
        Row(
            "the postgres sink alone, random ids (UUID v4) against ids that ascend (UUID v7)",
            f"{found['random_to_ascending']:.2f} × ({found['sink_rows_per_second']:,.0f} rows/s to "
            f"{found['ascending_rows_per_second']:,.0f})",
            f"≥ {RANDOM} × of ascending",
            found["random_to_ascending"] / RANDOM,
        ),
    ]
