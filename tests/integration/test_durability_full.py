"""No room: on the disk, or within JOURNAL_MAX_BYTES. Requests are refused, and taken again once there is room."""

from __future__ import annotations

from pathlib import Path
from random import Random

import httpx
import trio

from tests.integration.crowd import Crowd
from tests.integration.faults import small_disk
from tests.integration.owed import Owed
from tests.integration.program import Start, assert_balanced
from tests.integration.stores import postgres_events, settle, sqlite_events, used
from tests.servers.postgres import PostgresServer

MEGABYTE = 2**20
DISK_MEGABYTES = 40
SPARE = 20 * MEGABYTE
"""What an empty journal may keep of the disk for what comes next: free pages, and its write-ahead file."""


async def test_on_a_full_disk_requests_are_503_until_the_sink_is_back_and_the_space_is_given_back(
    start: Start, mortal_postgres_server: PostgresServer, random: Random
) -> None:
    server = mortal_postgres_server
    dsn = server.dsn(server.create_database())
    owed = Owed(random)
    crowd = Crowd(owed, sizes=(20, 100), filling=4000, pause=0.005)
    with small_disk(DISK_MEGABYTES) as disk:
        program = start(
            DB_DSN=dsn,
            HERMES_DATA_DIR=str(disk / "data"),
            QUEUE_SIZE="1000",
            SINK_POSTGRES_TIMEOUT="1s",
            SINK_POSTGRES_BREAKER_OPEN="500ms",
        )
        url = await trio.to_thread.run_sync(lambda: program.url)
        async with trio.open_nursery() as nursery:
            await nursery.start(crowd.post, url, 4)
            await crowd.wait_taken(20)
            await trio.to_thread.run_sync(server.stop)
            await crowd.wait_refused(200)
            assert await trio.to_thread.run_sync(lambda: httpx.get(f"{url}/ready").status_code) == 503
            full = used(disk)
            assert full > DISK_MEGABYTES * MEGABYTE * 0.6
            await trio.to_thread.run_sync(program.accounting)
            await trio.to_thread.run_sync(server.start)
            await crowd.wait_taken(100)
            nursery.cancel_scope.cancel()
        assert crowd.codes.keys() == {202, 503}
        await trio.to_thread.run_sync(program.drain)
        await trio.to_thread.run_sync(program.wait_until, lambda: httpx.get(f"{url}/ready").status_code == 200)
        await trio.to_thread.run_sync(program.wait_until, lambda: used(disk) < min(full, SPARE))
        await trio.to_thread.run_sync(settle, program, disk / "data")
    owed.check(postgres_events(dsn), parsed=True)
    assert "Traceback" not in program.log


async def test_a_journal_that_is_full_refuses_until_the_sink_is_back(
    start: Start, tmp_path: Path, mortal_postgres_server: PostgresServer, random: Random
) -> None:
    server = mortal_postgres_server
    dsn = server.dsn(server.create_database())
    owed = Owed(random)
    crowd = Crowd(owed, sizes=(20, 100), filling=4000, pause=0.005)
    program = start(
        DB_DSN=dsn,
        JOURNAL_MAX_BYTES=str(8 * MEGABYTE),
        QUEUE_SIZE="1000",
        SINK_POSTGRES_TIMEOUT="1s",
        SINK_POSTGRES_BREAKER_OPEN="500ms",
    )
    url = await trio.to_thread.run_sync(lambda: program.url)
    async with trio.open_nursery() as nursery:
        await nursery.start(crowd.post, url, 4)
        await crowd.wait_taken(20)
        await trio.to_thread.run_sync(server.stop)
        await crowd.wait_refused(200)
        books = await trio.to_thread.run_sync(program.accounting)
        assert books["journal"]["bytes"] <= 8 * MEGABYTE
        assert books["journal"]["failing"] is None
        await trio.to_thread.run_sync(server.start)
        await crowd.wait_taken(100)
        nursery.cancel_scope.cancel()
    assert "the journal is full" in crowd.last_refusal
    assert crowd.codes.keys() == {202, 503}
    await trio.to_thread.run_sync(settle, program, tmp_path / "hermes-data")
    owed.check(postgres_events(dsn), parsed=True)


async def test_a_sink_that_is_not_required_loses_its_oldest_to_a_full_journal_and_nobody_is_refused(
    start: Start, tmp_path: Path, mortal_postgres_server: PostgresServer, random: Random
) -> None:
    server = mortal_postgres_server
    dsn = server.dsn(server.create_database())
    owed = Owed(random)
    crowd = Crowd(owed, sizes=(50,), filling=8000, pause=0.1)
    program = start(
        SINKS="sqlite,postgres",
        SINK_SQLITE_REQUIRED="true",
        DB_DSN=dsn,
        JOURNAL_MAX_BYTES=str(24 * MEGABYTE),
        QUEUE_BYTES=str(MEGABYTE),
        MAX_BODY_BYTES=str(MEGABYTE),
        SINK_POSTGRES_TIMEOUT="1s",
        SINK_POSTGRES_BREAKER_OPEN="500ms",
    )
    url = await trio.to_thread.run_sync(lambda: program.url)

    def journal_bytes() -> int:
        return int(program.accounting()["journal"]["bytes"])

    def dropped() -> int:
        _, postgres = program.accounting()["sinks"]
        return int(sum(postgres["dropped"].values()))

    async with trio.open_nursery() as nursery:
        await nursery.start(crowd.post, url, 2)
        await crowd.wait_taken(2)
        await trio.to_thread.run_sync(server.stop)
        await trio.to_thread.run_sync(program.wait_until, lambda: journal_bytes() > 18 * MEGABYTE)
        crowd.sizes, crowd.pause = (5,), 0.1  # room is made twice a second, a sixteenth of the backlog at a time
        await trio.to_thread.run_sync(program.wait_until, lambda: dropped() > 0)
        await trio.to_thread.run_sync(server.start)
        await crowd.wait_taken(20)
        nursery.cancel_scope.cancel()
    assert crowd.codes.keys() == {202}
    await trio.to_thread.run_sync(program.drain)
    assert program.stop() == 0
    accounts = program.accounts()
    for account in accounts.values():
        assert_balanced(account)
        assert (account["in_flight"], account["spilled"]) == (0, 0)
    owed.check(sqlite_events(tmp_path / "hermes-data" / "events.db"))
    assert accounts["sqlite"]["dropped"] == {}
    assert accounts["postgres"]["dropped"].keys() == {"journal_full"}
    stored = postgres_events(dsn)
    assert len(stored) == accounts["postgres"]["delivered"]
    owed.check(stored, parsed=True, partly=True)
