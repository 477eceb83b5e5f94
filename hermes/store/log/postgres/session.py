"""Keeps one connection of a log to its server, and makes the connection again after a loss.

Invariants: a connection that is handed out has the session's settings, and every statement of the connection before
has ended at the server. While the server is down, the session pauses between attempts to connect, and refuses callers
at once during a pause.
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

from hermes.base.errors import LogFull, LogUnavailable
from hermes.store.postgres import Connection, DiskFull, Error, OperationalError, ProgrammingError, tell
from hermes.store.postgres.backoff import DialBackoff
from hermes.store.postgres.dsn import invalid_dsn

DIAL_TIMEOUT = 3.0
"""Seconds for connecting, including the first statements on the connection."""

CHECK_TIMEOUT = 1.0
"""Seconds for the round trip that tests a connection on which bytes have arrived unasked."""

CLEANUP_TIMEOUT = 1.0
"""Seconds for cancelling a statement at the server; after them the connection is closed."""

POLL_INTERVAL = 0.02
"""Seconds between two queries whether the backend of a lost connection has ended."""

# synchronous_commit: a commit is durable, even if the database or the role has turned that off; remote_apply, which is
# stronger, stays. idle_session_timeout: a quiet log keeps its connection, and with the connection its lock. tcp_*: the
# server notices within half a minute that a peer has vanished, and gives the peer's locks to others.
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
# With the time of its start: the process id of an ended backend may be used again.
_END = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND backend_start = %s"

_log = structlog.get_logger("hermes.log")


def unavailable(error: Error) -> LogUnavailable:
    """Return the log's error for an error of the server or the network."""
    return (LogFull if isinstance(error, DiskFull) else LogUnavailable)(f"Postgres: {tell(error)}")


class Session:
    """A connection to ``dsn``, closed at the end of the block. The first caller that needs the connection dials.

    ``greet`` is called with each new connection before a caller gets the connection; its errors reach that caller. ::

        async with Session(dsn) as session, session.borrowed(timeout=5.0) as connection:
            await connection.execute("SELECT 1")
    """

    def __init__(self, dsn: str, greet: Callable[[Connection], Awaitable[None]] | None = None) -> None:
        self.greet = greet
        self._dsn = dsn
        self._connection: Connection | None = None
        # Of the latest connection, with the time of its start, because a process id may be used again.
        self._backend: tuple[int, datetime] | None = None
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

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection, as far as this side knows."""
        return self._connection is not None and not self._connection.closed

    async def connected(self, *, patient: bool = False) -> Connection:
        """Return the connection; dial if there is none. ``patient``: try again until the caller's own deadline.

        Raises `hermes.LogUnavailable` if there is no connection now.
        """
        async with self._one_at_a_time:
            while True:
                if self._closed:
                    raise LogUnavailable("the log is closed")
                # Tested before it is lent: a connection that ended while nothing happened should cost no append.
                if self._connection is not None and await _is_usable(self._connection):
                    return self._connection
                await self.drop()
                if patient:
                    await trio.sleep_until(self._backoff.not_before)
                # At once: while the server is down, callers should not be held for each attempt to connect.
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
        """Lend the connection for the length of the block, for ``timeout`` seconds at most.

        Raises `hermes.LogUnavailable` after the timeout, and for an error of the server or the network in the block.
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
            # ``from None``: psycopg quotes the connection string, which may hold the password.
            except ProgrammingError:
                raise invalid_dsn() from None
            except OperationalError as error:
                raise unavailable(error) from error
            try:
                await self._begin(connection)
            except Error as error:
                await connection.close()
                raise unavailable(error) from error
            # A cancelled greeting too: nobody else knows the connection yet.
            except BaseException:
                await connection.close()
                raise
            return connection
        raise LogUnavailable(f"connecting to Postgres took longer than {DIAL_TIMEOUT:g} s")

    async def _begin(self, connection: Connection) -> None:
        await connection.execute(_SET)
        # The old backend may still commit, and it holds the log's lock: end it before anything else is done.
        if self._backend is not None:
            await _end(connection, *self._backend)
        who = await (await connection.execute(_WHO)).fetchone()
        assert who is not None  # noqa: S101 - the backend that answers is running
        pid, started, fsync = who
        # Once, and not again after each loss of the connection.
        if fsync != "on" and self._backend is None:
            _log.warning(
                "the Postgres server runs with fsync off: a crash of its machine may lose what is in the journal"
            )
        # As the server names it: a pooler makes up the process id that a client sees.
        self._backend = (pid, started)
        if self.greet is not None:
            await self.greet(connection)


async def _is_usable(connection: Connection) -> bool:
    if connection.closed:
        return False
    # Bytes that arrive unasked mostly say that the server shuts down.
    return not connection.has_unread_input or await connection.is_alive(CHECK_TIMEOUT)


async def _end(connection: Connection, pid: int, started: datetime) -> None:
    """End the backend of a lost connection, and wait until it has ended: the server may not have noticed the loss."""
    while (await connection.execute(_END, [pid, started])).rowcount:  # noqa: ASYNC110 - it happens at the server
        await trio.sleep(POLL_INTERVAL)
