"""Opens a log in Postgres: one by its name, or the next journal without an owner.

Invariant: one instance at a time owns each claimed log; when an instance has died, the next instance that opens a
journal becomes the owner of its log.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import chain, count

import structlog

from hermes.base.cleanup import clean_up
from hermes.base.errors import LogDamaged, LogUnavailable, StaleWriter
from hermes.store.log.contract import Snapshot
from hermes.store.log.postgres.log import PostgresLog, snapshot_checksum
from hermes.store.log.postgres.pooler import refuse_pooler_of_transactions
from hermes.store.log.postgres.session import Session
from hermes.store.log.postgres.tables import HAS_RECORDS, prepare_tables
from hermes.store.log.postgres.writer import Standing, Writer, read_standing, try_lock
from hermes.store.postgres import Connection

OPEN_TIMEOUT = 20.0
"""Seconds for making the tables, finding a journal and reading where it stands, once a connection is made."""

CLOSE_TIMEOUT = 2.0
"""Seconds at the close for deleting rows that failed appends may have left."""

# The count of the openings is the fence of claimed logs, and says who opened a log last: `writer` compares it.
_OPEN = """
INSERT INTO hermes_log_state (log, openings) VALUES (%s, 1)
ON CONFLICT (log) DO UPDATE SET openings = hermes_log_state.openings + 1
RETURNING snapshot_index, snapshot_checksum, snapshot
"""
_NAMES = f"""
SELECT log, openings, {HAS_RECORDS} FROM hermes_log_state AS state WHERE starts_with(log, %s)
"""  # noqa: S608 - our own text

_log = structlog.get_logger("hermes.log")


@asynccontextmanager
async def open_postgres_log(dsn: str, name: str) -> AsyncIterator[PostgresLog]:
    """Open the log called ``name`` in the database ``dsn`` while the block runs; make the log if it is missing.

    Several instances may open one log; as soon as one of them appends, the others can only read.
    Raises `hermes.ConfigError` for a ``dsn`` that is invalid or leads to a pooler of transactions,
    `hermes.LogUnavailable`, and `hermes.LogDamaged` for a damaged snapshot. ::

        async with open_postgres_log("postgresql://hermes@db/hermes", "events") as log:
            index = await log.append([b"one", b"two"])
    """

    async def choose(_connection: Connection) -> str:
        return name

    async with _open(dsn, choose, claimed=False) as log:
        yield log


@asynccontextmanager
async def open_claimed_postgres_log(dsn: str, prefix: str = "events") -> AsyncIterator[PostgresLog]:
    """Open one of the logs ``<prefix>-0``, ``<prefix>-1``, … that no living instance has open.

    The choice: first the logs that keep records, among them the log that was opened least often; then the log with the
    lowest number; if every log has an owner, a new log with the next number. This instance owns the log until it closes
    the log, or loses its session at the server and another instance takes the log first; then every method but `read`
    raises `hermes.StaleWriter`. Raises like `open_postgres_log`. ::

        async with open_claimed_postgres_log(dsn, "events") as log:
            assert log.name.startswith("events-")
    """

    async def choose(connection: Connection) -> str:
        numbered = re.compile(re.escape(prefix) + "-(0|[1-9][0-9]*)")
        rows = await (await connection.execute(_NAMES, [prefix + "-"])).fetchall()
        # The prefix also fits logs that were opened by a name like it.
        known = {int(found[1]): row for row in rows if (found := numbered.fullmatch(row[0]))}
        # Opened least often first: with more logs than instances, a restart must take a log that nobody delivers, and
        # not its own log again.
        kept = sorted((openings, number) for number, (_, openings, has_records) in known.items() if has_records)
        for number in chain((number for _, number in kept), sorted(known), count(max(known, default=-1) + 1)):
            if await try_lock(connection, f"{prefix}-{number}"):
                break
        return f"{prefix}-{number}"

    async with _open(dsn, choose, claimed=True) as log:
        yield log


@asynccontextmanager
async def _open(
    dsn: str, choose: Callable[[Connection], Awaitable[str]], *, claimed: bool
) -> AsyncIterator[PostgresLog]:
    # Two sessions, so that no commit waits for a read of 256 MiB.
    async with Session(dsn) as commits, Session(dsn) as others:
        async with commits.borrowed(OPEN_TIMEOUT) as connection:
            # First: behind such a pooler the lock that `choose` takes would be worth nothing.
            await refuse_pooler_of_transactions(connection, others)
            await prepare_tables(connection)
            name = await choose(connection)
            standing, snapshot = await _take_over(connection, name)
        writer = Writer(commits, name, standing, connection, claimed=claimed)
        # Only from now on: the first connection has taken the lock in `choose`.
        commits.greet = writer.greet
        try:
            yield PostgresLog(name, writer, others, standing, snapshot)
        finally:
            # Their callers were told that they failed, so they must not come back when the journal is opened again.
            await _delete_failed_appends(writer, name)
            await _give_up_lock(writer)


async def _take_over(connection: Connection, name: str) -> tuple[Standing, Snapshot | None]:
    async with connection.transaction():
        opened = await (await connection.execute(_OPEN, [name])).fetchone()
        # In the same transaction: its row lock keeps others from committing or opening until the opening is counted.
        standing = await read_standing(connection, name)
    assert opened is not None  # noqa: S101 - an upsert returns its row
    index, checksum, state = opened
    if index is None:
        return standing, None
    if snapshot_checksum(index, state) != checksum:
        raise LogDamaged(f"table hermes_log_state, log {name!r}: the snapshot: the checksum does not fit; restore it")
    return standing, Snapshot(index, state)


async def _delete_failed_appends(writer: Writer, name: str) -> None:
    with clean_up(CLOSE_TIMEOUT) as scope:
        try:
            await writer.delete_failed()
        except (LogUnavailable, LogDamaged, StaleWriter) as error:
            _log.warning(
                "appends that failed may come back when the journal is opened again", log=name, reason=str(error)
            )
    if scope.cancelled_caught:
        _log.warning("appends that failed may come back when the journal is opened again", log=name, reason="no answer")


async def _give_up_lock(writer: Writer) -> None:
    # A server that does not answer has no lock for long.
    with clean_up(CLOSE_TIMEOUT), suppress(LogUnavailable, StaleWriter):
        await writer.give_up_lock()
