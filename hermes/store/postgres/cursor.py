"""The cursor of a Trio connection: psycopg's, with `copy` and `stream` replaced.

Invariant: leaving `copy` or `stream` early leaves no statement running on the connection.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

from psycopg import AsyncCursor
from psycopg.abc import Params, Query
from psycopg.pq.abc import PGresult
from psycopg.rows import Row

from hermes.store.postgres.copying import Copy

if TYPE_CHECKING:
    from hermes.store.postgres.connection import Connection


class Cursor(AsyncCursor[Row]):
    """`psycopg.AsyncCursor` on Trio, with the same methods.

    ::

        cursor = await connection.execute("SELECT id FROM events")
        async for (event_id,) in cursor:
            ...
    """

    @asynccontextmanager
    async def copy(self, statement: Query, params: Params | None = None) -> AsyncIterator[Copy]:  # type: ignore[override]
        """Run a COPY statement; the block writes its data or reads its rows.

        After the block `rowcount` is the number of copied rows. psycopg's `writer` argument is missing: its writers
        need an asyncio loop.
        """
        async with self._conn.lock:
            await self._conn.wait(self._start_copy_gen(statement, params))
            async with Copy(self) as copy:
                yield copy
        # psycopg's cursor reads `rowcount` from the selected result.
        self._select_current_result(0)

    async def stream(
        self, query: Query, params: Params | None = None, *, binary: bool | None = None, size: int = 1
    ) -> AsyncGenerator[Row, None]:
        """Iterate over a result while it arrives, in chunks of `size` rows.

        Wrap the call in `contextlib.aclosing` if the loop may end early; otherwise the rest of the result is dropped
        only when the generator is collected::

            async with aclosing(cursor.stream("SELECT id FROM events")) as rows:
                async for (event_id,) in rows:
                    ...
        """
        async with self._conn.lock:
            try:
                await self._conn.wait(self._stream_send_gen(query, params, binary=binary, size=size))
                # psycopg asks for the description of the columns with the first row only.
                first = True
                while result := await self._conn.wait(self._stream_fetchone_gen(first)):
                    for row in range(result.ntuples):
                        yield self._tx.load_row(row, self._make_row)
                    first = False
            finally:
                # In `finally`, so that a loop that breaks off frees the connection; after the last row it does nothing.
                await cast("Connection", self._conn).abandon("stream() was left early")

    def set_copy_result(self, result: PGresult) -> None:
        """Store the result of a completed COPY, which `rowcount` reads."""
        self._results = [result]
