"""The database is gone for a while and the service is not: an outage costs disk, not events, and no client waits."""

from __future__ import annotations

from pathlib import Path
from random import Random

import trio

from tests.integration.crowd import Crowd
from tests.integration.owed import Owed
from tests.integration.program import Program, Start
from tests.integration.stores import postgres_events, settle
from tests.servers.postgres import PostgresServer

MEGABYTE = 2**20
OUTAGE_BYTES = 16 * MEGABYTE


def memory(program: Program) -> int:
    """Resident bytes that belong to it alone."""
    (line,) = [
        line for line in Path(f"/proc/{program.pid}/status").read_text().splitlines() if line.startswith("RssAnon:")
    ]
    return int(line.split()[1]) * 1024


async def test_postgres_stops_under_load_and_every_request_is_taken_all_the_while(
    start: Start, tmp_path: Path, mortal_postgres_server: PostgresServer, random: Random
) -> None:
    server = mortal_postgres_server
    dsn = server.dsn(server.create_database())
    program = start(
        DB_DSN=dsn,
        SINK_POSTGRES_BREAKER_OPEN="1s",
        SINK_POSTGRES_TIMEOUT="1s",
        QUEUE_SIZE="1000",
        QUEUE_BYTES=str(4 * MEGABYTE),
        MAX_BODY_BYTES=str(4 * MEGABYTE),
    )
    owed = Owed(random)
    crowd = Crowd(owed, sizes=(5, 100), filling=1000, pause=0.02)
    url = await trio.to_thread.run_sync(lambda: program.url)

    def journal_bytes() -> int:
        return int(program.accounting()["journal"]["bytes"])

    async with trio.open_nursery() as nursery:
        await nursery.start(crowd.post, url, 4)
        await trio.sleep(0.5)
        await trio.to_thread.run_sync(lambda: server.stop(immediate=True))
        await trio.to_thread.run_sync(program.wait_for_log, '"state": "open"')
        await trio.to_thread.run_sync(program.wait_for_log, "behind: the backlog stays on disk")
        began, taken, kept = memory(program), crowd.codes[202], journal_bytes()
        await trio.to_thread.run_sync(program.wait_until, lambda: journal_bytes() > kept + OUTAGE_BYTES)
        assert crowd.codes[202] > taken + 100
        grown = memory(program) - began
        assert grown < OUTAGE_BYTES / 2, f"{grown} bytes more in memory"
        await trio.to_thread.run_sync(server.start)
        await trio.to_thread.run_sync(program.wait_for_log, '"state": "closed"')
        nursery.cancel_scope.cancel()
    assert crowd.codes.keys() == {202}
    assert crowd.longest < 5
    await trio.to_thread.run_sync(settle, program, tmp_path / "hermes-data")
    owed.check(postgres_events(dsn), parsed=True)
    changes = [line["state"] for line in program.lines if line["event"] == "breaker changed"]
    assert (changes[0], changes[-1]) == ("open", "closed")
