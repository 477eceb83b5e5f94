"""A transaction block over a Trio connection.

Invariant: when the block ends, the transaction is committed, rolled back or, if the server does not answer in time,
ended with its connection; cancellation at any point leaves no transaction open.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from psycopg import AsyncTransaction, pq

if TYPE_CHECKING:
    from hermes.store.postgres.connection import Connection


class Transaction(AsyncTransaction):
    """`psycopg.AsyncTransaction` on Trio. `psycopg.Rollback` raised inside rolls back and is swallowed.

    COMMIT can be cancelled like any statement. After a cancelled COMMIT, and after a connection lost during COMMIT, the
    outcome is unknown::

        async with connection.transaction():
            await connection.execute("DELETE FROM jobs WHERE done")
    """

    _conn: Connection

    async def __aenter__(self) -> Self:
        # psycopg's own check: a transaction object can be entered once.
        self._check_enter()
        try:
            async with self._conn.lock:
                await self._conn.wait(self._enter_gen())
        except BaseException as error:
            await self._roll_back(error)
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> bool:
        if exc_val is not None or self.force_rollback:
            return await self._roll_back(exc_val)
        try:
            async with self._conn.lock:
                await self._conn.wait(self._exit_gen(None, None, None))
        except BaseException as error:
            # The transaction is still active only if the COMMIT was cancelled before it was sent.
            await self._roll_back(error)
            raise
        return False

    async def _roll_back(self, error: BaseException | None) -> bool:
        """Roll back if the transaction has begun and not ended; return whether to swallow `error`."""
        if self.status is not self.Status.ACTIVE:
            return False
        # The server rolls back when its session ends; there is nobody to send a ROLLBACK to.
        if self.pgconn.status != pq.ConnStatus.OK:
            self.status = self.Status.FAILED
            return False
        swallow = await self._conn.clean_up(self._exit_gen(type(error) if error else None, error, None), "ROLLBACK")
        return bool(swallow)
