"""A Postgres whose table begins to refuse every row: the events wait, and follow when the table is mended."""

from __future__ import annotations

import httpx
import psycopg
import pytest

from tests.integration.program import Program, Start, events
from tests.integration.stores import postgres_events

TRIGGER = """
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'out of order'; END $$;
CREATE TRIGGER fails BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION fail()
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
