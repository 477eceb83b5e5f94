"""The formula of ``docs/how-to/size.md`` holds while something fails: the real program, and what it has of the memory.

What each case sends is more than the formula allows, so a program that keeps what it refuses is found out.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.integration.faults import small_disk
from tests.integration.program import Start, events
from tests.integration.test_durability_outage import memory
from tests.servers.postgres import PostgresServer

MIB = 2**20
QUEUE_BYTES = 4 * MIB
LIMITS = {"QUEUE_BYTES": str(QUEUE_BYTES), "MAX_BODY_BYTES": str(QUEUE_BYTES)}
SIZE = Path(__file__).parents[2] / "docs" / "how-to" / "size.md"
BODY = "\n".join(json.dumps(event) for event in events(500, "e", payload={"filling": "x" * 2000}))
REQUESTS = 100

DATABASE_STOPPED, DISK_FULL, JOURNAL_FULL, SINK_AWAY = "database stopped", "disk full", "journal full", "sink away"


def allowed() -> int:
    """Bytes by the formula, for one sink and a connection; its first term is read from the document."""
    formula = re.search(r"^(\d+) MB  \+  QUEUE_BYTES  \+  sinks × QUEUE_BYTES", SIZE.read_text(), re.MULTILINE)
    assert formula, "the formula has changed: change this test with it"
    return int(formula[1]) * 10**6 + 3 * QUEUE_BYTES


@pytest.mark.parametrize("failure", [DATABASE_STOPPED, DISK_FULL, JOURNAL_FULL, SINK_AWAY])
def test_memory_stays_within_the_formula_while_requests_are_refused(
    failure: str, start: Start, tmp_path: Path, mortal_postgres_server: PostgresServer
) -> None:
    server = mortal_postgres_server
    with ExitStack() as stack:
        folder = tmp_path
        environ = {"SINKS": "null"}
        if failure == DATABASE_STOPPED:
            environ |= {"DURABILITY": "postgres", "DB_DSN": server.dsn(server.create_database())}
        elif failure == SINK_AWAY:
            dsn = server.dsn(server.create_database())
            environ = {"DURABILITY": "memory", "DB_DSN": dsn, "SINK_POSTGRES_BREAKER_FAILURES": "1000000"}
        elif failure == JOURNAL_FULL:
            environ = {"JOURNAL_MAX_BYTES": str(4 * MIB), "SINKS": "http", "SINK_HTTP_URL": "http://127.0.0.1:1/"}
        else:
            folder = stack.enter_context(small_disk(24))
        program = start(HERMES_DATA_DIR=str(folder / "data"), **LIMITS, **environ)
        url = f"{program.url}/events"
        if failure in (DATABASE_STOPPED, SINK_AWAY):
            server.stop()
        elif failure == DISK_FULL:
            fill(folder / "filling")
        assert REQUESTS * len(BODY) > allowed()
        codes: Counter[int] = Counter()
        most = 0
        with httpx.Client(headers={"Content-Type": "application/x-ndjson"}, timeout=20) as client:
            for number in range(REQUESTS):
                codes[client.post(url, content=BODY).status_code] += 1
                if number % 10 == 0:
                    most = max(most, memory(program))
        taken = codes.pop(202, 0)
        assert failure == SINK_AWAY or (taken < 5 and codes.keys() == {503}), codes
        assert most < allowed(), f"{most} bytes, and the formula says {allowed()}"


def fill(path: Path) -> None:
    """Write to the disk until it is full."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(65536))
        except OSError:
            pass
