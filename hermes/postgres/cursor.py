"""The cursor of a Trio connection: psycopg's, with the parts replaced that clean up after themselves.

Used by `connection`, and by who fetches.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

from psycopg import AsyncCursor
from psycopg.abc import Params, Query
from psycopg.pq.abc import PGresult
from psycopg.rows import Row

from hermes.postgres.copying import Copy

if TYPE_CHECKING:
    from hermes.postgres.connection import Connection


class Cursor(AsyncCursor[Row]):
    """See `psycopg.AsyncCursor`."""

    @asynccontextmanager
    async def copy(self, statement: Query, params: Params | None = None) -> AsyncIterator[Copy]:  # type: ignore[override]
        """Run a COPY statement; the block writes its data, or reads it.

        After the block `rowcount` is the number of rows copied. psycopg's `writer` argument is missing: its writers
        need an asyncio loop.
        """
        async with self._conn.lock:
            await self._conn.wait(self._start_copy_gen(statement, params))
            async with Copy(self) as copy:
                yield copy
        self._select_current_result(0)

    async def stream(
        self, query: Query, params: Params | None = None, *, binary: bool | None = None, size: int = 1
    ) -> AsyncGenerator[Row, None]:
        """Iterate over a result while it arrives, in chunks of `size` rows.

        Wrap it in `contextlib.aclosing` when the loop may be left early: only then is the rest dropped at once.
        """
        async with self._conn.lock:
            try:
                await self._conn.wait(self._stream_send_gen(query, params, binary=binary, size=size))
                first = True
                while result := await self._conn.wait(self._stream_fetchone_gen(first)):
                    for row in range(result.ntuples):
                        yield self._tx.load_row(row, self._make_row)
                    first = False
            finally:
                await cast("Connection", self._conn).abandon("stream() was left early")

    def set_copy_result(self, result: PGresult) -> None:
        """Take the result of a completed COPY, for `rowcount`."""
        self._results = [result]
