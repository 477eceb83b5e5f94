"""A sink that is down for good: a stop does not wait for it, the next start delivers, and clients who ask are told."""

from __future__ import annotations

import json
import time
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from psycopg.conninfo import make_conninfo

from tests.integration.owed import Owed, Request
from tests.integration.program import Program, Start, assert_balanced, events
from tests.integration.stores import journal_statistics, postgres_events, settle, sqlite_events
from tests.servers.postgres import free_port

DEAD = make_conninfo(host="127.0.0.1", port=free_port(), user="nobody", dbname="nowhere")
"""Nobody listens there."""


def send(program: Program, request: Request) -> httpx.Response:
    headers = {"Content-Type": "application/x-ndjson"} | ({"Hermes-Ack": request.ack} if request.ack else {})
    response = httpx.post(f"{program.url}/events", content=request.body, headers=headers, timeout=20)
    request.note(response.status_code, response.json())
    return response


@pytest.mark.parametrize("required", ["true", "false"])
def test_a_stop_with_a_dead_sink_is_quick_and_clean_and_the_next_start_delivers(
    start: Start, tmp_path: Path, postgres_dsn: str, random: Random, required: str
) -> None:
    owed = Owed(random)
    environ = {"SINKS": "sqlite,postgres", "SINK_POSTGRES_REQUIRED": required}
    program = start(DB_DSN=DEAD, QUEUE_SIZE="100", SINK_POSTGRES_TIMEOUT="500ms", **environ)
    for _ in range(20):
        assert send(program, owed.request(20)).status_code == 202
    began = time.monotonic()
    assert program.stop() == 0, program.log
    assert time.monotonic() - began < 20, "before SHUTDOWN_TIMEOUT"
    accounts = program.accounts()
    for account in accounts.values():
        assert_balanced(account)
        assert (account["accepted"], account["dropped"], account["in_flight"]) == (400, {}, 0)
    assert (accounts["sqlite"]["delivered"], accounts["sqlite"]["spilled"]) == (400, 0)
    assert (accounts["postgres"]["delivered"], accounts["postgres"]["spilled"]) == (0, 400)
    assert accounts["postgres"]["level"] == "warning"
    assert journal_statistics(tmp_path / "hermes-data").bytes > 0

    program = start(DB_DSN=postgres_dsn, **environ)
    assert send(program, owed.request(20)).status_code == 202
    books = program.drain()
    assert {account["sink"]: (account["replayed"], account["delivered"]) for account in books["sinks"]} == {
        "sqlite": (0, 20),
        "postgres": (400, 420),
    }
    settle(program, tmp_path / "hermes-data")
    owed.check(postgres_events(postgres_dsn), parsed=True)
    owed.check(sqlite_events(tmp_path / "hermes-data" / "events.db"))


def test_who_asks_for_delivery_to_a_dead_sink_is_told_what_is_known_in_time(
    start: Start, tmp_path: Path, postgres_dsn: str, random: Random
) -> None:
    owed = Owed(random)
    environ = {"SINKS": "sqlite,postgres", "SINK_SQLITE_REQUIRED": "true", "SINK_POSTGRES_REQUIRED": "true"}
    program = start(DB_DSN=DEAD, SINK_POSTGRES_TIMEOUT="500ms", ACK_TIMEOUT="700ms", **environ)
    request = owed.request(5, ack="delivered")
    began = time.monotonic()
    response = send(program, request)
    assert response.status_code == 504
    assert 0.6 < time.monotonic() - began < 15
    told = response.json()
    assert (told["accepted"], told["durable"]) == (5, True)
    assert told["sinks"] == {
        "sqlite": {"delivered": 5, "dead_lettered": 0, "dropped": 0},
        "postgres": {"delivered": 0, "dead_lettered": 0, "dropped": 0},
    }
    assert program.stop() == 0
    program = start(DB_DSN=postgres_dsn, **environ)
    assert send(program, owed.request(5, ack="delivered")).status_code == 202
    settle(program, tmp_path / "hermes-data")
    owed.check(postgres_events(postgres_dsn), parsed=True)


def test_who_asks_for_delivery_of_a_poison_event_is_told_that_it_is_a_dead_letter(
    start: Start, postgres_dsn: str
) -> None:
    program = start(DB_DSN=postgres_dsn)
    body = json.dumps([*events(3, "good"), *events(1, "poison", payload={"n": 0})]).replace('"n": 0', '"n": 1e200000')
    response = httpx.post(f"{program.url}/events", content=body, headers={"Hermes-Ack": "delivered"}, timeout=20)
    assert response.status_code == 422
    told: dict[str, Any] = response.json()
    assert (told["accepted"], told["durable"]) == (4, True)
    assert told["sinks"] == {"postgres": {"delivered": 3, "dead_lettered": 1, "dropped": 0}}
    program.drain()
    assert program.stop() == 0
    account = program.account()
    assert (account["delivered"], account["dead_lettered"], account["in_flight"]) == (3, 1, 0)
    assert sorted(event.id for event in postgres_events(postgres_dsn)) == ["good-0", "good-1", "good-2"]
