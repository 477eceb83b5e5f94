"""Commits to the postgres log: each commit is one fenced INSERT, and its outcome always becomes known.

Invariants, for any number of writers of one log:

- The index of a commit's first row is its fence: if another writer has committed, the INSERT finds the key taken, or
  the log trimmed beyond the index, and this writer is deposed for good. In a claimed log the INSERT finds a later
  opening instead, or, after a lost connection, another session has the lock.
- After a lost connection the writer first finds out the outcome of the commit that was under way. The new session has
  ended the backend of the old one, so a commit that is not in the table by then never will be. If the commit is there
  and its appends still wait, it has succeeded. If its appends were told that it failed, the writer deletes its rows.
  Only the writer that opened the log last may delete them: another writer may have read the rows when it opened the
  log, and then this writer is deposed.

    insert ── done ──► durable
      ├─ refused by the server ──► not there: LogFull, LogUnavailable, StaleWriter
      └─ connection lost, or no answer ──► in doubt ── a new session ──► there: durable │ not there: insert again
                                              └─ none in time ──► LogUnavailable; resolved before the next insert

`hermes.store.log.group` calls the writer, so there is one commit at a time.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import NamedTuple

import trio

from hermes.base.cleanup import clean_up
from hermes.base.errors import LogDamaged, LogUnavailable, StaleWriter
from hermes.store.log.postgres.session import Session, unavailable
from hermes.store.log.rows import Row, encode_rows
from hermes.store.postgres import Connection, DiskFull, Error, UniqueViolation, was_refused

_UNLOCK_TIMEOUT = 2.0
COMMIT_TIMEOUT = 10.0
"""Seconds after which a commit without a known outcome is reported as failed, plus the session's `CLEANUP_TIMEOUT`."""

SLOWEST = 10 * 2**20
"""Bytes a second that the slowest server writes: a commit gets one more second for each so many bytes."""

# The share lock makes the INSERT wait for a transaction that trims or opens the log, and then see the new state.
_INSERT = """
INSERT INTO hermes_log (log, index, count, "offset", checksum, token, data)
SELECT log, r.index, r.count, r."offset", r.checksum, %(token)s, r.data
FROM hermes_log_state,
     unnest(%(index)s::bigint[], %(count)s::bigint[], %(offset)s::bigint[], %(checksum)s::bigint[], %(data)b::bytea[])
     AS r (index, count, "offset", checksum, data)
WHERE log = %(log)s AND first_index <= %(first)s AND openings = coalesce(%(opening)s::bigint, openings)
FOR SHARE OF hermes_log_state
"""
_LOCK = "SELECT pg_try_advisory_lock(hashtextextended(%s, 'hermes_log'::regclass::oid::bigint))"
_UNLOCK = "SELECT pg_advisory_unlock(hashtextextended(%s, 'hermes_log'::regclass::oid::bigint))"
# FOR UPDATE waits for every INSERT that is under way, and keeps others from opening the log. A transaction with such a
# lock also waits at its end for the synchronous standbys, so the rows that it has seen are durable there.
_STANDING = """
SELECT openings, first_index, first_offset FROM hermes_log_state WHERE log = %s FOR UPDATE
"""
_LAST = """
SELECT index + count, "offset" + greatest(octet_length(data) - 4 * count, 0)
FROM hermes_log WHERE log = %s ORDER BY index DESC LIMIT 1
"""
_BROUGHT_BY = "SELECT token FROM hermes_log WHERE log = %s AND index = %s"
_DELETE = "DELETE FROM hermes_log WHERE log = %s AND index >= %s AND token = %s"


class Standing(NamedTuple):
    """Where a log begins and ends, as indexes and offsets. ``opening`` counts the openings of the log."""

    opening: int
    first: int
    first_offset: int
    next: int
    next_offset: int


async def read_standing(connection: Connection, name: str) -> Standing:
    """Return where the log stands. Within a transaction the row lock keeps that so. Raises `hermes.LogDamaged`.

    ::

        async with connection.transaction():
            standing = await read_standing(connection, "events")
            ...  # until the end of the block nobody appends or opens the log
    """
    state = await (await connection.execute(_STANDING, [name])).fetchone()
    if state is None:
        raise LogDamaged(f"table hermes_log_state: the row of log {name!r} is gone: restore both tables, or restart")
    opening, first, first_offset = state
    last = await (await connection.execute(_LAST, [name])).fetchone()
    end, end_offset = last or (first, first_offset)
    # An interrupted trim may have left rows below the beginning: they do not count.
    return Standing(opening, first, first_offset, *max((end, end_offset), (first, first_offset)))


async def try_lock(connection: Connection, name: str) -> bool:
    """Take the lock of a claimed log while the connection lives. Returns False if another session has the lock.

    ::

        if not await try_lock(connection, "events-0"):
            ...  # another instance owns this log
    """
    row = await (await connection.execute(_LOCK, [name])).fetchone()
    return row == (True,)


class Writer:
    """The writer of the log ``name``. ``standing`` was read on the session's connection ``seen_on``.

    ``claimed``: the writer commits only while the session holds the log's lock. The group calls the writer::

        group = GroupCommit(standing.next, writer.commit)
    """

    def __init__(self, session: Session, name: str, standing: Standing, seen_on: Connection, *, claimed: bool) -> None:
        self.next_offset = standing.next_offset
        self._session = session
        self._name = name
        self._opening = standing.opening
        self._claimed = claimed
        self._next = standing.next
        # Tokens of commits at `_next` without an outcome; the table has at most one of them.
        self._in_doubt: set[int] = set()
        # On this connection the log was seen to end at `_next`; the fence of the next INSERT finds any later change.
        self._known_on = seen_on
        self._deposed: int | None = None

    async def commit(self, index: int, records: Sequence[bytes]) -> None:
        """Commit records from ``index`` on; `hermes.store.log.group.Write`. Raises `hermes.LogDamaged` too."""
        # For good: a writer that comes back could continue over records that it has never seen.
        if self._deposed is not None:
            raise StaleWriter(index, self._deposed)
        # Before the shield: no commit has begun, so this may be cancelled.
        await self._session.connected()
        timeout = COMMIT_TIMEOUT + sum(map(len, records)) / SLOWEST
        # Shielded: the group allows a cancellation only before the commit, because other callers' appends are in it.
        with clean_up(timeout):
            rows = []
            # Row by row with checkpoints: encoding many megabytes at once would hold the loop.
            for row in encode_rows(index, self.next_offset, records):
                rows.append(row)
                await trio.lowlevel.checkpoint()
            # The column of the token is a bigint, so 63 bits.
            await self._make_durable(secrets.randbits(63), rows)
            self._next, self.next_offset = rows[-1].end, rows[-1].end_offset
            return
        raise LogUnavailable(f"Postgres did not say within {timeout:.3g} s that a commit has succeeded")

    async def delete_failed(self) -> None:
        """Delete rows that failed appends may have left. Raises `hermes.LogUnavailable`, `hermes.StaleWriter`."""
        if self._in_doubt and self._deposed is None:
            connection = await self._session.connected(patient=True)
            try:
                await self._resolve_doubt(connection, None)
            except Error as error:
                raise unavailable(error) from error

    @property
    def fence(self) -> int | None:
        """The opening that must be the log's latest before this writer changes anything; None for any opening."""
        return self._opening if self._claimed else None

    def depose(self, next_index: int) -> StaleWriter:
        """Stop writing for good. Returns the error for the callers."""
        self._deposed = next_index
        return StaleWriter(self._next, next_index)

    async def greet(self, connection: Connection) -> None:
        """Take the lock of a claimed log again on a new connection. Raises `hermes.StaleWriter` if another has it."""
        if self._claimed and not await try_lock(connection, self._name):
            raise self.depose((await read_standing(connection, self._name)).next)

    async def give_up_lock(self) -> None:
        """Let another instance claim the log at once. Raises `hermes.LogUnavailable`."""
        # The server frees the lock of a session some time after the session has gone. An instance that starts meanwhile
        # would claim another log, and nobody would deliver the records of this one.
        if self._claimed and self._deposed is None and self._session.is_connected:
            async with self._session.borrowed(_UNLOCK_TIMEOUT) as connection:
                await connection.execute(_UNLOCK, [self._name])

    async def _make_durable(self, token: int, rows: Sequence[Row]) -> None:
        while True:
            # Once the outcome is in doubt nobody can be told anything, so this waits until the commit's own deadline.
            connection = await self._session.connected(patient=token in self._in_doubt)
            try:
                known = connection is self._known_on and not self._in_doubt
                if not known and await self._resolve_doubt(connection, token):
                    return
            except Error as error:
                # Lost again before the outcome was known: find out on the next connection.
                if not was_refused(error) and token in self._in_doubt:
                    continue
                await self._session.drop()
                raise unavailable(error) from error
            # Before the INSERT is sent: a cancellation or a loss from here on leaves the outcome in doubt.
            self._in_doubt.add(token)
            try:
                inserted = await self._insert(connection, token, rows)
            except Error as error:
                if not was_refused(error):
                    await self._session.drop()
                    continue
                self._in_doubt.discard(token)
                await self._refused(connection, error)
            else:
                self._in_doubt.discard(token)
                if inserted:
                    return
                # No row: the log was trimmed beyond the fence, or another instance has opened it.
                raise self.depose((await self._standing(connection)).next)

    async def _insert(self, connection: Connection, token: int, rows: Sequence[Row]) -> int:
        values = {
            "log": self._name,
            "first": self._next,
            "opening": self.fence,
            "token": token,
            "index": [row.index for row in rows],
            "count": [row.count for row in rows],
            "offset": [row.offset for row in rows],
            "checksum": [row.checksum for row in rows],
            "data": [row.data for row in rows],
        }
        return (await connection.execute(_INSERT, values)).rowcount

    async def _refused(self, connection: Connection, error: Error) -> None:
        """Raise the log's error for an INSERT that the server has rolled back."""
        # The key is taken: another writer has committed at this index.
        if isinstance(error, UniqueViolation):
            raise self.depose((await self._standing(connection)).next) from error
        if not isinstance(error, DiskFull):
            # The server may have become a standby: the next connection finds the primary.
            await self._session.drop()
        raise unavailable(error) from error

    async def _standing(self, connection: Connection) -> Standing:
        try:
            return await read_standing(connection, self._name)
        except Error as error:
            await self._session.drop()
            raise unavailable(error) from error

    async def _resolve_doubt(self, connection: Connection, waiting: int | None) -> bool:
        """Compare the table with this writer's knowledge; return whether the commit with token ``waiting`` is there.

        Deletes a commit that is in the table although its appends were told that it failed. Raises
        `hermes.StaleWriter`, `hermes.LogDamaged`, psycopg's errors.
        """
        async with connection.transaction():
            standing = await read_standing(connection, self._name)
            row = await (await connection.execute(_BROUGHT_BY, [self._name, self._next])).fetchone()
            found = row[0] if row else None
            if found is None or found not in self._in_doubt:
                # Nothing of ours is at `_next`. The old backend has ended, so a commit in doubt never comes: any change
                # is another's.
                self._compare(standing)
            elif found != waiting:
                # Another instance has opened the log since, and may have read the rows: they stay.
                if standing.opening != self._opening:
                    raise self.depose(standing.next)
                await connection.execute(_DELETE, [self._name, self._next, found])
        self._known_on = connection
        self._in_doubt.clear()
        return found is not None and found == waiting

    def _compare(self, standing: Standing) -> None:
        if standing.next > self._next or (self._claimed and standing.opening != self._opening):
            raise self.depose(standing.next)
        # As after a failover to a standby that lags behind: an operator has to know that acknowledged records are gone.
        if standing.next < self._next:
            raise LogDamaged(
                f"table hermes_log, log {self._name!r}: records {standing.next} to {self._next - 1} were committed and "
                "are gone, as when an old backup is restored or a standby that lags behind takes over: restart Hermes"
                " to go on without them"
            )
