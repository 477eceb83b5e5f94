"""A Postgres that refuses every row, or ends each long statement: no event is lost, none is a dead letter for it."""

from __future__ import annotations

import httpx
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.integration.program import Program, Start, events
from tests.integration.stores import postgres_events

TRIGGER = """
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'out of order'; END $$;
CREATE TRIGGER fails BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION fail()
"""
SLOW = """
CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.005); RETURN NEW; END $$;
CREATE TRIGGER waits BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION wait()
"""
FAULTS = {
    "a failing trigger": (TRIGGER, "DROP TRIGGER fails ON events"),
    "a new column without a default": (
        "ALTER TABLE events ADD plan text; UPDATE events SET plan = ''; ALTER TABLE events ALTER plan SET NOT NULL",
        "ALTER TABLE events ALTER plan DROP NOT NULL",
    ),
}


def post(program: Program, count: int, prefix: str) -> None:
    assert httpx.post(f"{program.url}/events", json=events(count, prefix), timeout=20).status_code == 202


@pytest.mark.parametrize("fault", FAULTS)
def test_a_table_that_refuses_every_row_gets_them_when_it_is_mended(
    start: Start, postgres_dsn: str, fault: str
) -> None:
    spoil, mend = FAULTS[fault]
    program = start(DB_DSN=postgres_dsn, SINK_POSTGRES_BREAKER_OPEN="500ms")
    post(program, 10, "good")
    program.drain()
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(spoil)
        for n in range(5):
            post(program, 200, f"held-{n}")
        program.wait_for_log("the sink refuses everything: events are held")
        program.wait_for_log('"state": "open"')
        connection.execute(mend)
    program.wait_for_log("the sink takes events again")
    program.drain()
    stored = {event.id for event in postgres_events(postgres_dsn)}
    assert program.stop() == 0
    account = program.account()
    assert account["accepted"] == 1010 == account["delivered"] + account["dead_lettered"]
    assert len(stored) == account["delivered"]
    assert account["dead_lettered"] < 100


def test_a_write_that_the_server_ends_for_its_length_is_cut_until_it_fits(start: Start, postgres_dsn: str) -> None:
    dsn = make_conninfo(postgres_dsn, options="-c statement_timeout=300ms")
    program = start(
        DB_DSN=dsn, SINK_POSTGRES_CONCURRENCY="1", SINK_POSTGRES_BACKOFF="10ms", SINK_POSTGRES_BREAKER_FAILURES="100"
    )
    post(program, 1, "first")
    program.drain()
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(SLOW)
    post(program, 200, "slow")  # a second in one statement
    program.drain()
    assert len(postgres_events(postgres_dsn)) == 201
    cut = [line["events"] for line in program.lines if line["event"] == "write failed"]
    assert cut[0] == 200, program.log
    assert "statement timeout" in program.log
    assert program.stop() == 0
    assert program.account().items() >= {"delivered": 201, "dead_lettered": 0}.items()
