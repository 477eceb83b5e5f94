"""NDJSON of 500 events a POST into Postgres, by each promise and kind of id, beside ``psql \\copy``: one set-up.

Everything that is compared here runs in turns, into the same server, with the same number of rows of one shape and the
same generator. The load, Hermes and Postgres share the machine's cores. Where CPU time is given it is Hermes's: what
noise changes least.
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
from psycopg import sql

from tests.perf import load, processes
from tests.perf.processes import Server
from tests.perf.rows import Row
from tests.servers.postgres import PostgresServer

EVENTS = 500  # a POST
RANDOM = 0.8  # of the rows/s with ids that ascend
_HEADLINE = 166_667  # rows a second: 10 million a minute
_LEAST_OF_COPY = 0.6
_LEAST_OF_MEMORY = 0.8

_MODES = {  # DURABILITY, and whether ids are random
    "memory": ("memory", False),
    "durable": ("disk", False),
    "durable, random ids": ("disk", True),
}
_COPY = "copy"


def measure(folder: Path, *, rounds: int, rows: int) -> list[Row]:
    """Rows stored a second in each mode, and by ``psql \\copy`` of the rows that the durable one has stored."""
    requests = rows // EVENTS
    rows = requests * EVENTS
    runs: dict[str, list[Stored]] = {mode: [] for mode in _MODES}
    copies: list[float] = []
    with postgres_server() as server:
        for _ in range(rounds):
            for mode, (durability, random_ids) in _MODES.items():
                stored = store(folder, server, requests, durability, random_ids=random_ids)
                runs[mode].append(stored)
                if mode == "durable":
                    copies.append(_copy(folder, server, stored.database))
                with psycopg.connect(server.dsn(), autocommit=True) as connection:
                    connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(stored.database)))
                    connection.execute("CHECKPOINT")  # the next one's rows are not written together with these
    return _compare(runs, copies, rows)


def _compare(runs: dict[str, list[Stored]], copies: list[float], rows: int) -> list[Row]:
    rate = {mode: median(rows / stored.seconds for stored in found) for mode, found in runs.items()}
    acked = {mode: median(rows / stored.acknowledged for stored in found) for mode, found in runs.items()}
    cpu = {mode: median(stored.cpu_seconds / rows * 1e6 for stored in found) for mode, found in runs.items()}
    copied = median(rows / seconds for seconds in copies)
    detail = {
        mode: [
            {"rows_per_second": rows / each.seconds, "answered_per_second": rows / each.acknowledged}
            | {"cpu_us_per_event": each.cpu_seconds / rows * 1e6}
            for each in found
        ]
        for mode, found in runs.items()
    } | {_COPY: [{"rows_per_second": rows / seconds} for seconds in copies]}
    durable, random = rate["durable"], rate["durable, random ids"]
    answered = acked["durable"] / acked["memory"]
    return [
        Row(
            "the headline: events a minute from HTTP, 500 a POST, into PostgreSQL, each on disk before its 202",
            f"{durable * 60 / 1e6:.1f} million a minute ({durable:,.0f} rows/s, unique ids that ascend, primary key)",
            "10 million a minute",
            durable / _HEADLINE,
            detail,
            compared=True,
        ),
        Row(
            "the same with random ids (UUID v4)",
            f"{random / durable:.2f} × of ascending ({random:,.0f} rows/s, {random * 60 / 1e6:.1f} million a minute)",
            f"≥ {RANDOM} × of ascending, aim: 10 million a minute",
            random / durable / RANDOM,
        ),
        Row(
            "the same, ids that ascend, against one psql \\copy of the same rows",
            f"{durable / copied:.2f} × of the copy, which did {copied:,.0f} rows/s",
            f"≥ {_LEAST_OF_COPY} × of the copy",
            durable / copied / _LEAST_OF_COPY,
            compared=True,
        ),
        Row(
            "the same, durable against memory",
            f"{durable / rate['memory']:.2f} × (memory: {rate['memory']:,.0f} rows/s; answered {answered:.2f} ×; "
            f"{cpu['durable']:.2f} to {cpu['memory']:.2f} µs CPU an event)",
            f"≥ {_LEAST_OF_MEMORY} × memory",
            durable / rate["memory"] / _LEAST_OF_MEMORY,
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
