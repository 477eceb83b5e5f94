"""A disk whose syncs fail: requests are refused, nothing that was acknowledged is lost, and service resumes by itself.

What is refused must not come back either, not even when the process dies right then: a failed commit is still in the
page cache, where the next start would find it.
"""

from __future__ import annotations

import signal
from collections import Counter
from operator import attrgetter
from pathlib import Path
from random import Random

import httpx
import pytest
import trio

from tests.integration.crowd import Crowd
from tests.integration.faults import failing_syncs
from tests.integration.owed import Owed
from tests.integration.program import Program, Start
from tests.integration.stores import postgres_events, settle, sqlite_events

FAILED_SECONDS = 0.7
PERIODS = 2


def ready(program: Program) -> int:
    return httpx.get(f"{program.url}/ready", timeout=10).status_code


@pytest.mark.parametrize("dies", [False, True], ids=["goes-on", "is-killed-meanwhile"])
@pytest.mark.parametrize("sink", ["postgres", "sqlite"])
async def test_failed_syncs_are_503_and_neither_lose_what_was_acknowledged_nor_keep_what_was_refused(
    start: Start, tmp_path: Path, request: pytest.FixtureRequest, random: Random, sink: str, dies: bool
) -> None:
    database = {"DB_DSN": request.getfixturevalue("postgres_dsn")} if sink == "postgres" else {}
    environ = {"SINKS": sink, **database}
    environ[f"SINK_{sink.upper()}_BREAKER_OPEN"] = "200ms"
    owed = Owed(random)
    crowd = Crowd(owed, sizes=(1, 20), pause=0.005, again=0.3)
    program = start(**environ)
    for _ in range(PERIODS):
        url = await trio.to_thread.run_sync(attrgetter("url"), program)
        async with trio.open_nursery() as nursery:
            await nursery.start(crowd.post, url, 4)
            await trio.sleep(0.3)
            with failing_syncs(program.pid, tmp_path):
                # What was on its way is answered: with four clients, these are at most the next four answers.
                await crowd.wait_refused(5)
                before = Counter(crowd.codes)
                await trio.sleep(FAILED_SECONDS)
                answered = crowd.codes - before
                assert answered.keys() == {503}, answered
                assert await trio.to_thread.run_sync(ready, program) == 503
                if dies:
                    program.send_signal(signal.SIGKILL)
            if dies:
                await trio.to_thread.run_sync(program.wait)
                program = start(**environ)
            else:
                await crowd.wait_taken(20)
                assert await trio.to_thread.run_sync(ready, program) == 200
            nursery.cancel_scope.cancel()
    await trio.to_thread.run_sync(settle, program, tmp_path / "hermes-data")
    stored = postgres_events(database["DB_DSN"]) if database else sqlite_events(tmp_path / "hermes-data" / "events.db")
    owed.check(stored, parsed=bool(database))
    assert "Traceback" not in program.log
