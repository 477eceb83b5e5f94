"""Refusing a pooler that lends its server connections by the transaction or by the statement.

A claimed log is owned by a lock of its session at the server. Such a pooler lets many clients share one session: two
instances would own one journal, each would depose the other, and both would end. Invariant: a log is opened only where
two sessions have a server process each, and keep it.
"""

from __future__ import annotations

from hermes.errors import ConfigError
from hermes.log.postgres.session import Session
from hermes.postgres import Connection

CHECK_TIMEOUT = 10.0
"""Seconds for the second session, which a pooler may let wait."""

_ROUNDS = 5  # other clients may take the server connection that was used last, so that one look may miss it


async def refuse_pooler_of_transactions(connection: Connection, others: Session) -> None:
    """Raises `hermes.ConfigError` where ``connection`` and one of ``others`` share a process of the server.

    Costs one round trip where there is no pooler: then the process is the one that the server named at the beginning.
    """
    if await _process(connection) == connection.backend_pid:
        return
    async with others.borrowed(CHECK_TIMEOUT) as other:
        for _ in range(_ROUNDS):
            mine, theirs, again = [await _process(each) for each in (connection, other, connection)]
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
