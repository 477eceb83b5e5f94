"""A connection to PostgreSQL: psycopg's, driven by Trio instead of asyncio.

Invariant: when a call ends, in whatever way, no statement is running on the connection. One that was interrupted (by
cancellation, an error, leaving a COPY early) is cancelled at the server and its answer read to the end, shielded and
within `cleanup_timeout`; where that fails the connection is discarded, with the reason in the log. So a caller hangs
for no longer than its own deadline and that bound, whatever the peer does. Used by `pool`, and wherever one connection
is enough.
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

from hermes.cleanup import clean_up
from hermes.postgres.connecting import connection_parameters, first_to_connect
from hermes.postgres.cursor import Cursor
from hermes.postgres.errors import tell
from hermes.postgres.notifications import NotificationBacklog
from hermes.postgres.protocol import ping, settle
from hermes.postgres.transaction import Transaction
from hermes.postgres.waiting import SocketWaiter, drive, drive_connecting

CLEANUP_TIMEOUT = 5.0
"""Seconds that cancelling a statement, or a ROLLBACK after a failure, may take before the connection is discarded."""

CANCEL_AGAIN_AFTER = 0.25
"""Seconds after which a request to cancel a statement is repeated, within the clean-up's bound."""

PREPARE_THRESHOLD = 5
"""How often a statement is executed before it is prepared on the server."""

_log = structlog.get_logger("hermes.postgres")

RV = TypeVar("RV")


class Connection(AsyncConnection[TupleRow]):
    r"""See `psycopg.AsyncConnection`, of which this has the methods and the cursors. What differs:

    - `autocommit` is on unless asked otherwise: what belongs together goes into a `transaction()` block.
    - Leaving `async with connection` closes; what is not committed is lost.
    - Notifications are read with `wait_notifications()`; `pipeline()` is missing, `executemany()` has one inside.

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
        self.prepare_threshold = prepare_threshold
        self.cleanup_timeout = cleanup_timeout
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
        """Connect, and return a connection that the caller closes; `open_connection` does that by itself.

        `dsn` is a URL or libpq's `key=value` pairs; `prepare_threshold=None` suits a connection pooler in between.
        Raises `psycopg.OperationalError` when no server can be had within the string's `connect_timeout` (10 s), and
        `psycopg.ProgrammingError` when the string makes no sense.
        """
        capabilities.has_cancel_safe(check=True)  # libpq before 17 can only cancel by blocking
        pgconn = await first_to_connect(connection_parameters(dsn))
        try:
            return cls(
                pgconn,
                autocommit=autocommit,
                prepare_threshold=prepare_threshold,
                cleanup_timeout=cleanup_timeout,
            )
        except OSError as error:  # the socket may have got the last descriptor, and to wait for it takes another
            pgconn.finish()
            raise OperationalError(f"the connection cannot be waited for: {error}") from error

    async def copy_in(self, statement: Query, *blocks: Buffer) -> int:
        """Run a COPY ... FROM STDIN with `blocks`, ready data of any size, and return the number of rows."""
        cursor = Cursor(self)
        async with cursor.copy(statement) as copy:
            for block in blocks:
                await copy.write(block)
        return cursor.rowcount

    @asynccontextmanager
    async def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> AsyncIterator[Transaction]:
        """Run the block in a transaction, or in a savepoint of the one that is open."""
        async with Transaction(self, savepoint_name, force_rollback) as transaction:
            yield transaction

    async def wait_notifications(self) -> list[Notify]:
        """Return the notifications that have arrived since the last call; block until there is one.

        Others wait for the connection meanwhile. `notifications.dropped` counts those that were never taken.
        """
        async with self.lock:
            while not (arrived := self.notifications.take_all()):
                await self.wait(notifies(self.pgconn))
        return arrived

    def notifies(self, **_options: float | None) -> AsyncGenerator[Notify]:
        """Not supported: a generator that is left early would keep the connection. Use `wait_notifications`."""
        raise psycopg.NotSupportedError("use wait_notifications()")

    def pipeline(self) -> Never:
        """Not supported: an interrupted pipeline cannot be settled. `executemany` uses one inside."""
        raise psycopg.NotSupportedError("pipelines are not supported; use executemany()")

    async def cancel_safe(self, *, timeout: float = CLEANUP_TIMEOUT) -> None:
        """Ask the server to cancel what runs on this connection, on behalf of another task.

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
            await trio.lowlevel.checkpoint_if_cancelled()
            return await drive(generator, self._waiter)
        except BaseException as error:
            await self.abandon(f"a statement was interrupted by {type(error).__name__}")
            with suppress(psycopg.Error):
                generator.close()
            raise

    async def abandon(self, reason: str) -> None:
        """End the statement that is running, if one is: cancel it at the server and read its answer to the end.

        Shielded and bounded; the connection is usable afterwards, or discarded. The caller holds the lock.
        """
        if self.closed:
            return
        if self.pgconn.pipeline_status:
            self.discard(f"{reason}, in a pipeline")
        elif self._active:
            await self._bounded(self._cancel_and_settle, reason)

    async def clean_up(self, generator: PQGen[RV], what: str) -> RV | None:
        """Run a generator that must not be left out, shielded and bounded; None when the connection was discarded."""

        async def run() -> RV:
            async with self.lock:
                return await drive(generator, self._waiter)

        return await self._bounded(run, what)

    async def roll_back_leftovers(self) -> None:
        """Roll back what is open, shielded and bounded, for a connection that goes from one user to the next."""
        await self.clean_up(self._rollback_gen(), "rolling back what was left open")

    async def is_alive(self, timeout: float) -> bool:
        """Make one round trip and return whether the server answered in time; if not, the connection is discarded."""
        try:
            with trio.move_on_after(timeout):
                async with self.lock:
                    await drive(ping(self.pgconn), self._waiter)
                return True
        except OperationalError as error:
            self.discard(f"a ping failed: {tell(error)}")
        finally:
            if self._active:
                self.discard(f"a ping was not answered within {timeout:g} s")
        return False

    @property
    def has_unread_input(self) -> bool:
        """Whether the server has sent something, or hung up, since the last statement. Costs one system call."""
        return bool(self._waiter.poll() & Ready.R)

    def discard(self, reason: str) -> None:
        """Close at once, and log the reason: the connection is in no state to be used again."""
        if not self._waiter.closed:
            _log.warning("a Postgres connection was discarded", reason=reason, backend_pid=self.backend_pid)
            self._finish()

    async def close(self) -> None:
        """Close the connection, at once. A statement that another task waits for fails."""
        self._closed = True
        self._finish()
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def _active(self) -> bool:
        """Whether a statement is running."""
        return not self.closed and self.pgconn.transaction_status == pq.TransactionStatus.ACTIVE

    async def _cancel_and_settle(self) -> None:
        # A server that has not begun the statement when the request comes forgets the request: ask again.
        while self._active:
            await drive_connecting(self._cancel_gen())
            with trio.move_on_after(CANCEL_AGAIN_AFTER):
                await drive(settle(self.pgconn), self._waiter)

    async def _bounded(self, step: Callable[[], Awaitable[RV]], what: str) -> RV | None:
        """Run a step of cleaning up, shielded and within `cleanup_timeout`; where it fails, discard the connection."""
        late = False
        try:
            with clean_up(self.cleanup_timeout) as scope:
                return await step()
            late = scope.cancelled_caught
        except OperationalError as error:
            self.discard(f"{what}; cleaning up failed: {tell(error)}")
        finally:
            if late or self._active:
                self.discard(f"{what}; cleaning up did not end in time")
        return None

    def _finish(self) -> None:
        if self._waiter.closed:
            return
        try:
            fileno = self.pgconn.socket
        except OperationalError:
            fileno = -1  # libpq has closed it already
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
