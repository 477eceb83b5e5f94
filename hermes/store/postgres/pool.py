"""A pool of connections without a task of its own.

Invariants: never more than `max_size` connections, and a slot for each in use; slots are given in the order of asking;
the borrower dials itself, inside its own deadline, so a cancelled borrower leaves no half-open connection; a returned
connection is idle and outside any transaction, or is closed. A connection whose session is at fault (see `sqlstate`)
is closed; if the server is at fault the idle ones are too, so that the next borrower dials anew. Idle connections
age out when others are returned.

    borrow ── slot (FIFO) ── idle one? ── alive? ──► connection ──► return ── transaction open? ROLLBACK ──► idle
                                │ none      │ no: the next one              └ still running, lost, too old: close
                                └─ dial (shared back-off while the server is down)
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Self

import trio
from psycopg import Error, OperationalError, pq

from hermes.store.postgres.backoff import BACKOFF_MAX, BACKOFF_MIN, DialBackoff
from hermes.store.postgres.connecting import connection_parameters
from hermes.store.postgres.connection import CLEANUP_TIMEOUT, PREPARE_THRESHOLD, Connection
from hermes.store.postgres.errors import PoolClosed, PoolTimeout, tell
from hermes.store.postgres.idle import IdleStack, Pooled
from hermes.store.postgres.sqlstate import Fault, fault_of

MAX_SIZE = 10
"""The largest number of connections, idle ones included."""

ACQUIRE_TIMEOUT = 10.0
"""Seconds that a borrower waits for a slot, a check and a dial together."""

MAX_LIFETIME = 3600.0
"""Seconds after which a returned connection is closed instead of kept; shortened by up to `LIFETIME_JITTER` of it."""

LIFETIME_JITTER = 0.1
"""The share of the lifetime that varies, so that connections which were opened together are not closed together."""

MAX_IDLE = 600.0
"""Seconds after which an unused connection is closed."""

CHECK_AFTER = 5.0
"""Seconds of idleness after which a connection makes a round trip before it is lent. Earlier, one system call tells
whether the server has hung up."""

CHECK_TIMEOUT = 2.0
"""Seconds for the round trip that checks an idle connection."""

# A server that waits for its standbys to apply (remote_apply) is stricter than `on`, and stays so.
_SET_COMMIT = b"""
SELECT set_config('synchronous_commit', %(wanted)s, false)
WHERE %(wanted)s <> 'on' OR current_setting('synchronous_commit') <> 'remote_apply'
"""

_IN_TRANSACTION = (pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR)


@dataclass(slots=True)
class _Counts:
    opened: int = 0
    failed_dials: int = 0
    checks: int = 0
    failed_checks: int = 0
    rolled_back: int = 0
    discarded: int = 0
    retired: int = 0
    timeouts: int = 0


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """The state of a pool at one moment, and its counters since it was opened."""

    max_size: int
    in_use: int
    """Taken slots: connections that are lent, checked or dialed."""
    idle: int
    waiting: int
    """Borrowers that wait for a slot."""

    opened: int
    failed_dials: int
    checks: int
    """Round trips that checked whether an idle connection is alive."""
    failed_checks: int
    rolled_back: int
    """Connections that came back with an open transaction."""
    discarded: int
    """Connections that came back lost, with a statement still running, without autocommit, or with their session or
    server at fault; and the idle connections to a server at fault."""
    retired: int
    """Connections that were closed because they were old, or unused for too long."""
    timeouts: int
    """Borrowers that got no connection in time."""


class Pool:
    """A pool of at most ``max_size`` connections to one database, for use as `async with open_pool(...) as pool`.

    All durations are in seconds; the constant of each default explains its argument. Borrowers leave no session state
    behind (SET, LISTEN, temporary tables): the pool rolls transactions back, and cleans up nothing else.
    ``synchronous_commit`` is set on each new connection; None keeps the setting of the server, the database or the
    role. Raises `psycopg.ProgrammingError` at once if the connection string cannot be parsed; the first `connection()`
    dials.

        async with open_pool(dsn, max_size=4) as pool:
            async with pool.connection() as connection:
                await connection.execute("SELECT 1")

    Attributes: 16, because it keeps its settings beside its state.
    Parameters: 12, because each is a bound of its own with a default, and callers give one or two of them, by name.
    """

    def __init__(
        self,
        dsn: str,
        *,
        max_size: int = MAX_SIZE,
        acquire_timeout: float = ACQUIRE_TIMEOUT,
        max_lifetime: float = MAX_LIFETIME,
        max_idle: float = MAX_IDLE,
        check_after: float = CHECK_AFTER,
        check_timeout: float = CHECK_TIMEOUT,
        backoff_min: float = BACKOFF_MIN,
        backoff_max: float = BACKOFF_MAX,
        cleanup_timeout: float = CLEANUP_TIMEOUT,
        prepare_threshold: int | None = PREPARE_THRESHOLD,
        synchronous_commit: str | None = None,
    ) -> None:
        # Parsed for its error only: a bad string must fail here, and not at the first borrower.
        connection_parameters(dsn)
        self._dsn = dsn
        self._max_size = max_size
        self._acquire_timeout = acquire_timeout
        self._max_lifetime = max_lifetime
        self._check_after = check_after
        self._check_timeout = check_timeout
        self._cleanup_timeout = cleanup_timeout
        self._prepare_threshold = prepare_threshold
        self._synchronous_commit = synchronous_commit
        self._slots = trio.Semaphore(max_size, max_value=max_size)
        self._idle: IdleStack[Connection] = IdleStack(max_idle)
        self._backoff = DialBackoff(backoff_min, backoff_max)
        # Held while a borrower dials a server that was down; with a healthy server the borrowers dial side by side.
        self._one_dialer = trio.Lock()
        self._last_error: OperationalError | None = None
        self._counts = _Counts()
        self._open = False

    async def __aenter__(self) -> Self:
        self._open = True
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        # Before the first close, during which a connection may come back: it is closed then, and not kept.
        self._open = False
        for pooled in self._idle.take_all():
            await pooled.connection.close()

    @asynccontextmanager
    async def connection(self, timeout: float | None = None) -> AsyncIterator[Connection]:
        """Lend a connection to the block; the connection is in autocommit mode and has no open transaction.

        Raises `PoolTimeout` if no connection is free within `timeout` seconds (default: the pool's `acquire_timeout`),
        and `PoolClosed`. A transaction that the block leaves open is rolled back.
        """
        pooled = await self._check_out(self._acquire_timeout if timeout is None else timeout)
        try:
            yield pooled.connection
        # Only errors of the driver: an exception of the block itself says nothing about the connection.
        except Error as error:
            await self._drop_faulty(pooled.connection, error)
            raise
        finally:
            try:
                # The slot is released last, even if the check-in fails: until then the connection exists and counts.
                await self._check_in(pooled)
            finally:
                self._slots.release()

    def statistics(self) -> PoolStatistics:
        """Return the pool's state and counters."""
        return PoolStatistics(
            max_size=self._max_size,
            in_use=self._max_size - self._slots.value,
            idle=len(self._idle),
            waiting=self._slots.statistics().tasks_waiting,
            **asdict(self._counts),
        )

    async def _check_out(self, timeout: float) -> Pooled[Connection]:
        # One deadline for the slot, the check and the dial together: the caller's bound, not three of them.
        with trio.move_on_after(timeout):
            await self._slots.acquire()
            try:
                return await self._find()
            except BaseException:
                # After a cancellation too, or the slot would be lost for good.
                self._slots.release()
                raise
        # Only the pool's own deadline comes here; a cancellation from outside has left through the scope.
        self._counts.timeouts += 1
        now = self.statistics()
        reason = f"; connecting failed: {self._last_error}" if self._last_error else ""
        raise PoolTimeout(
            f"no Postgres connection within {timeout:g} s"
            f" ({now.in_use} of {now.max_size} in use, {now.waiting} others waiting){reason}",
            self._last_error,
        )

    async def _find(self) -> Pooled[Connection]:
        """Return a connection that works, for the slot that the caller holds."""
        while True:
            # Checked in every round: the pool may close while this borrower dials.
            if not self._open:
                raise PoolClosed("the Postgres pool is closed")
            pooled = self._idle.take()
            if pooled is None:
                pooled = await self._dial()
            elif not await self._is_usable(pooled):
                await pooled.connection.close()
                pooled = None
            if pooled is not None:
                return pooled

    async def _is_usable(self, pooled: Pooled[Connection]) -> bool:
        connection = pooled.connection
        now = trio.current_time()
        if now >= pooled.expires_at:
            self._counts.retired += 1
            return False
        # Unasked input is a farewell of the server, as a rule: check the connection, however short it was idle. A lost
        # connection is closed and has nothing to read.
        if not connection.closed and not connection.has_unread_input and now - pooled.idle_since < self._check_after:
            return True
        self._counts.checks += 1
        try:
            alive = await connection.is_alive(self._check_timeout)
        except BaseException:
            # The check may be cancelled, and nobody else has the connection now.
            await connection.close()
            raise
        self._counts.failed_checks += not alive
        return alive

    async def _dial(self) -> Pooled[Connection] | None:
        """Connect, or return None if the attempt failed or is no longer needed.

        While the server is down one borrower dials, after a pause, and the others wait for the result.
        """
        if not self._backoff.failures:
            return await self._connect()
        async with self._one_dialer:
            await trio.sleep_until(self._backoff.not_before)
            # While this borrower waited, another one has connected or returned a connection: try that one first.
            if self._idle or not self._backoff.failures:
                return None
            return await self._connect()

    async def _connect(self) -> Pooled[Connection] | None:
        try:
            connection = await Connection.connect(
                self._dsn, cleanup_timeout=self._cleanup_timeout, prepare_threshold=self._prepare_threshold
            )
            await self._begin(connection)
        except OperationalError as error:
            self._counts.failed_dials += 1
            # A kept traceback would keep the frames of the failed dial alive, and the connection string in them.
            self._last_error = error.with_traceback(None)
            self._backoff.failed(trio.current_time(), random.random())  # noqa: S311  # jitter, no secret
            return None
        self._counts.opened += 1
        # Cleared, or a later time-out of a full pool would blame a server that is well.
        self._last_error = None
        self._backoff.succeeded()
        lifetime = self._max_lifetime * (1 - LIFETIME_JITTER * random.random())  # noqa: S311
        return Pooled(connection, expires_at=trio.current_time() + lifetime)

    async def _begin(self, connection: Connection) -> None:
        """Give a new connection its settings; if that fails, close it."""
        # No statement at all: a round trip for each new connection costs time when the pool fills.
        if self._synchronous_commit is None:
            return
        try:
            await connection.execute(_SET_COMMIT, {"wanted": self._synchronous_commit})
        except BaseException:
            await connection.close()
            raise

    async def _drop_faulty(self, connection: Connection, error: Error) -> None:
        """Close the connection if its session is at fault, and the idle connections too if the server is."""
        fault = fault_of(error)
        if fault in (Fault.SESSION, Fault.SERVER):
            connection.discard(f"a statement failed: {tell(error)}")
        # The idle connections lead to the same stopped server, or to a standby that used to be the primary.
        if fault is Fault.SERVER:
            for pooled in self._idle.take_all():
                self._counts.discarded += 1
                await pooled.connection.close()

    async def _check_in(self, pooled: Pooled[Connection]) -> None:
        connection = pooled.connection
        reusable = False
        try:
            # First roll back, then judge: after a good ROLLBACK the connection is as new.
            if not connection.closed and connection.pgconn.transaction_status in _IN_TRANSACTION:
                self._counts.rolled_back += 1
                await connection.roll_back_leftovers()
            if connection.closed:
                self._counts.discarded += 1
            elif connection.pgconn.transaction_status != pq.TransactionStatus.IDLE:
                self._counts.discarded += 1
                connection.discard("it came back to the pool with a statement running")
            elif not connection.autocommit:
                # The next borrower's statements would succeed, and be rolled back when the connection comes back.
                self._counts.discarded += 1
                connection.discard("it came back to the pool without autocommit")
            else:
                # The pool may have been closed while the connection was lent.
                reusable = self._open
        finally:
            if not reusable:
                await connection.close()
        if reusable:
            self._idle.put(pooled, trio.current_time())
        # Here, because the pool has no task of its own that could do it by time.
        for outdated in self._idle.take_outdated(trio.current_time()):
            self._counts.retired += 1
            await outdated.connection.close()


# By the rule for names, `open_x` is entered with `async with`. Annotations use the class.
open_pool = Pool
