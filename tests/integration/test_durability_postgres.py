"""DURABILITY=postgres: what a process leaves when it dies, another takes over; without the server, requests are 503."""

from __future__ import annotations

import signal
from operator import attrgetter
from random import Random

import psycopg
import pytest
import trio

from tests.integration.crowd import Crowd
from tests.integration.owed import Owed
from tests.integration.program import Program, Start, assert_balanced
from tests.integration.stores import postgres_events
from tests.servers.postgres import PostgresServer

ROUNDS = 4


def settle(program: Program) -> None:
    """Let the service deliver all it has, and stop it."""
    program.drain()
    assert program.stop() == 0, program.log
    for account in program.accounts().values():
        assert_balanced(account)
        assert (account["in_flight"], account["spilled"], account["dropped"]) == (0, 0, {}), account


def left_in_journals(dsn: str) -> int:
    """Records that any journal of the database holds."""
    with psycopg.connect(dsn) as connection:
        (count,) = connection.execute("SELECT coalesce(sum(count), 0) FROM hermes_log").fetchone() or (0,)
        return int(count)


@pytest.mark.timeout(120)
async def test_instances_that_are_killed_leave_their_journals_to_those_that_come_after_them(
    start: Start, postgres_dsn: str, random: Random
) -> None:
    owed = Owed(random)
    crowd = Crowd(owed, again=0.7)
    environ = {"DURABILITY": "postgres", "DB_DSN": postgres_dsn}

    async def post_until_killed() -> None:
        program = start(QUEUE_SIZE=str(random.choice((400, 100_000))), **environ)
        url = await trio.to_thread.run_sync(lambda: program.url)
        async with trio.open_nursery() as nursery:
            await nursery.start(crowd.post, url, 3)
            await trio.sleep(random.uniform(0.02, 0.6))
            program.send_signal(signal.SIGKILL)
            await trio.to_thread.run_sync(program.wait)

    for _ in range(ROUNDS):
        crowd.sizes = random.choice(((1,), (1, 20), (20, 200)))
        crowd.acks = random.choice(((None,), (None, "accepted"), (None, "durable", "delivered")))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(post_until_killed)
            nursery.start_soon(post_until_killed)
    assert len(owed.ids) > 300

    # One at a time, each takes the journal that the last one but one has left.
    programs = [start(**environ) for _ in range(2)]
    for program in programs:
        await trio.to_thread.run_sync(attrgetter("url"), program)
    for program in programs:
        await trio.to_thread.run_sync(settle, program)
    assert left_in_journals(postgres_dsn) == 0
    owed.check(postgres_events(postgres_dsn), parsed=True)


async def test_while_postgres_is_down_requests_are_refused_and_nothing_is_lost(
    start: Start, mortal_postgres_server: PostgresServer, random: Random
) -> None:
    server = mortal_postgres_server
    dsn = server.dsn(server.create_database())
    program = start(DURABILITY="postgres", DB_DSN=dsn, SINK_POSTGRES_BREAKER_OPEN="500ms")
    owed = Owed(random)
    crowd = Crowd(owed, sizes=(1, 20), pause=0.01, again=0.5)
    url = await trio.to_thread.run_sync(lambda: program.url)
    async with trio.open_nursery() as nursery:
        await nursery.start(crowd.post, url, 4)
        await crowd.wait_taken(50)
        await trio.to_thread.run_sync(lambda: server.stop(immediate=True))
        await crowd.wait_refused(10)
        await trio.to_thread.run_sync(server.start)
        await crowd.wait_taken(50)
        nursery.cancel_scope.cancel()
    assert crowd.codes.keys() == {202, 503}
    await trio.to_thread.run_sync(settle, program)
    assert left_in_journals(dsn) == 0
    owed.check(postgres_events(dsn), parsed=True)
    assert "Traceback" not in program.log
