"""Generators over libpq that psycopg lacks: COPY in large blocks, a ping, the way back to an idle connection.

They follow psycopg's convention (yield the awaited readiness, receive the actual one), do no I/O but libpq's, and do
not import Trio.

Invariant: a generator that waits to write also reads.
"""

from __future__ import annotations

from psycopg import pq
from psycopg.abc import Buffer, PQGen
from psycopg.errors import error_from_result
from psycopg.generators import execute, fetch, fetch_many, send
from psycopg.pq.abc import PGconn, PGresult
from psycopg.waiting import Ready, Wait

COPY_BLOCK_BYTES = 128 * 1024
"""Bytes that one step of a COPY hands to libpq, whose buffer grows to twice as much and stays so. Half as many cost a
tenth of the speed on a Unix socket, more gain nothing."""

_COPYING = (pq.ExecStatus.COPY_IN, pq.ExecStatus.COPY_BOTH)


def put_copy(pgconn: PGconn, data: Buffer) -> PQGen[None]:
    """Send `data` as a part of the running COPY FROM STDIN; ends when the socket has taken all bytes.

    `data` is not copied on this side. Memory is bounded: libpq holds at most one block of `COPY_BLOCK_BYTES`.
    """
    # Slices of a memoryview share the bytes; slices of bytes would copy every block.
    view = memoryview(data)
    for start in range(0, len(view), COPY_BLOCK_BYTES):
        block = view[start : start + COPY_BLOCK_BYTES]
        # 0 means that libpq's buffer is full; the block was not taken, not even in part.
        while pgconn.put_copy_data(block) == 0:
            yield from _write_some(pgconn)
        yield from flush(pgconn)


def end_copy(pgconn: PGconn) -> PQGen[PGresult]:
    """Complete the running COPY FROM STDIN and return the server's result. Raises the server's error."""
    while pgconn.put_copy_end() == 0:
        yield from _write_some(pgconn)
    yield from flush(pgconn)
    results: list[PGresult] = yield from fetch_many(pgconn)
    # COPY ends with exactly one result.
    (result,) = results
    if result.status != pq.ExecStatus.COMMAND_OK:
        raise error_from_result(result)
    return result


def flush(pgconn: PGconn) -> PQGen[None]:
    """Wait until the socket has taken all bytes that libpq holds."""
    yield from _write_some(pgconn)
    while pgconn.flush():
        yield from _write_some(pgconn)


def _write_some(pgconn: PGconn) -> PQGen[None]:
    """Wait until the socket takes more bytes, and read the server's messages meanwhile."""
    while True:
        ready = yield Wait.RW
        # A server that cannot send its notices stops reading: writing alone would block both sides for ever.
        if ready & Ready.R:
            pgconn.consume_input()
        if ready & Ready.W:
            return


def ping(pgconn: PGconn) -> PQGen[None]:
    """Make one round trip with an empty query, which begins no transaction and changes nothing.

    ::

        await drive(ping(connection.pgconn), waiter)
    """
    pgconn.send_query(b"")
    for result in (yield from execute(pgconn)):
        if result.status == pq.ExecStatus.FATAL_ERROR:
            raise error_from_result(result)


def discard_rest(pgconn: PGconn) -> PQGen[None]:
    """Read and discard the rest of a statement's answer, until the connection can take the next statement.

    An open COPY is failed. The caller has asked the server to cancel the statement. A caller may interrupt the
    generator and begin again with a new one: libpq keeps the state of reading and sending.
    """
    # The interrupted statement may still be in libpq's buffer; the server cannot answer before it has all of it.
    yield from send(pgconn)
    while (result := (yield from fetch(pgconn))) is not None:
        if result.status in _COPYING:
            # With a message, put_copy_end fails the COPY; without one it would commit half of the data.
            while pgconn.put_copy_end(b"interrupted by the client") == 0:
                yield from _write_some(pgconn)
            yield from flush(pgconn)
        # libpq gives no further result before the data of the COPY has been read.
        elif result.status == pq.ExecStatus.COPY_OUT:
            yield from _skip_copy_out(pgconn)


def _skip_copy_out(pgconn: PGconn) -> PQGen[None]:
    while True:
        size, _ = pgconn.get_copy_data(1)
        # -1 is the end of the data, 0 means that nothing has arrived yet.
        if size < 0:
            return
        if size == 0:
            yield Wait.R
            pgconn.consume_input()
