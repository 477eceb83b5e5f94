"""How fast a start delivers what a crash left in the journal, and that it delivers each event once.

Events are taken while the database is away, Hermes is killed, and a new one starts when the database is there.
"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

from tests.perf import load, processes
from tests.perf.into_postgres import EVENTS, postgres_server, wait_for_rows
from tests.perf.rows import NO_TARGET, Row

_SETTINGS = {"SINKS": "postgres", "DURABILITY": "disk", "BACKPRESSURE_MODE": "block"}
_UNPACED = "1000000000"  # events/s: as fast as it goes, rather than a little faster than what arrives


def after_crash(folder: Path, *, rounds: int, rows: int) -> list[Row]:
    """Events a second from the start of the process to the last row, into Postgres, on all cores."""
    requests = rows // EVENTS
    rows = requests * EVENTS
    seconds = []
    with postgres_server() as server:
        for number in range(rounds):
            data = str(folder / f"crashed-{number}")
            _fill_and_kill(folder, data, requests)
            dsn = server.dsn(server.create_database())
            settings = {**_SETTINGS, "DB_DSN": dsn, "HERMES_DATA_DIR": data, "SINK_POSTGRES_CATCH_UP_FLOOR": _UNPACED}
            began = time.perf_counter()
            with processes.hermes(folder, None, settings=settings):
                wait_for_rows(dsn, rows)
                seconds.append(time.perf_counter() - began)
    rate = rows / median(seconds)
    return [
        Row(
            f"replay after kill -9: {rows:,} events in the journal, into Postgres",
            f"{rate:,.0f} events/s ({median(seconds):.1f} s, the start of the process included; each stored once)",
            NO_TARGET,
            None,
            {"events": rows, "seconds": seconds},
        )
    ]


def _fill_and_kill(folder: Path, data: str, requests: int) -> None:
    """Have so many requests answered as durable while there is no database, and then no Hermes."""
    nowhere = f"postgresql://127.0.0.1:{processes.free_port()}/nothing"
    settings = {**_SETTINGS, "DB_DSN": nowhere, "HERMES_DATA_DIR": data}
    with processes.hermes(folder, settings=settings) as hermes:
        summary = load.hermes_load(hermes, total=requests, events=EVENTS, connections=16, duration=300)
        hermes.process.kill()
    if summary["codes"] != {"202": requests}:
        raise RuntimeError(f"the journal was to take {requests} requests: {summary['codes']}")
