"""A stop while a driver hangs: it ends within its one deadline, by itself, with every account and the saved place.

Each driver that can hang, with its server stopped, silent, or its disk away. Beside it a sink that works: its account
and its place in the journal have to come out too. The programs run side by side, for each only waits.
"""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.config.distributions import install
from tests.integration.faults import hanging_syncs
from tests.integration.program import Program, Start, events
from tests.servers.postgres import PostgresServer

TIMEOUT = "1s"
EVENTS = 7


@dataclass(frozen=True)
class Case:
    """``sink`` hangs, or with it the journal where both are on what hangs."""

    sink: str
    environ: dict[str, str]
    durability: str = "disk"
    hangs_on_disk: bool = False


@pytest.fixture
def silent_address() -> Iterator[str]:
    """Where a server takes every connection, and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def saved_place(folder: Path) -> dict[str, int]:
    """How far each sink has come, as the journal's file says after the process has ended, in events."""
    with closing(sqlite3.connect(folder / "journal" / "log.db")) as connection:
        (state,) = connection.execute("SELECT state FROM snapshot").fetchone()
    return {name: progress["settled"] for name, progress in json.loads(state)["sinks"].items()}


def test_a_stop_ends_by_itself_whatever_driver_hangs(
    start: Start, tmp_path: Path, silent_address: str, own_postgres_server: PostgresServer
) -> None:
    database = {"DB_DSN": own_postgres_server.dsn(own_postgres_server.create_database())}
    s3 = {"ENDPOINT": f"http://{silent_address}", "REGION": "x", "ACCESS_KEY": "k", "SECRET_KEY": "s"}
    cases = {
        "http": Case("http", {"SINK_HTTP_URL": f"http://{silent_address}/"}),
        "kafka": Case("kafka", {"SINK_KAFKA_BROKERS": silent_address}),
        "parquet": Case(
            "parquet",
            {"SINK_PARQUET_URL": "s3://bucket", "SINK_PARQUET_FLUSH_INTERVAL": "100ms"}
            | {f"SINK_PARQUET_{name}": value for name, value in s3.items()},
        ),
        "postgres": Case("postgres", database),
        "journal-postgres": Case("http", {"SINK_HTTP_URL": f"http://{silent_address}/"} | database, "postgres"),
        "journal-disk": Case("http", {"SINK_HTTP_URL": f"http://{silent_address}/"}, hangs_on_disk=True),
        "sqlite-disk": Case("sqlite", {}, durability="memory", hangs_on_disk=True),
        "file-disk": Case("file", {}, durability="memory", hangs_on_disk=True),
    }
    programs = {
        name: start(
            SINKS=f"{case.sink},null",
            SHUTDOWN_TIMEOUT=TIMEOUT,
            DURABILITY=case.durability,
            HERMES_DATA_DIR=str(tmp_path / name),
            LOG_FORMAT="json",
            **case.environ,
        )
        for name, case in cases.items()
    }
    syncs: dict[str, ExitStack] = {}
    with ExitStack() as faults:
        for name, program in programs.items():
            assert httpx.post(f"{program.url}/events", json=events(EVENTS, "before")).status_code == 202, name
            program.wait_until(partial(has_delivered, program, "null"))
            if cases[name].hangs_on_disk:
                syncs[name] = faults.enter_context(ExitStack())
                syncs[name].enter_context(hanging_syncs(program.pid, tmp_path / name))
        programs["postgres"].wait_until(partial(has_delivered, programs["postgres"], "postgres"))
        own_postgres_server.pause()
        faults.callback(own_postgres_server.resume)
        for program in programs.values():
            with suppress(httpx.ReadTimeout):  # where the journal hangs, nobody says 202
                httpx.post(f"{program.url}/events", json=events(EVENTS, "after"), timeout=0.5)
        for program in programs.values():
            program.send_signal(signal.SIGTERM)
        for name, program in programs.items():
            if name in syncs:
                program.wait_until(partial(has_exited, program))
                syncs[name].close()  # for strace keeps what is left of a process whose call it delays
            assert program.wait() == 1, (name, program.log)
            assert "stuck after the deadline" not in program.log, (name, program.log)
            assert "Timeout (" not in program.log, (name, "the last resort ended it", program.log)
            accounts = program.accounts()
            assert accounts.keys() == {cases[name].sink, "null"}, (name, program.log)
            assert accounts["null"]["delivered"] == accounts["null"]["accepted"] >= EVENTS, (name, program.log)
            assert accounts[cases[name].sink]["undelivered"] > 0, (name, program.log)
    for name, case in cases.items():
        if case.durability == "disk" and not case.hangs_on_disk:
            assert saved_place(tmp_path / name)["null"] == programs[name].accounts()["null"]["delivered"], name


CRASHING = """
    from contextlib import asynccontextmanager
    import trio
    from hermes import SinkPlugin

    class Crashing:
        max_batch = 4
        concurrency = 1

        async def write(self, batch):
            await trio.sleep(0.5)
            raise RuntimeError("a bug of the sink")

    @asynccontextmanager
    async def open_crashing(settings, service):
        yield Crashing()

    crashing = SinkPlugin(open_crashing)
"""


def test_a_crash_while_a_disk_hangs_ends_within_the_same_time(start: Start, tmp_path: Path) -> None:
    plugins = install(tmp_path / "plugins", "crashing", {"crashing": "crashing:crashing"}, {"crashing": CRASHING})
    program = start(
        SINKS="crashing,sqlite",
        PYTHONPATH=str(plugins),
        SHUTDOWN_TIMEOUT=TIMEOUT,
        DURABILITY="memory",
        HERMES_DATA_DIR=str(tmp_path / "data"),
        LOG_FORMAT="json",
    )
    assert program.url
    with hanging_syncs(program.pid, tmp_path):
        assert httpx.post(f"{program.url}/events", json=events(EVENTS, "lost")).status_code == 202
        program.wait_until(partial(has_exited, program))
    assert program.wait() == 1, program.log
    assert program.log.count("RuntimeError: a bug of the sink") == 1, program.log
    assert {name: account["undelivered"] for name, account in program.accounts().items()} == {
        "crashing": EVENTS,
        "sqlite": EVENTS,
    }


def test_a_stop_ends_a_start_that_hangs(start: Start, own_postgres_server: PostgresServer) -> None:
    dsn = own_postgres_server.dsn(own_postgres_server.create_database())
    own_postgres_server.pause()
    try:
        program = start(DB_DSN=dsn, DURABILITY="postgres", LOG_FORMAT="json")
        program.wait_until(partial(obeys, program, signal.SIGTERM))
        assert program.stop() == 0, program.log
    finally:
        own_postgres_server.resume()
    assert [line["event"] for line in program.lines] == ["stopped before it was started"]


def obeys(program: Program, number: signal.Signals) -> bool:
    """Whether it has a handler for the signal, which would else end it."""
    status = Path(f"/proc/{program.pid}/status").read_text()
    (caught,) = (line.partition(":")[2] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) & 1 << number - 1)


def has_exited(program: Program) -> bool:
    """Whether its main thread has ended; only its parent does not know yet."""
    return "\nState:\tZ" in Path(f"/proc/{program.pid}/task/{program.pid}/status").read_text()


def has_delivered(program: Program, sink: str) -> bool:
    return {"sink": sink, "delivered": EVENTS}.items() <= next(
        account.items() for account in program.accounting()["sinks"] if account["sink"] == sink
    )
