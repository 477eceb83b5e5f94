"""NDJSON of 500 events a POST: into the null sink, and into Postgres against ``psql \\copy`` of the same rows.

The copy keeps nothing beside its table, so Hermes is asked to keep nothing either; `durable` measures what that costs,
with `store` of this module.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psycopg

from tests.perf import load, postgres_sink, processes
from tests.perf.processes import Server
from tests.perf.rows import Row
from tests.servers.postgres import PostgresServer

EVENTS = 500  # a POST
_HEADLINE = 166_667
RANDOM = 0.8  # of the rows/s with ids that ascend


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


def postgres(folder: Path, *, rounds: int, rows: int) -> list[Row]:
    """Rows stored a second, load, Hermes and Postgres together on the machine's cores, against one ``psql \\copy``."""
    requests = rows // EVENTS
    rows = requests * EVENTS
    pairs = []
    with postgres_server() as server:
        for _ in range(rounds):
            stored = store(folder, server, requests, "memory")
            copied_seconds = _copy(folder, server, stored.database)
            pairs.append((rows / stored.seconds, rows / copied_seconds))
    ratio, rate = median(a / b for a, b in pairs), median(a for a, _ in pairs)
    return [
        Row(
            "NDJSON of 500 a POST into Postgres, unique ids, primary key, against psql \\copy",
            f"{ratio:.2f} × of the copy ({rate:,.0f} rows/s to {median(b for _, b in pairs):,.0f})",
            "≥ 0.6 × of the copy",
            ratio / 0.6,
            {"hermes_rows_per_second": [a for a, _ in pairs], "copy_rows_per_second": [b for _, b in pairs]},
        ),
        Row(
            "the headline: 10 million events a minute from HTTP into Postgres",
            f"{rate * 60 / 1e6:.1f} million a minute",
            "aim: 10 million a minute",
            rate / _HEADLINE,
        ),
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


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    # What a person who cares for ingest sets; fsync and synchronous_commit stay on, for both sides of the comparison.
    server = PostgresServer({"max_wal_size": "4GB", "shared_buffers": "512MB", "checkpoint_timeout": "15min"})
    server.start()
    try:
        yield server
    finally:
        server.remove()


@dataclass(frozen=True)
class Stored:
    """Events went from HTTP into the table ``events`` of ``database``, all of them."""

    database: str
    seconds: float
    """From the first event that Hermes took to the last row."""
    acknowledged: float
    """From the first event that Hermes took to the last 202."""
    cpu_seconds: float
    """Of Hermes, over ``seconds``."""


def store(folder: Path, server: PostgresServer, requests: int, durability: str, *, random_ids: bool = False) -> Stored:
    """Send the events to a Hermes, and wait until a new database has them all. Their ids ascend, or are random."""
    database = server.create_database()
    dsn = server.dsn(database)
    settings = {"SINKS": "postgres", "DB_DSN": dsn, "BACKPRESSURE_MODE": "block", "DURABILITY": durability}
    with processes.hermes(folder, None, settings=settings) as hermes:
        options = {"total": requests, "events": EVENTS, "connections": 16, "duration": 300, "random_ids": random_ids}
        with load.start_hermes_load(hermes, **options) as client:
            began = _wait_for_first_event(hermes)
            cpu = hermes.cpu_seconds()
            client.wait()
        acknowledged = time.perf_counter() - began
        wait_for_rows(dsn, requests * EVENTS)
        return Stored(database, time.perf_counter() - began, acknowledged, hermes.cpu_seconds() - cpu)


def wait_for_rows(dsn: str, rows: int, within: float = 300.0) -> None:
    """Return when the table ``events`` holds ``rows`` rows, and no more. Raises RuntimeError if it does not."""
    end = time.perf_counter() + within
    with psycopg.connect(dsn, autocommit=True) as connection:
        while True:
            (table,) = connection.execute("SELECT to_regclass('events')").fetchone() or (None,)
            (stored,) = (table and connection.execute("SELECT count(*) FROM events").fetchone()) or (0,)
            if stored == rows:
                return
            if stored > rows or time.perf_counter() > end:
                raise RuntimeError(f"{stored} rows instead of {rows}")
            time.sleep(0.02)


def _wait_for_first_event(server: Server) -> float:
    """The moment when the first events are in: the generator's own start, a third of a second, is nobody's figure."""
    while not server.metric("hermes_events_received_total"):
        time.sleep(0.002)
    return time.perf_counter()


def _copy(folder: Path, server: PostgresServer, database: str) -> float:
    """Seconds for one ``psql \\copy`` of the same rows, in the same order, into an empty table of the same shape."""
    dsn, file = server.dsn(database), folder / "rows.copy"
    psql = ["psql", "--no-psqlrc", "--quiet", dsn, "-v", "ON_ERROR_STOP=1"]
    subprocess.run([*psql, "-c", f"\\copy events to '{file}'"], check=True)
    subprocess.run([*psql, "-c", "CREATE TABLE copied (LIKE events INCLUDING ALL)", "-c", "CHECKPOINT"], check=True)
    began = time.perf_counter()
    subprocess.run([*psql, "-c", f"\\copy copied from '{file}'"], check=True)
    seconds = time.perf_counter() - began
    file.unlink()
    return seconds
