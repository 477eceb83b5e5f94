"""A sink that is dead changes nothing for its neighbour: two services in turns, one of them with a dead sink beside."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from statistics import median

from psycopg.conninfo import make_conninfo

from tests.integration.program import DRAIN_SECONDS, Program, assert_balanced
from tests.integration.stores import sqlite_count
from tests.servers.postgres import free_port

TURNS = 2  # each: one service, then twice the other, then the first again, so that no drift of the machine favours one
LEAST_SHARE = 0.6
"""Of the rate without the dead sink. The two come out alike; what is allowed for is a machine with other work to do."""


def delivered(program: Program) -> int:
    return int(program.accounting()["sinks"][0]["delivered"])


def rate(program: Program) -> float:
    """Events a second that the healthy sink has stored while as many were posted as were taken."""
    command = [sys.executable, "-m", "hermes", "load", "--url", f"{program.url}/events", "--json", "--quiet"]
    command += ["--duration", "500ms", "--events", "100", "--connections", "8"]
    before, began = delivered(program), time.monotonic()
    finished = subprocess.run(command, capture_output=True, timeout=30, check=True)
    rate = (delivered(program) - before) / (time.monotonic() - began)
    assert json.loads(finished.stdout)["codes"].keys() == {"202"}
    return rate


def caught_up(program: Program) -> bool:
    """Whether the healthy sink has everything: what it has not yet when a stop begins would stay in the journal."""
    books = program.accounting()
    return int(books["sinks"][0]["delivered"]) == int(books["accepted"])


def test_the_rate_of_a_sink_is_the_same_beside_a_dead_one(tmp_path: Path) -> None:
    dead = make_conninfo(host="127.0.0.1", port=free_port(), user="nobody", dbname="nowhere")
    common = {"SINK_SQLITE_REQUIRED": "true", "SINK_POSTGRES_TIMEOUT": "500ms"}
    folders = {"alone": tmp_path / "alone", "beside": tmp_path / "beside"}
    for folder in folders.values():
        folder.mkdir()
    alone = Program(folders["alone"], SINKS="sqlite", **common)
    beside = Program(folders["beside"], SINKS="sqlite,postgres", DB_DSN=dead, QUEUE_SIZE="20000", **common)
    try:
        rates: dict[Program, list[float]] = {alone: [], beside: []}
        for _ in range(TURNS):
            for program in (alone, beside, beside, alone):
                rates[program].append(rate(program))
        share = median(rates[beside]) / median(rates[alone])
        print(f"{median(rates[alone]):.0f} events/s alone, beside a dead sink {share:.2f} times that")
        assert share > LEAST_SHARE
        assert "postgres" in {line["sink"] for line in beside.lines if line["event"].startswith("behind")}
        for program, folder in ((alone, folders["alone"]), (beside, folders["beside"])):
            program.wait_until(partial(caught_up, program), DRAIN_SECONDS)
            assert program.stop() == 0, program.log
            accounts = program.accounts()
            for account in accounts.values():
                assert_balanced(account)
                assert (account["in_flight"], account["dropped"]) == (0, {})
            healthy = accounts["sqlite"]
            assert healthy["delivered"] == healthy["accepted"] == sqlite_count(folder / "hermes-data" / "events.db")
        assert beside.accounts()["postgres"]["spilled"] == beside.accounts()["postgres"]["accepted"]
    finally:
        alone.kill()
        beside.kill()
