"""One connection of a log to its server, made again after it was lost.

Invariants: a connection that is handed out has the session's settings, and whatever ran on the one before has ended at
the server; while the server is down there are pauses between the attempts to connect, in which callers are refused at
once. Used by the postgres log: one session for its commits, one for everything else.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from types import TracebackType
from typing import Self

import structlog
import trio

from hermes.errors import LogFull, LogUnavailable
from hermes.postgres import Connection, DiskFull, Error, OperationalError, ProgrammingError, tell
from hermes.postgres.backoff import DialBackoff
from hermes.postgres.dsn import invalid_dsn

DIAL_TIMEOUT = 3.0
"""Seconds for connecting, all that has to be said at first included."""

CHECK_TIMEOUT = 1.0
"""Seconds for the round trip that tells whether a connection is alive on which something has arrived unasked."""

CLEANUP_TIMEOUT = 1.0
"""Seconds that cancelling a statement at the server may take before the connection is given up."""

POLL_INTERVAL = 0.02
"""Seconds between two looks whether the backend of a lost connection has ended."""

# A commit is durable by the server's own standard, whatever the database or the role would have it; a quiet log keeps
# its connection; the server finds out within half a minute that a peer has vanished, and gives its locks to others.
_SET = """
SELECT set_config(name, value, false)
FROM (VALUES ('synchronous_commit', 'on'), ('default_transaction_isolation', 'read committed'),
             ('idle_session_timeout', '0'), ('tcp_keepalives_idle', '15'), ('tcp_keepalives_interval', '5'),
             ('tcp_keepalives_count', '3'), ('tcp_user_timeout', '30000')) AS wanted (name, value)
JOIN pg_settings USING (name) WHERE setting <> 'remote_apply'
"""
_WHO = """
SELECT pid, backend_start, current_setting('fsync') FROM pg_stat_activity WHERE pid = pg_backend_pid()
"""
_END = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND backend_start = %s"

_log = structlog.get_logger("hermes.log")


def unavailable(error: Error) -> LogUnavailable:
    """What an error of the server or the network is for a user of the log."""
    return (LogFull if isinstance(error, DiskFull) else LogUnavailable)(f"Postgres: {tell(error)}")


class Session:
    """A connection to ``dsn``; entered to be closed. Nothing is dialed before it is asked for.

    ``greet`` is called with each new connection before it is handed out; what it raises is raised to the caller.
    """

    def __init__(self, dsn: str, greet: Callable[[Connection], Awaitable[None]] | None = None) -> None:
        self.greet = greet
        self._dsn = dsn
        self._connection: Connection | None = None
        self._backend: tuple[int, datetime] | None = None  # the latest; a process id alone may come again
        self._backoff = DialBackoff()
        self._failure = ""
        self._one_at_a_time = trio.Lock()
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self._closed = True
        await self.drop()

    async def drop(self) -> None:
        """Close the connection; the next caller gets a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def connected(self, *, patient: bool = False) -> Connection:
        """The connection, a new one if need be. ``patient``: wait, and try again, until the caller's own deadline.

        Raises `hermes.LogUnavailable` when there is none to be had now.
        """
        async with self._one_at_a_time:
            while True:
                if self._closed:
                    raise LogUnavailable("the log is closed")
                if self._connection is not None and await _is_usable(self._connection):
                    return self._connection
                await self.drop()
                if patient:
                    await trio.sleep_until(self._backoff.not_before)
                elif trio.current_time() < self._backoff.not_before:
                    raise LogUnavailable(self._failure)
                try:
                    self._connection = await self._dial()
                except LogUnavailable as error:
                    self._failure = str(error)
                    self._backoff.failed(trio.current_time(), random.random())  # noqa: S311  # jitter, no secret
                    if not patient:
                        raise
                else:
                    self._backoff.succeeded()

    @asynccontextmanager
    async def borrowed(self, timeout: float) -> AsyncIterator[Connection]:
        """The connection for the length of the block, which may take ``timeout`` seconds.

        Raises `hermes.LogUnavailable` for that, and for what the server or the network does in the block.
        """
        with trio.move_on_after(timeout):
            try:
                yield await self.connected()
            except Error as error:
                await self.drop()
                raise unavailable(error) from error
            return
        raise LogUnavailable(f"Postgres did not answer within {timeout:g} s")

    async def _dial(self) -> Connection:
        with trio.move_on_after(DIAL_TIMEOUT):
            try:
                connection = await Connection.connect(self._dsn, cleanup_timeout=CLEANUP_TIMEOUT)
            except ProgrammingError:
                raise invalid_dsn() from None
            except OperationalError as error:
                raise unavailable(error) from error
            try:
                await self._begin(connection)
            except Error as error:
                await connection.close()
                raise unavailable(error) from error
            except BaseException:
                await connection.close()
                raise
            return connection
        raise LogUnavailable(f"connecting to Postgres took longer than {DIAL_TIMEOUT:g} s")

    async def _begin(self, connection: Connection) -> None:
        await connection.execute(_SET)
        if self._backend is not None:
            await _end(connection, *self._backend)
        who = await (await connection.execute(_WHO)).fetchone()
        assert who is not None  # noqa: S101 - whoever asks is there
        pid, started, fsync = who
        if fsync != "on" and self._backend is None:
            _log.warning(
                "the Postgres server runs with fsync off: a crash of its machine may lose what is in the journal"
            )
        self._backend = (pid, started)  # not what the connection says, which a pooler has made up
        if self.greet is not None:
            await self.greet(connection)


async def _is_usable(connection: Connection) -> bool:
    if connection.closed:
        return False
    # Whatever has arrived unasked is most often a goodbye.
    return not connection.has_unread_input or await connection.is_alive(CHECK_TIMEOUT)


async def _end(connection: Connection, pid: int, started: datetime) -> None:
    """End the backend of a connection that was lost, and wait for that: the server may not have noticed the loss."""
    while (await connection.execute(_END, [pid, started])).rowcount:  # noqa: ASYNC110 - it happens at the server
        await trio.sleep(POLL_INTERVAL)
