"""COPY over a Trio connection.

Invariant: leaving the block in any way ends the COPY or the connection; no connection stays in the middle of a COPY.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from psycopg import AsyncCopy, pq
from psycopg.abc import Buffer
from psycopg.copy import AsyncWriter

from hermes.store.postgres.protocol import end_copy, put_copy

if TYPE_CHECKING:
    from hermes.store.postgres.connection import Connection
    from hermes.store.postgres.cursor import Cursor


class CopyWriter(AsyncWriter):
    """Sends COPY data of any size: in blocks, without copying, and waits for the socket after each block."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def write(self, data: Buffer) -> None:
        """Send `data`; returns when the socket has taken all bytes."""
        await self._connection.wait(put_copy(self._connection.pgconn, data))


class Copy(AsyncCopy):
    """A running COPY: call `write()` and `write_row()` to send data, or iterate to receive.

    ::

        async with cursor.copy("COPY t (id, payload) FROM STDIN") as copy:
            await copy.write_row((1, "{}"))
    """

    cursor: Cursor[Any]

    def __init__(self, cursor: Cursor[Any]) -> None:
        self._connection = cast("Connection", cursor.connection)
        super().__init__(cursor, writer=CopyWriter(self._connection))

    async def finish(self, exc: BaseException | None) -> None:
        """End the COPY: complete it, or let the server drop it after an exception or an early exit from reading."""
        if exc is None and self._direction == pq.ExecStatus.COPY_IN:
            # The binary format ends with a trailer, which the server waits for.
            if rest := self.formatter.end():
                await self.writer.write(rest)
            self.cursor.set_copy_result(await self._connection.wait(end_copy(self._connection.pgconn)))
            self._finished = True
        else:
            # COPY has no way to leave early but to cancel; its data so far is rolled back.
            await self._connection.abandon("COPY was left early")
