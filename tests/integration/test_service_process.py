"""The real program in a process of its own: what an operator and an orchestrator see of it.

Signals, exit codes, log lines, ports, data folders, sinks from other distributions, a Postgres that dies.
"""

from __future__ import annotations

import json
import re
import shlex
import signal
import socket
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import trio

from tests.config.distributions import install
from tests.integration.program import STOP_SECONDS, Load, Program, Start, events
from tests.servers.postgres import PostgresServer


def send(program: Program, found: list[dict[str, Any]]) -> httpx.Response:
    return httpx.post(f"{program.url}/events", json=found, timeout=10)


def metric(program: Program, sample: str) -> float:
    """The value of a sample, named as in the exposition."""
    text = httpx.get(f"{program.url}/metrics", timeout=10).text
    (line,) = [line for line in text.splitlines() if line.startswith(sample + " ")]
    return float(line.rpartition(" ")[2])


def sqlite_ids(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / "hermes-data" / "events.db")) as connection:
        return [row[0] for row in connection.execute("SELECT id FROM events")]


def postgres_ids(dsn: str) -> list[str]:
    with psycopg.connect(dsn) as connection:
        return [row[0] for row in connection.execute("SELECT id FROM events")]


# The first minute


def test_the_curl_line_it_prints_brings_a_row_into_the_sink(start: Start, tmp_path: Path) -> None:
    program = start(SINKS="sqlite", LOG_FORMAT="console")
    url = program.url
    program.wait_for_log("Try: ")
    (curl,) = re.findall(r"Try:  (curl .*)\n", program.log)
    command = shlex.split(curl)
    assert command[:3] == ["curl", "-i", f"{url}/events"]
    response = httpx.post(command[2], content=command[command.index("-d") + 1])
    assert (response.status_code, response.json()) == (202, {"accepted": 1})
    assert httpx.get(f"{url}/ready").status_code == 200
    assert program.stop() == 0
    assert sqlite_ids(tmp_path) == ["1"]


def test_without_a_terminal_every_line_of_the_log_is_json(start: Start) -> None:
    program = start(SINKS="sqlite")
    assert httpx.get(f"{program.url}/ready").status_code == 200
    assert program.stop() == 0
    assert len(program.lines) == len(program.log.splitlines())


def test_an_event_shows_in_the_sink_the_counts_and_the_metrics(start: Start, tmp_path: Path) -> None:
    program = start(SINKS="sqlite")
    assert send(program, events(3, "shown")).status_code == 202
    program.wait_until(lambda: metric(program, 'hermes_events_delivered_total{sink="sqlite"}') == 3)
    assert sorted(sqlite_ids(tmp_path)) == ["shown-0", "shown-1", "shown-2"]
    assert httpx.get(f"{program.url}/aggregates").json() == {"song_played:28333333": 3}
    assert metric(program, 'hermes_events_received_total{type="song_played"}') == 3
    assert metric(program, 'hermes_http_request_duration_seconds_count{code="202",route="/events"}') == 1
    assert program.stop() == 0


def test_a_second_start_on_the_same_folder_goes_on_and_stores_each_id_once(start: Start, tmp_path: Path) -> None:
    for run in (1, 2):
        program = start(SINKS="sqlite")
        assert send(program, events(3, "same") + events(1, f"run-{run}")).status_code == 202
        assert program.stop() == 0
    assert sorted(sqlite_ids(tmp_path)) == ["run-1-0", "run-2-0", "same-0", "same-1", "same-2"]


# What the operator did wrong


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"QUEUE_SIZE": "many"}, "QUEUE_SIZE='many': expected a whole number, at least 1"),
        ({"SINKS": "nowhere"}, "SINKS='nowhere': no such sink is installed; there are "),
        ({"SINKS": "postgres"}, "DB_DSN is empty"),
        ({"SINKS": "sqlite", "SINK_SQLITE_PATH": "/dev/null/x.db"}, "SINK_SQLITE_PATH='/dev/null/x.db': cannot be "),
        ({"TLS_CERT": "no.pem", "TLS_KEY": "no.key"}, "TLS_CERT='no.pem'"),
        ({"DB_DSN": "host=h password=hunter2 bogus"}, "DB_DSN=(hidden): expected "),
        ({"DB_DSN": "postgresql://me:hunter2@h/db?hunter3=1"}, "DB_DSN=(hidden): expected "),
    ],
    ids=lambda case: "+".join(case) if isinstance(case, dict) else "",
)
def test_a_bad_setting_is_exit_code_2_and_one_line(start: Start, environ: dict[str, str], words: str) -> None:
    program = start(**environ)
    assert program.wait() == 2
    assert program.log.startswith(f"hermes: {words}")
    assert program.log.count("\n") == 1
    assert "hunter" not in program.log


def test_a_port_in_use_is_exit_code_2_and_one_line(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        program = start(HTTP_ADDR=address, SINKS="null")
        assert program.wait() == 2
    assert program.log.startswith(f"hermes: HTTP_ADDR='{address}': ")
    assert program.log.count("\n") == 1


# Stopping


@pytest.mark.parametrize(
    ("sink", "durability", "number"),
    [
        ("sqlite", "disk", signal.SIGTERM),
        ("sqlite", "memory", signal.SIGINT),
        ("postgres", "disk", signal.SIGINT),
        ("postgres", "memory", signal.SIGTERM),
    ],
)
async def test_a_stop_under_load_leaves_every_202_in_the_sink(
    start: Start, tmp_path: Path, request: pytest.FixtureRequest, sink: str, durability: str, number: signal.Signals
) -> None:
    database = {"DB_DSN": request.getfixturevalue("postgres_dsn")} if sink == "postgres" else {}
    program = start(SINKS=sink, DURABILITY=durability, **database)
    load = Load(program.url)
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: load.run(clients=8, task_status=task_status))
        await trio.sleep(1)
        program.send_signal(number)
        with trio.fail_after(STOP_SECONDS):
            assert await trio.to_thread.run_sync(program.wait) == 0, program.log
    stored = postgres_ids(database["DB_DSN"]) if database else sqlite_ids(tmp_path)
    assert len(load.taken) > 200
    assert set(load.taken) <= set(stored)
    assert len(stored) == len(set(stored))
    account = program.account()
    assert account["accepted"] == account["delivered"] == len(stored)
    assert (account["in_flight"], account["undelivered"], account["dropped"]) == (0, 0, {})


STUCK = """
    from contextlib import asynccontextmanager
    import time
    import trio
    from hermes import SinkPlugin

    class Hanging:
        max_batch = 4
        concurrency = 1

        async def write(self, batch):
            await trio.sleep_forever()

    class Blocking(Hanging):
        async def write(self, batch):
            await trio.to_thread.run_sync(time.sleep, 60)

    class Buggy(Hanging):
        async def write(self, batch):
            await trio.sleep(0.5)
            raise RuntimeError("a bug of the sink")

    @asynccontextmanager
    async def open_hanging(settings, service):
        yield Hanging()

    @asynccontextmanager
    async def open_blocking(settings, service):
        yield Blocking()

    @asynccontextmanager
    async def open_buggy(settings, service):
        yield Buggy()

    buggy = SinkPlugin(open_buggy)
    hanging = SinkPlugin(open_hanging)
    blocking = SinkPlugin(open_blocking)
"""


@pytest.fixture
def stuck_sinks(tmp_path: Path) -> str:
    """A PYTHONPATH with the distribution of sinks that never end a write, or end it badly."""
    sinks = {name: f"stuck_sinks:{name}" for name in ("hanging", "blocking", "buggy")}
    return str(install(tmp_path / "plugins", "stuck-sinks", sinks, {"stuck_sinks": STUCK}))


@pytest.mark.parametrize(
    ("durability", "level", "outcomes"),
    [
        ("memory", "error", {"dropped": {"shutdown": 7}, "spilled": 0}),
        ("disk", "warning", {"dropped": {}, "spilled": 7}),
    ],
)
def test_a_sink_that_hangs_ends_at_the_deadline_with_the_undelivered_count(
    start: Start, stuck_sinks: str, durability: str, level: str, outcomes: dict[str, Any]
) -> None:
    program = start(SINKS="hanging", PYTHONPATH=stuck_sinks, SHUTDOWN_TIMEOUT="1s", DURABILITY=durability)
    assert send(program, events(7, "lost")).status_code == 202
    began = time.monotonic()
    assert program.stop() == 1
    assert 0.7 < time.monotonic() - began < 20
    account = program.account()
    assert (account["sink"], account["accepted"], account["undelivered"]) == ("hanging", 7, 7)
    assert account["level"] == level
    assert account.items() >= outcomes.items()
    assert (account["delivered"], account["in_flight"]) == (0, 0)
    assert "Traceback" not in program.log


def test_a_second_signal_stops_at_once_and_still_tells_what_was_not_delivered(start: Start, stuck_sinks: str) -> None:
    program = start(SINKS="hanging", PYTHONPATH=stuck_sinks, SHUTDOWN_TIMEOUT="60s")
    assert send(program, events(7, "lost")).status_code == 202
    program.send_signal(signal.SIGTERM)
    program.wait_for_log('"event": "stopping"')
    began = time.monotonic()
    program.send_signal(signal.SIGINT)
    assert program.wait() == 1
    assert time.monotonic() - began < 20
    assert program.account()["undelivered"] == 7
    assert [line["signal"] for line in program.lines if line["event"] == "stopping at once"] == ["SIGINT"]
    assert "Traceback" not in program.log


@pytest.mark.parametrize("sink", ["hanging", "buggy"])
async def test_an_end_at_once_while_requests_wait_for_room_is_clean_and_adds_up(
    start: Start, stuck_sinks: str, sink: str
) -> None:
    program = start(
        SINKS=sink,
        PYTHONPATH=stuck_sinks,
        DURABILITY="memory",
        BACKPRESSURE_MODE="block",
        QUEUE_SIZE="20",
        SHUTDOWN_TIMEOUT="60s",
    )
    load = Load(program.url)
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: load.run(clients=5, task_status=task_status))
        await trio.sleep(0.3)
        assert len(load.taken) == 20, "one request is in, four wait for room"
        if sink == "hanging":
            program.send_signal(signal.SIGTERM)
            program.send_signal(signal.SIGINT)
        with trio.fail_after(STOP_SECONDS):
            assert await trio.to_thread.run_sync(program.wait) == 1
    account = program.account()
    assert (account["accepted"], account["undelivered"], account["in_flight"]) == (20, 20, 0)
    assert len(load.taken) == 20
    # A bug of a sink is told with its traceback, and nothing else went wrong beside it.
    assert program.log.count("RuntimeError: a bug of the sink") == (sink == "buggy")
    assert "BrokenResourceError" not in program.log
    assert ("Traceback" in program.log) is (sink == "buggy")


def test_a_sink_that_blocks_a_thread_for_ever_cannot_keep_the_program(start: Start, stuck_sinks: str) -> None:
    program = start(SINKS="blocking", PYTHONPATH=stuck_sinks, SHUTDOWN_TIMEOUT="500ms")
    assert send(program, events(7, "lost")).status_code == 202
    program.wait_until(lambda: metric(program, "hermes_batch_size_count") == 1)  # four of seven are on the thread
    assert program.stop() == 1
    (stuck,) = [line for line in program.lines if line["event"] == "stuck after the deadline"]
    assert stuck["undelivered"] == {"blocking": 7}
    account = program.account()
    assert (account["accepted"], account["delivered"], account["undelivered"]) == (7, 0, 7)
    assert "Thread 0x" in program.log, "which call hangs"
    assert "Timeout (" not in program.log, "it does not take the last resort"


# Postgres


def test_the_same_ids_twice_are_stored_once_and_poison_is_buried_alone(start: Start, postgres_dsn: str) -> None:
    program = start(DB_DSN=postgres_dsn)
    poison = events(1, "poison", payload={"n": 0})
    body = json.dumps(events(5, "same") + poison + events(5, "same")).replace('{"n": 0}', '{"n": 1e200000}')
    for _ in range(2):
        response = httpx.post(f"{program.url}/events", content=body)
        assert response.status_code == 202
    program.wait_until(lambda: metric(program, 'hermes_events_dead_lettered_total{sink="postgres"}') == 2)
    assert program.stop() == 0
    assert sorted(postgres_ids(postgres_dsn)) == [f"same-{n}" for n in range(5)]
    account = program.account()
    assert (account["accepted"], account["delivered"], account["dead_lettered"]) == (22, 20, 2)
    (rejection,) = [line for line in program.lines if line["event"] == "events rejected"][:1]
    assert rejection["first"] == "poison-0"
    assert rejection["reason"]


async def test_postgres_dies_and_comes_back_under_load_and_what_memory_cannot_keep_is_counted(
    start: Start, mortal_postgres_server: PostgresServer
) -> None:
    server = mortal_postgres_server
    dsn = server.dsn(server.create_database())
    program = start(
        DB_DSN=dsn,
        DURABILITY="memory",
        SINK_POSTGRES_BREAKER_OPEN="300ms",
        SINK_POSTGRES_BACKOFF="10ms",
        SINK_POSTGRES_TIMEOUT="5s",
        QUEUE_SIZE="5000",
    )
    load = Load(program.url)

    def state() -> float:
        return metric(program, 'hermes_db_circuit_state{sink="postgres"}')

    def delivered() -> float:
        return metric(program, 'hermes_events_delivered_total{sink="postgres"}')

    async def until(reached: Callable[[], bool]) -> None:
        await trio.to_thread.run_sync(program.wait_until, reached)

    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: load.run(clients=4, pause=0.005, task_status=task_status))
        await until(lambda: delivered() > 200)
        await trio.to_thread.run_sync(server.kill)
        await until(lambda: state() == 2)
        taken_when_open = len(load.taken)
        await trio.to_thread.run_sync(server.start)
        await until(lambda: state() == 0)
        closed_at = delivered()
        await until(lambda: delivered() > closed_at + 200)
        assert len(load.taken) > taken_when_open
        program.send_signal(signal.SIGTERM)
        with trio.fail_after(STOP_SECONDS):
            assert await trio.to_thread.run_sync(program.wait) == 0, program.log
    assert load.codes <= {202, 503}
    account = program.account()
    stored = postgres_ids(dsn)
    dropped = sum(account["dropped"].values())
    assert dropped
    assert account["accepted"] == account["delivered"] + dropped
    # A row may have been committed just before the server's answer was lost, and its batch given up.
    assert account["delivered"] <= len(stored) <= account["accepted"]
    assert len(stored) == len(set(stored))
    changes = [line["state"] for line in program.lines if line["event"] == "breaker changed"]
    assert changes[0] == "open"
    assert changes[-1] == "closed"
    assert "Traceback" not in program.log


# Somebody else's sink


def test_a_sink_of_another_distribution_is_found_by_its_entry_point_and_used(start: Start, tmp_path: Path) -> None:
    source = """
        from contextlib import asynccontextmanager
        from pathlib import Path
        from typing import Annotated
        import msgspec
        from hermes import SinkPlugin
        from hermes.config import about

        class LinesSettings(msgspec.Struct, frozen=True):
            path: Annotated[Path, about("the file")]

        class Lines:
            max_batch = 100
            concurrency = 1

            def __init__(self, file):
                self.file = file

            async def write(self, batch):
                self.file.writelines(event.id + "\\n" for event in batch)

        @asynccontextmanager
        async def open_lines(settings, service):
            with settings.path.open("a") as file:
                yield Lines(file)

        plugin = SinkPlugin(open_lines, LinesSettings, summary="one id a line")
    """
    folder = install(tmp_path / "plugins", "their-dist", {"lines": "their_lines:plugin"}, {"their_lines": source})
    program = start(SINKS="lines", PYTHONPATH=str(folder))
    assert program.wait() == 2
    assert program.log == "hermes: SINK_LINES_PATH is not set: expected a path\n"
    program = start(SINKS="lines", PYTHONPATH=str(folder), SINK_LINES_PATH=str(tmp_path / "ids"))
    assert send(program, events(250, "theirs")).status_code == 202
    assert program.stop() == 0
    assert (tmp_path / "ids").read_text().split() == [f"theirs-{n}" for n in range(250)]
