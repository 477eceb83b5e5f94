"""COPY over a Trio connection.

Invariant: leaving the block in any way ends the COPY, or else the connection: it is never left in the middle of one.
Used by `cursor`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from psycopg import AsyncCopy, pq
from psycopg.abc import Buffer
from psycopg.copy import AsyncWriter

from hermes.postgres.protocol import end_copy, put_copy

if TYPE_CHECKING:
    from hermes.postgres.connection import Connection
    from hermes.postgres.cursor import Cursor


class CopyWriter(AsyncWriter):
    """Sends COPY data of any size: in blocks, without copying, waiting for the socket after each."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def write(self, data: Buffer) -> None:
        """Send `data`; returns when the socket has taken it."""
        await self._connection.wait(put_copy(self._connection.pgconn, data))


class Copy(AsyncCopy):
    """A running COPY: `write()` and `write_row()` into the server, or iterate over what comes from it."""

    cursor: Cursor[Any]

    def __init__(self, cursor: Cursor[Any]) -> None:
        self._connection = cast("Connection", cursor.connection)
        super().__init__(cursor, writer=CopyWriter(self._connection))

    async def finish(self, exc: BaseException | None) -> None:
        """End the COPY: complete it, or, after an exception or an early exit from reading, have the server drop it."""
        if exc is None and self._direction == pq.ExecStatus.COPY_IN:
            if rest := self.formatter.end():
                await self.writer.write(rest)
            self.cursor.set_copy_result(await self._connection.wait(end_copy(self._connection.pgconn)))
            self._finished = True
        else:
            await self._connection.abandon("COPY was left early")
