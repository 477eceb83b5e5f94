"""The store of dead letters in a Postgres table that all instances share, for DURABILITY=postgres.

Invariants: a call that returns has committed, on the server's disk; one instance at a time changes the table; every
call ends within `CALL_TIMEOUT`, except the one that upgrades an older Hermes's table. No connection is made before the
first call; if the server is down, that call raises. Needs the extra ``postgres``.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog
import trio

from hermes.base.cleanup import clean_up
from hermes.base.errors import LogUnavailable
from hermes.dead_letters.contract import PAGE_BYTES, PAGE_LETTERS, DeadLetter, Selection, Source
from hermes.dead_letters.evictions import Evictions
from hermes.dead_letters.rows import COLUMNS, from_row, latest, tidy
from hermes.dead_letters.tables import FIND, MAKE, TABLE, UPGRADE, VERSION
from hermes.store.postgres import Connection, Error, Pool, open_pool, tell
from hermes.store.postgres.dsn import check_dsn

CALL_TIMEOUT = 30.0
"""Seconds that a call, or one transaction of a long removal, may take, getting a connection included."""

ACQUIRE_TIMEOUT = 5.0  # seconds for a connection, dialing included
# Letters of one transaction: a long removal lets other instances take their turn in between.
REMOVED_AT_ONCE = 1000
# Letters made into rows between two checkpoints: a digest for each of thousands would hold up the event loop.
SLICE = 500
CONNECTIONS = 2
UPGRADE_TIMEOUT = 600.0
"""Seconds that the upgrade of an older table may take; the call that finds the older table waits this long."""

_log = structlog.get_logger("hermes.dead_letters")

# One instance at a time: two that evict together would remove too much, and two that update the same letters in
# different orders would wait for each other in a circle. READ COMMITTED, whatever the server's default is: the
# statements after the lock must see the rows that were committed while it was waited for.
_TAKE_TURN = b"""
SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
SELECT pg_advisory_xact_lock(x'6865726D65736401'::bigint)
"""
# DO UPDATE: the letter that is refused again keeps its number.
_ADD = f"""
INSERT INTO {TABLE} ({", ".join(COLUMNS[1:])}, digest) VALUES ({", ".join(["%s"] * len(COLUMNS))})
ON CONFLICT (digest, part, source) DO UPDATE SET reason = excluded.reason, attempts = excluded.attempts,
    rejected_at = excluded.rejected_at, received_at = excluded.received_at
""".encode()  # noqa: S608 - the columns are ours
# Both ends of the index. A count of all letters for each call would read the whole table.
_MAY_BE_FULL = f"SELECT max(number) - min(number) >= %s FROM {TABLE}".encode()  # noqa: S608
_EVICT = f"""
DELETE FROM {TABLE} WHERE number IN (
    SELECT number FROM {TABLE} ORDER BY number LIMIT greatest(0, (SELECT count(*) FROM {TABLE}) - %s)
) RETURNING number, part, source
""".encode()  # noqa: S608
_LAST = f"SELECT coalesce(max(number), 0) FROM {TABLE}".encode()  # noqa: S608
_AMEND = f"UPDATE {TABLE} SET reason = %s, attempts = %s, rejected_at = %s WHERE number = %s".encode()  # noqa: S608


class PostgresDeadLetters:
    """A store over an open pool, which keeps the last ``max_letters``. See `DeadLetters`."""

    def __init__(self, pool: Pool, max_letters: int) -> None:
        self.evictions = Evictions()
        self._pool = pool
        self._max_letters = max_letters
        self._preparing = trio.Lock()
        # Held until the letters are counted in: else a second task could count the first one's letters as evicted
        # before they were counted as added, and they would pass for letters of another instance.
        self._adding = trio.Lock()
        self._prepared = False

    async def add(self, letters: Sequence[DeadLetter]) -> None:
        """Keep letters, committed; remove the oldest letters if there is no room."""
        rows = await _make_rows(letters)
        evicted: list[tuple[int, str, str]] = []
        async with self._adding:
            async with self._change() as connection:
                # No other instance adds letters in this transaction, so the numbers between the two are all of this
                # call.
                (before,) = await _fetch_one(connection, _LAST)
                await connection.cursor().executemany(_ADD, rows)
                (after,) = await _fetch_one(connection, _LAST)
                (may_be_full,) = await _fetch_one(connection, _MAY_BE_FULL, [self._max_letters])
                if may_be_full:
                    evicted = await (await connection.execute(_EVICT, [self._max_letters])).fetchall()
            left = [(number, Source(part, name)) for number, part, name in evicted]
            self.evictions.add(len(letters), before, after, left)

    async def page(
        self, selection: Selection, *, after: int = 0, limit: int = PAGE_LETTERS, max_bytes: int = PAGE_BYTES
    ) -> list[DeadLetter]:
        """The first letters that match and have a number above ``after``, in the order of their numbers."""
        condition, values = _where(selection)
        # As text: the driver would otherwise parse the facts, which `from_row` decodes.
        columns = ", ".join(COLUMNS).replace("facts", "facts::text")
        # The server adds up the sizes, so that it sends no body beyond the page; but the first, whatever its size.
        query = f"""
        SELECT {columns} FROM (
            SELECT *, sum(octet_length(body)) OVER up_to_here AS total, row_number() OVER up_to_here AS place
            FROM (
                SELECT * FROM {TABLE} WHERE {condition} AND number > %s ORDER BY number LIMIT %s
            ) AS matching WINDOW up_to_here AS (ORDER BY number)
        ) AS measured WHERE total <= %s OR place = 1 ORDER BY number
        """  # noqa: S608
        async with self._connection() as connection:
            cursor = await connection.execute(query.encode(), [*values, after, limit, max_bytes])
            return [from_row(row) for row in await cursor.fetchall()]

    async def count(self, selection: Selection) -> Mapping[Source, int]:
        """How many letters match, by source."""
        condition, values = _where(selection)
        query = f"SELECT part, source, count(*) FROM {TABLE} WHERE {condition} GROUP BY part, source"  # noqa: S608
        async with self._connection() as connection:
            rows = await (await connection.execute(query.encode(), values)).fetchall()
        # Sorted here: ORDER BY would follow the database's collation, and the stores have one order.
        return {Source(part, name): count for part, name, count in sorted(rows)}

    async def last(self) -> int:
        """The highest number of a letter in the store; 0 if the store is empty."""
        async with self._connection() as connection:
            (number,) = await _fetch_one(connection, _LAST)
        return int(number)

    async def amend(self, letters: Sequence[DeadLetter]) -> None:
        """Update reason, attempts and time of letters that were refused again, by their numbers."""
        rows = [(tidy(letter.reason), letter.attempts, letter.rejected_at, letter.number) for letter in letters]
        async with self._change() as connection:
            await connection.cursor().executemany(_AMEND, rows)

    async def remove(self, selection: Selection) -> int:
        """Delete the letters that match; return their count."""
        condition, values = _where(selection)
        statement = f"""
        DELETE FROM {TABLE} WHERE number IN (SELECT number FROM {TABLE} WHERE {condition} ORDER BY number LIMIT %s)
        """  # noqa: S608
        removed, part = 0, REMOVED_AT_ONCE
        while part == REMOVED_AT_ONCE:
            async with self._change() as connection:
                part = (await connection.execute(statement.encode(), [*values, REMOVED_AT_ONCE])).rowcount
            removed += part
        return removed

    @asynccontextmanager
    async def _change(self) -> AsyncIterator[Connection]:
        """A connection in a transaction of its own, while no other Hermes changes the table."""
        async with self._connection() as connection, connection.transaction():
            await connection.execute(_TAKE_TURN)
            yield connection

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        """A connection to the server, after the table was made. Raises `LogUnavailable` for an error in the block."""
        try:
            with trio.fail_after(CALL_TIMEOUT) as scope:
                async with self._pool.connection() as connection:
                    # A DSN, a role or the server may choose another encoding, which cannot carry every text.
                    if connection.info.encoding != "utf-8":
                        await connection.execute("SET client_encoding TO 'UTF8'")
                    await self._prepare(connection, scope)
                    yield connection
        except Error as error:
            # Somebody may have dropped the table: the next call looks for it again, and makes it.
            self._prepared = False
            raise LogUnavailable(f"the dead letters in Postgres: {tell(error)}") from error
        except trio.TooSlowError as error:
            raise LogUnavailable(f"the dead letters in Postgres: no answer within {CALL_TIMEOUT:g} s") from error

    async def _prepare(self, connection: Connection, scope: trio.CancelScope) -> None:
        # Tasks that come while one is preparing wait for it, and then see the flag.
        async with self._preparing:
            if self._prepared:
                return
            encoding = connection.info.parameter_status("server_encoding")
            if encoding != "UTF8":
                raise LogUnavailable(
                    f"DB_DSN: the database's encoding is {encoding}, and not every event can be kept in it: "
                    "make one with ENCODING 'UTF8'"
                )
            async with connection.transaction():
                # Of two instances that start together, one makes the table, and the other then finds it.
                await connection.execute(_TAKE_TURN)
                found = await (await connection.execute(FIND)).fetchone()
                if found is None:
                    await connection.execute(MAKE)
            if found == (VERSION - 1,):
                await _upgrade(connection, scope)
            elif found not in (None, (VERSION,)):
                raise LogUnavailable(
                    f"the table {TABLE} is not one that this Hermes knows (schema {found[0]}, this one has "
                    f"{VERSION}): upgrade, or rename the table"
                )
            self._prepared = True


async def _upgrade(connection: Connection, scope: trio.CancelScope) -> None:
    """Upgrade the table of the version before, in one transaction. ``scope`` is the call's cancel scope."""
    _log.info("upgrading the dead letters' table of an older Hermes", table=TABLE, schema=VERSION)
    # The call's own time-out is too short for a rewrite of a large table.
    scope.deadline = math.inf
    # Shielded: a caller with a shorter time-out would begin the upgrade again and again, and it would never end.
    with clean_up(UPGRADE_TIMEOUT) as upgrading:
        async with connection.transaction():
            await connection.execute(_TAKE_TURN)
            # Another instance may have upgraded the table while this one waited for its turn.
            if await _fetch_one(connection, FIND) == (VERSION - 1,):
                await connection.execute(UPGRADE)
    if upgrading.cancelled_caught:
        raise LogUnavailable(
            f"the table {TABLE} could not be upgraded within {UPGRADE_TIMEOUT:g} s: purge letters with the older "
            "Hermes, or rename the table"
        )
    scope.deadline = trio.current_time() + CALL_TIMEOUT


async def _make_rows(letters: Sequence[DeadLetter]) -> list[tuple[str | int | float | bytes, ...]]:
    rows = []
    for start in range(0, len(letters), SLICE):
        # A letter may come in two slices: `executemany` runs a statement for each row, and the later row updates the
        # earlier one.
        rows += latest(letters[start : start + SLICE])
        await trio.lowlevel.checkpoint()
    return rows


async def _fetch_one(connection: Connection, query: bytes, values: Sequence[Any] = ()) -> tuple[Any, ...]:
    row = await (await connection.execute(query, values)).fetchone()
    assert row is not None  # noqa: S101 - these queries always have one
    return row


def _where(selection: Selection) -> tuple[str, list[Any]]:
    """The condition of a selection and its values."""
    parts: list[tuple[str, Any]] = []
    if selection.part is not None:
        parts.append(("part = %s", selection.part))
    if selection.name is not None:
        parts.append(("source = %s", selection.name))
    for name, fact in selection.facts.items():
        # The name needs no quoting: a fact's name has only ASCII letters and underscores (see `DeadLetter`).
        # `->>` gives the text of any fact, of a number too.
        parts.append((f"facts ->> '{name}' = %s", str(fact)))
    if selection.reason is not None:
        # In the collation "C" lower() changes ASCII letters alone, as in the other stores.
        parts.append(('strpos(lower(reason COLLATE "C"), lower(%s::text COLLATE "C")) > 0', selection.reason))
    if selection.since is not None:
        parts.append(("rejected_at >= %s", selection.since))
    if selection.numbers is not None:
        # psycopg makes an array of a list alone, and a record of a tuple.
        parts.append(("number = ANY (%s::bigint[])", list(selection.numbers)))
    if selection.up_to is not None:
        parts.append(("number <= %s", selection.up_to))
    # TRUE, so that a selection without conditions is a condition too.
    return " AND ".join(["TRUE", *(condition for condition, _ in parts)]), [value for _, value in parts]


@asynccontextmanager
async def open_postgres_dead_letters(dsn: str, max_letters: int) -> AsyncIterator[PostgresDeadLetters]:
    """Open the store on the database ``dsn``, a URL or libpq's pairs; the store keeps the last ``max_letters``.

    Raises `hermes.ConfigError` for a malformed ``dsn``.

        async with open_postgres_dead_letters("postgres://hermes@localhost/hermes", 100_000) as store:
            print(await store.count(Selection()))
    """
    # Now: the pool dials at the first call only, and a malformed DSN has to end the start.
    check_dsn(dsn)
    # synchronous_commit: a database or role that turns it off would make "committed" mean "in the server's memory".
    async with open_pool(dsn, max_size=CONNECTIONS, acquire_timeout=ACQUIRE_TIMEOUT, synchronous_commit="on") as pool:
        yield PostgresDeadLetters(pool, max_letters)
