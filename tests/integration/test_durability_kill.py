"""``kill -9``, again and again, under load and at the worst moments: what was answered 202 is stored, once, as it was.

Every event that was ever sent is compared with the whole table at the end. A failing run prints its seed: SEED=n runs
it again, as far as clients, processes and servers allow.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import trio

from tests.integration.crowd import Crowd
from tests.integration.owed import Owed
from tests.integration.program import Program, Start
from tests.integration.stores import buried_events, postgres_count, postgres_events, settle, sqlite_count, sqlite_events
from tests.servers.postgres import PostgresServer

ROUNDS = 6
KILLS = 4


async def kill(program: Program) -> None:
    program.send_signal(signal.SIGKILL)
    assert await trio.to_thread.run_sync(program.wait) == -signal.SIGKILL, program.log


async def listening(program: Program) -> str:
    return await trio.to_thread.run_sync(lambda: program.url)


@pytest.mark.timeout(180)
async def test_a_dozen_processes_killed_under_load_lose_nothing_and_store_nothing_twice(
    start: Start, tmp_path: Path, postgres_server: PostgresServer, random: Random
) -> None:
    async def kill_six(sinks: str, random: Random) -> None:
        dsn = postgres_server.dsn(postgres_server.create_database())
        folder = tmp_path / sinks
        owed = Owed(random, poisoned=0.002)
        crowd = Crowd(owed, again=0.7)
        environ = {"SINKS": sinks, "DB_DSN": dsn, "HERMES_DATA_DIR": str(folder)}
        for _ in range(ROUNDS):
            program = start(
                FLUSH_INTERVAL=random.choice(("1ms", "20ms", "200ms")),
                BATCH_SIZE=str(random.choice((1, 50, 1000))),
                QUEUE_SIZE=str(random.choice((400, 100_000))),
                WORKER_COUNT=str(random.choice((1, 8))),
                SINK_POSTGRES_CATCH_UP_ORDER=random.choice(("oldest", "interleaved")),
                **environ,
            )
            if random.random() < 0.15:  # while it starts, and may be delivering what the last one has left
                await trio.sleep(random.uniform(0.0, 0.6))
                await kill(program)
                continue
            crowd.sizes = random.choice(((1,), (1, 20), (20, 200)))
            crowd.acks = random.choice(((None,), (None, "accepted"), (None, "durable", "delivered")))
            crowd.pause = random.choice((0.0, 0.005))
            url = await listening(program)
            async with trio.open_nursery() as nursery:
                await nursery.start(crowd.post, url, random.choice((1, 5)))
                await trio.sleep(random.uniform(0.02, 0.6))
                await kill(program)
            stored = await trio.to_thread.run_sync(postgres_events, dsn)
            assert owed.delivered <= {event.id for event in stored}
        assert len(owed.ids) > 100
        assert crowd.codes.keys() <= {202, 422, 503, 504}

        await trio.to_thread.run_sync(settle, start(**environ), folder)
        stored = await trio.to_thread.run_sync(postgres_events, dsn)
        owed.check(stored, buried=buried_events(folder, "postgres"), parsed=True)
        if "sqlite" in sinks:
            owed.check(sqlite_events(folder / "events.db"))

    async with trio.open_nursery() as nursery:
        for sinks in ("postgres", "postgres,sqlite"):
            nursery.start_soon(kill_six, sinks, Random(random.random()))


@pytest.mark.timeout(120)
async def test_killed_between_the_rows_and_the_saved_progress_it_stores_again_and_each_event_is_there_once(
    start: Start, tmp_path: Path, postgres_dsn: str, random: Random
) -> None:
    async def kill_when_rows_appear(sink: str, count: Callable[[], int], random: Random) -> Owed:
        owed = Owed(random)
        crowd = Crowd(owed, sizes=(1, 50))
        folder = tmp_path / sink
        environ = {"SINKS": sink, "DB_DSN": postgres_dsn, "HERMES_DATA_DIR": str(folder)}
        again = 0
        program = start(**environ, FLUSH_INTERVAL="20ms")
        for _ in range(KILLS):
            url = await listening(program)
            before = count()
            async with trio.open_nursery() as nursery:
                await nursery.start(crowd.post, url, 3)
                while count() == before:
                    await trio.lowlevel.checkpoint()
                await kill(program)
            visible = count()
            program = start(**environ, FLUSH_INTERVAL="20ms")
            (account,) = (await trio.to_thread.run_sync(program.drain))["sinks"]
            assert account["delivered"] == account["replayed"]
            again += visible + account["delivered"] - count()
        assert again > 0, "no kill came between the rows and the progress: the test has lost its point"
        await trio.to_thread.run_sync(settle, program, folder)
        return owed

    async def with_postgres(random: Random) -> None:
        owed = await kill_when_rows_appear("postgres", lambda: postgres_count(postgres_dsn), random)
        owed.check(postgres_events(postgres_dsn), parsed=True)

    async def with_sqlite(random: Random) -> None:
        table = tmp_path / "sqlite" / "events.db"
        owed = await kill_when_rows_appear("sqlite", lambda: sqlite_count(table), random)
        owed.check(sqlite_events(table))

    async with trio.open_nursery() as nursery:
        for kill_with in (with_postgres, with_sqlite):
            nursery.start_soon(kill_with, Random(random.random()))
