"""What the stores hold, read from outside and all of it: the sinks' tables, the dead letters, the journal of a folder.

Used by the tests of durability, whose word on what the service has done is never the service's own.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import trio

from hermes.store.log import LogStatistics
from hermes.store.log.sqlite.log import open_sqlite_log
from tests.integration.owed import Sent
from tests.integration.program import Program, assert_balanced

_SELECT = "SELECT id, user_id, type, extract(epoch FROM ts)::bigint, payload::text FROM events"


def postgres_events(dsn: str) -> list[Sent]:
    """Every row of the postgres sink; none while there is no table."""
    return [Sent(*row) for row in _postgres_rows(dsn, _SELECT)]


def postgres_count(dsn: str) -> int:
    """How many rows the postgres sink has; 0 while there is no table."""
    return sum(int(count) for (count,) in _postgres_rows(dsn, "SELECT count(*) FROM events"))


def _postgres_rows(dsn: str, query: LiteralString) -> list[tuple[Any, ...]]:
    # A sink makes its table when it starts: a service that was killed before that has left none.
    with psycopg.connect(dsn) as connection:
        if connection.execute("SELECT to_regclass('events')").fetchone() == (None,):
            return []
        return connection.execute(query).fetchall()


def sqlite_events(path: Path) -> list[Sent]:
    """Every row of the sqlite sink; none while there is no file, or no table."""
    return [Sent(*row) for row in _sqlite_rows(path, "SELECT id, user_id, type, ts, payload FROM events")]


def sqlite_count(path: Path) -> int:
    """How many rows the sqlite sink has; 0 while there is no file, or no table."""
    return sum(int(count) for (count,) in _sqlite_rows(path, "SELECT count(*) FROM events"))


def _sqlite_rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    if not path.exists():
        return []
    with closing(sqlite3.connect(path)) as connection:
        if connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'events'").fetchone() == (0,):
            return []
        return connection.execute(query).fetchall()


def buried_events(folder: Path, sink: str) -> list[Sent]:
    """The dead letters of a sink, as they were sent; ``folder`` is HERMES_DATA_DIR."""
    with closing(sqlite3.connect(folder / "dead-letters.db")) as connection:
        found = connection.execute(
            "SELECT facts ->> 'id', facts ->> 'user_id', facts ->> 'type', facts ->> 'timestamp', CAST(body AS TEXT) "
            "FROM letters WHERE part = 'events' AND source = ?",
            [sink],
        )
        return [Sent(*row) for row in found]


def settle(program: Program, folder: Path) -> None:
    """Let the service deliver all it has, and stop it: every account is balanced and the journal is empty."""
    program.drain()
    assert program.stop() == 0, program.log
    for account in program.accounts().values():
        assert_balanced(account)
        assert (account["in_flight"], account["spilled"], account["dropped"]) == (0, 0, {}), account
    left = journal_statistics(folder)
    assert (left.first, left.bytes) == (left.next, 0)


def journal_statistics(folder: Path) -> LogStatistics:
    """What the journal of a stopped service holds; ``folder`` is HERMES_DATA_DIR."""

    async def look() -> LogStatistics:
        async with open_sqlite_log(folder / "journal") as log:
            return log.statistics()

    return trio.run(look)


def used(folder: Path) -> int:
    """Bytes of the disk that the files of a folder take."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
