"""Refuses a pooler that lends its server connections for one transaction or one statement.

An advisory lock of a session at the server marks the owner of a claimed log. Behind such a pooler many clients share
one session: two instances would own one journal, each would depose the other, and both would end.
Invariant: a log is opened only if two sessions have a server process each, and keep that process.
"""

from __future__ import annotations

from hermes.base.errors import ConfigError
from hermes.store.log.postgres.session import Session
from hermes.store.postgres import Connection

CHECK_TIMEOUT = 10.0
"""Seconds for the second session, since a pooler may let the session wait."""

# One look may miss the sharing: another client may have taken the server connection that was used last.
_ROUNDS = 5


async def refuse_pooler_of_transactions(connection: Connection, others: Session) -> None:
    """Raise `hermes.ConfigError` if ``connection`` and a connection of ``others`` share a process of the server.

    Costs one round trip without a pooler: the process is then the same that the server named when it was dialed.
    """
    if await _process(connection) == connection.backend_pid:
        return
    async with others.borrowed(CHECK_TIMEOUT) as other:
        for _ in range(_ROUNDS):
            mine, theirs, again = [await _process(each) for each in (connection, other, connection)]
            # Unequal to itself: between two statements the pooler gave this session another process.
            if mine == theirs or mine != again:
                raise ConfigError(
                    "DB_DSN leads to a pooler of transactions, where sessions share the server's processes: with "
                    "DURABILITY=postgres the journal is owned by a session. Name the server itself, or a pooler of "
                    "sessions (PgBouncer: pool_mode = session)"
                )


async def _process(connection: Connection) -> int:
    row = await (await connection.execute("SELECT pg_backend_pid()")).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    return int(row[0])
