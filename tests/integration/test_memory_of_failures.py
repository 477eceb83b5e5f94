"""The formula of ``docs/how-to/size.md`` holds while something fails: the real program, and what it has of the memory.

What each case sends is more than the formula allows, so a program that keeps what it refuses is found out.
`FAILURES` names each failure of ``docs/how-to/recover.md``, and what of it is measured.
"""

from __future__ import annotations

import json
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.integration.faults import failing_syncs, small_disk
from tests.integration.moody import Mood
from tests.integration.program import Program, Start, events
from tests.integration.size import PAGE, figures
from tests.integration.test_durability_outage import memory
from tests.servers.postgres import PostgresServer

MIB = 2**20
QUEUE_BYTES = 4 * MIB
LIMITS = {"QUEUE_BYTES": str(QUEUE_BYTES), "MAX_BODY_BYTES": str(QUEUE_BYTES)}
BODY = "\n".join(json.dumps(event) for event in events(500, "e", payload={"filling": "x" * 2000}))
SMALL, QUEUE_SIZE, MAX_CONNECTIONS = 2 * MIB, 4000, 100  # where one failure follows the other
REQUESTS = 100
SENT = 30  # requests of each failure then: kept bodies would be far above the bound

RECOVER = PAGE.with_name("recover.md")

FAILURES = {
    "a sink is down": ["sink away", "sink down"],
    "a sink is slow": ["sink stalled", "ack timeout"],
    "a sink refuses events": ["some events refused"],
    "a sink refuses everything": ["all events refused"],
    "the journal is full": ["journal full"],
    "the disk is full": ["disk full", "database stopped", "disk fails"],
    "the journal is damaged": [],  # it ends the service, or its start
    "a file was deleted or renamed": ["journal renamed"],
    "the process is killed": ["killed"],
    "the machine is lost": [],  # nothing is left to have memory
    "it does not start": [],
    "clients are refused": ["clients refused"],  # and test_refused_is_freed, test_memory_bound
    "it runs out of memory": [],  # see test_memory_bound
    "a stop takes long, or ends with 1": ["stop"],
    "the clock jumps": [],
}

DATABASE_STOPPED, DISK_FULL, JOURNAL_FULL, SINK_AWAY = "database stopped", "disk full", "journal full", "sink away"


def allowed() -> int:
    """Bytes by the formula, for one sink and a connection whose requests are refused before they are held."""
    return figures().empty + 3 * QUEUE_BYTES


def allowed_at_most() -> int:
    """Bytes by the formula, all of it, for one sink and the smaller queue."""
    each = figures()
    held = QUEUE_SIZE * each.event + MAX_CONNECTIONS * each.connection
    return each.empty + 2 * SMALL + held + 12 * SMALL + 8 * MIB


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


def test_each_failure_of_the_documents_is_in_the_table() -> None:
    rows = re.findall(r"^\| \[(.+?)\]\(#", RECOVER.read_text(), re.MULTILINE)
    assert rows == list(FAILURES)


@dataclass
class Trial:
    """A program that fails in one way after the other; ``most`` is the most memory that it has had in each."""

    program: Program
    client: httpx.Client
    most: dict[str, int] = field(default_factory=dict)

    def post(self, failure: str, status: int, body: str = BODY, **headers: str) -> None:
        """Send requests that the failure meets, the last of which has this status, and look how memory grows."""
        began = most = memory(self.program)
        for _ in range(SENT):
            answer = self.client.post(f"{self.program.url}/events", content=body, headers=headers)
            most = max(most, memory(self.program))
        attempts = 100 if status == 504 else 0
        while answer.status_code == 503 and attempts:
            # On a busy disk the commits of the requests before take longer than ACK_TIMEOUT, and hold room until then.
            attempts -= 1
            time.sleep(0.05)
            answer = self.client.post(f"{self.program.url}/events", content=body, headers=headers)
        assert answer.status_code == status, (failure, answer.text)
        if self.most:  # before the first there was an empty program
            assert most - began < SENT * len(body) / 2 + 2 * SMALL, (failure, most - began)
        self.most[failure] = most

    def watch(self, failure: str, until: Callable[[], bool]) -> None:
        most = [0]

        def reached() -> bool:
            most[0] = max(most[0], memory(self.program))
            return until()

        self.program.wait_until(reached)
        self.most[failure] = most[0]


def refused(every: int) -> str:
    return "\n".join(
        json.dumps(event | {"payload": event["payload"] | ({"refuse": "the test says so"} if n % every == 0 else {})})
        for n, event in enumerate(events(500, "r", payload={"filling": "x" * 2000}))
    )


def test_memory_stays_within_the_formula_in_one_failure_after_the_other(start: Start, tmp_path: Path) -> None:
    mood = Mood(tmp_path)
    environ = mood.environ | {
        "QUEUE_BYTES": str(SMALL),
        "MAX_BODY_BYTES": str(SMALL),
        "HERMES_DATA_DIR": str(tmp_path / "data"),
        "QUEUE_SIZE": str(QUEUE_SIZE),
        "MAX_CONNECTIONS": str(MAX_CONNECTIONS),
        "ACK_TIMEOUT": "20ms",
        "DEAD_LETTERS": "1000",
        "SHUTDOWN_TIMEOUT": "2s",
        "SINK_MOODY_BREAKER_OPEN": "100ms",
        "SINK_MOODY_BACKOFF": "10ms",
        "TRACES_ENDPOINT": "http://127.0.0.1:1",  # away all the time
    }
    program = start(**environ)
    database = tmp_path / "data" / "journal" / "log.db"
    with httpx.Client(headers={"Content-Type": "application/x-ndjson"}, timeout=20) as client:
        trial = Trial(program, client)
        mood.stall()
        trial.post("sink stalled", 202)
        trial.post("ack timeout", 504, **{"Hermes-Ack": "delivered"})
        mood.reset()
        mood.go_down("the test says so")
        trial.post("sink down", 202)
        mood.reset()
        trial.watch("caught up", lambda: '"caught up"' in program.log)
        trial.post("some events refused", 202, refused(2))
        trial.post("all events refused", 202, refused(1))
        trial.post("clients refused", 400, BODY.replace('{"id"', '{"no"'))
        with failing_syncs(program.pid, tmp_path):
            trial.post("disk fails", 503)
        database.rename(database.with_name("aside"))
        trial.post("journal renamed", 503)
        database.with_name("aside").rename(database)
        mood.stall()
        program.kill()
        trial.program = program = start(**environ)
        trial.watch("killed", lambda: '"the journal has a backlog from before"' in program.log)
        mood.reset()
        mood.mend()
        trial.watch("killed", lambda: '"caught up"' in program.log)
        mood.stall()
        trial.post("stop", 202)
        program.send_signal(signal.SIGTERM)
        with suppress(FileNotFoundError, ValueError):  # it has ended, and has no memory any more
            while program.runs:
                trial.most["stop"] = max(trial.most["stop"], memory(program))
                time.sleep(0.02)
    assert {name: most for name, most in trial.most.items() if most > allowed_at_most()} == {}, trial.most


def fill(path: Path) -> None:
    """Write to the disk until it is full."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(65536))
        except OSError:
            pass
