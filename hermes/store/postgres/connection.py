"""A connection to PostgreSQL: psycopg's, driven by Trio instead of asyncio.

Invariant: when a call ends, in whatever way, no statement is running on the connection. An interrupted statement (by
cancellation, an error, leaving a COPY early) is cancelled at the server and its answer read to the end, shielded and
within `cleanup_timeout`; if that fails the connection is discarded, with the reason in the log. So a caller waits no
longer than its own deadline plus that bound, whatever the peer does.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Never, Self, TypeVar

import psycopg
import structlog
import trio
from psycopg import AsyncConnection, Notify, OperationalError, capabilities, pq
from psycopg.abc import Buffer, PQGen, Query
from psycopg.errors import CancellationTimeout
from psycopg.generators import notifies
from psycopg.pq.abc import PGconn
from psycopg.rows import TupleRow
from psycopg.waiting import Ready

from hermes.base.cleanup import clean_up
from hermes.store.postgres.connecting import connection_parameters, first_to_connect
from hermes.store.postgres.cursor import Cursor
from hermes.store.postgres.errors import tell
from hermes.store.postgres.notifications import NotificationBacklog
from hermes.store.postgres.protocol import discard_rest, ping
from hermes.store.postgres.transaction import Transaction
from hermes.store.postgres.waiting import SocketWaiter, drive, drive_connecting

CLEANUP_TIMEOUT = 5.0
"""Seconds that cancelling a statement, or a ROLLBACK after a failure, may take before the connection is discarded."""

CANCEL_AGAIN_AFTER = 0.25
"""Seconds after which a request to cancel a statement is repeated, within `CLEANUP_TIMEOUT`."""

PREPARE_THRESHOLD = 5
"""A statement is prepared on the server after this many executions. The number is psycopg's own."""

_log = structlog.get_logger("hermes.postgres")

RV = TypeVar("RV")


class Connection(AsyncConnection[TupleRow]):
    r"""`psycopg.AsyncConnection` on Trio, with the same methods and cursors. The differences:

    - `autocommit` is on by default: put statements that belong together into a `transaction()` block.
    - Leaving `async with connection` closes the connection; uncommitted changes are lost.
    - Read notifications with `wait_notifications()`. `pipeline()` is missing; `executemany()` uses a pipeline inside.

    Tasks may share a connection; their statements run one after the other.

        async with open_connection(dsn) as connection:
            async with connection.transaction():
                await connection.execute("CREATE TEMPORARY TABLE t (n int)")
                rows = await connection.copy_in("COPY t FROM STDIN", b"1\n2\n")
    """

    def __init__(
        self,
        pgconn: PGconn,
        *,
        autocommit: bool = True,
        prepare_threshold: int | None = PREPARE_THRESHOLD,
        cleanup_timeout: float = CLEANUP_TIMEOUT,
    ) -> None:
        super().__init__(pgconn)
        self.lock = trio.Lock()  # type: ignore[assignment]  # psycopg's is asyncio's; it is used with `async with` only
        self.cursor_factory = Cursor
        # psycopg prepares on the server by this number; behind a pooler in transaction mode the next statement may
        # reach a session that lacks the prepared one.
        self.prepare_threshold = prepare_threshold
        self.cleanup_timeout = cleanup_timeout
        # Kept for the log line of a discarded connection, when libpq has forgotten the number.
        self.backend_pid = pgconn.backend_pid
        self.notifications = NotificationBacklog()
        self.add_notify_handler(self.notifications.put)
        self._autocommit = autocommit
        self._waiter = SocketWaiter(pgconn.socket)

    @classmethod
    async def connect(  # type: ignore[override]  # fewer options than psycopg's
        cls,
        dsn: str,
        *,
        autocommit: bool = True,
        prepare_threshold: int | None = PREPARE_THRESHOLD,
        cleanup_timeout: float = CLEANUP_TIMEOUT,
    ) -> Self:
        """Connect, and return a connection that the caller closes; `open_connection` closes it itself.

        `dsn` is a URL or libpq's `key=value` pairs. Pass `prepare_threshold=None` if a connection pooler is in between.
        Raises `psycopg.OperationalError` if no server answers within the string's `connect_timeout` (10 s), and
        `psycopg.ProgrammingError` if the string cannot be parsed.
        """
        # libpq before 17 can only cancel by blocking.
        capabilities.has_cancel_safe(check=True)
        pgconn = await first_to_connect(connection_parameters(dsn))
        try:
            return cls(
                pgconn,
                autocommit=autocommit,
                prepare_threshold=prepare_threshold,
                cleanup_timeout=cleanup_timeout,
            )
        # The socket may have got the last descriptor, and its epoll needs another one.
        except OSError as error:
            pgconn.finish()
            raise OperationalError(f"the connection cannot be waited for: {error}") from error

    async def copy_in(self, statement: Query, *blocks: Buffer) -> int:
        """Run a COPY ... FROM STDIN with `blocks`, encoded data of any size, and return the number of rows."""
        cursor = Cursor(self)
        async with cursor.copy(statement) as copy:
            for block in blocks:
                await copy.write(block)
        return cursor.rowcount

    @asynccontextmanager
    async def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> AsyncIterator[Transaction]:
        """Run the block in a transaction, or in a savepoint if a transaction is open."""
        async with Transaction(self, savepoint_name, force_rollback) as transaction:
            yield transaction

    async def wait_notifications(self) -> list[Notify]:
        """Return the notifications that have arrived since the last call; block until there is one.

        Other tasks wait for the connection meanwhile. `notifications.dropped` counts the notifications that were lost.
        """
        async with self.lock:
            # psycopg hands a notification to the handler with any answer, so some may have arrived before.
            while not (arrived := self.notifications.take_all()):
                await self.wait(notifies(self.pgconn))
        return arrived

    def notifies(self, **_options: float | None) -> AsyncGenerator[Notify]:
        """Not supported: a generator that is left early would keep the connection. Use `wait_notifications`."""
        raise psycopg.NotSupportedError("use wait_notifications()")

    def pipeline(self) -> Never:
        """Not supported: an interrupted pipeline cannot be brought to its end. `executemany` uses one inside."""
        raise psycopg.NotSupportedError("pipelines are not supported; use executemany()")

    async def cancel_safe(self, *, timeout: float = CLEANUP_TIMEOUT) -> None:
        """Ask the server to cancel the statement that another task runs on this connection.

        Raises `psycopg.errors.CancellationTimeout`.
        """
        if not self._should_cancel():
            return
        with trio.move_on_after(timeout):
            await drive_connecting(self._cancel_gen())
            return
        raise CancellationTimeout(f"the server did not take the cancel request within {timeout:g} s")

    async def wait(self, generator: PQGen[RV]) -> RV:  # type: ignore[override]  # a timeout is the caller's scope
        """Run one of psycopg's generators on this connection. The caller holds the lock."""
        try:
            # Before the first byte is sent: a task that is cancelled already leaves nothing to clean up.
            await trio.lowlevel.checkpoint_if_cancelled()
            return await drive(generator, self._waiter)
        except BaseException as error:
            await self.abandon(f"a statement was interrupted by {type(error).__name__}")
            with suppress(psycopg.Error):
                generator.close()
            raise

    async def abandon(self, reason: str) -> None:
        """End the running statement, if there is one: cancel it at the server and read its answer to the end.

        Shielded and bounded; the connection is usable afterwards, or discarded. The caller holds the lock.
        """
        if self.closed:
            return
        # An interrupted pipeline cannot be brought to its end: the answers of several statements are under way.
        if self.pgconn.pipeline_status:
            self.discard(f"{reason}, in a pipeline")
        elif self._active:
            await self._bounded(self._cancel_and_discard, reason)

    async def clean_up(self, generator: PQGen[RV], what: str) -> RV | None:
        """Run a generator that must run, shielded and bounded. Returns None if the connection was discarded."""

        async def run() -> RV:
            async with self.lock:
                return await drive(generator, self._waiter)

        return await self._bounded(run, what)

    async def roll_back_leftovers(self) -> None:
        """Roll back an open transaction, shielded and bounded, before the connection goes to another user."""
        await self.clean_up(self._rollback_gen(), "rolling back what was left open")

    async def is_alive(self, timeout: float) -> bool:
        """Make one round trip and return whether the server answered in time; if not, discard the connection."""
        try:
            with trio.move_on_after(timeout):
                async with self.lock:
                    # Not by `wait`, which would cancel the ping at a server that does not answer: the connection is
                    # discarded anyway.
                    await drive(ping(self.pgconn), self._waiter)
                return True
        except OperationalError as error:
            self.discard(f"a ping failed: {tell(error)}")
        finally:
            if self._active:
                # In `finally`, so that a cancelled ping discards the connection too: its answer is still to come.
                self.discard(f"a ping was not answered within {timeout:g} s")
        return False

    @property
    def has_unread_input(self) -> bool:
        """Whether the server has sent something, or hung up, since the last statement. Costs one system call."""
        return bool(self._waiter.poll() & Ready.R)

    def discard(self, reason: str) -> None:
        """Close at once, and log the reason: the connection must not be used again."""
        if not self._waiter.closed:
            _log.warning("a Postgres connection was discarded", reason=reason, backend_pid=self.backend_pid)
            self._finish()

    async def close(self) -> None:
        """Close the connection at once. A statement that another task waits for fails."""
        # Set before the waiters wake: their error then says "closed", not "lost".
        self._closed = True
        self._finish()
        # Closing ends in any case, also in a task that is cancelled already.
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def _active(self) -> bool:
        """Whether a statement is running."""
        return not self.closed and self.pgconn.transaction_status == pq.TransactionStatus.ACTIVE

    async def _cancel_and_discard(self) -> None:
        # The server forgets a cancel request that arrives before it has begun the statement: ask again.
        while self._active:
            await drive_connecting(self._cancel_gen())
            with trio.move_on_after(CANCEL_AGAIN_AFTER):
                await drive(discard_rest(self.pgconn), self._waiter)

    async def _bounded(self, step: Callable[[], Awaitable[RV]], what: str) -> RV | None:
        """Run a step of cleaning up, shielded and within `cleanup_timeout`; if it fails, discard the connection."""
        late = False
        try:
            with clean_up(self.cleanup_timeout) as scope:
                return await step()
            late = scope.cancelled_caught
        except OperationalError as error:
            self.discard(f"{what}; cleaning up failed: {tell(error)}")
        finally:
            if late or self._active:
                # Also after any other exception: a connection with a running statement must not go back to a pool.
                self.discard(f"{what}; cleaning up did not end in time")
        return None

    def _finish(self) -> None:
        if self._waiter.closed:
            return
        try:
            # Asked before `finish`, which closes the descriptor; the tasks that wait for it are woken first.
            fileno = self.pgconn.socket
        except OperationalError:
            # libpq has closed it already.
            fileno = -1
        self._waiter.close(fileno)
        self.pgconn.finish()


@asynccontextmanager
async def open_connection(
    dsn: str,
    *,
    autocommit: bool = True,
    prepare_threshold: int | None = PREPARE_THRESHOLD,
    cleanup_timeout: float = CLEANUP_TIMEOUT,
) -> AsyncIterator[Connection]:
    """Connect for the length of the block. Arguments and errors are those of `Connection.connect`.

    ::

        async with open_connection(dsn) as connection:
            cursor = await connection.execute("SELECT 1")
    """
    async with await Connection.connect(
        dsn, autocommit=autocommit, prepare_threshold=prepare_threshold, cleanup_timeout=cleanup_timeout
    ) as connection:
        yield connection
