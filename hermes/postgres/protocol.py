"""Generators over libpq where psycopg has no fitting ones: COPY in large blocks, a ping, the way back to idle.

They speak psycopg's own convention (yield what to wait for, be sent what is ready), do no I/O but libpq's, and know
nothing of Trio. Invariant: whoever waits to write also reads, because a server that cannot get rid of its notices stops
reading. Used by `copying` and `connection`.
"""

from __future__ import annotations

from psycopg import pq
from psycopg.abc import Buffer, PQGen
from psycopg.errors import error_from_result
from psycopg.generators import execute, fetch, fetch_many, send
from psycopg.pq.abc import PGconn, PGresult
from psycopg.waiting import Ready, Wait

COPY_BLOCK_BYTES = 128 * 1024
"""What one step of a COPY hands to libpq, whose buffer grows to twice that and stays so. Half as much costs a tenth of
the speed on a Unix socket, more gains nothing."""

_COPYING = (pq.ExecStatus.COPY_IN, pq.ExecStatus.COPY_BOTH)


def put_copy(pgconn: PGconn, data: Buffer) -> PQGen[None]:
    """Send `data` as a part of the running COPY FROM STDIN; done when the socket has taken all of it.

    `data` is not copied on this side. Memory is bounded: libpq holds one block of `COPY_BLOCK_BYTES` at most.
    """
    view = memoryview(data)
    for start in range(0, len(view), COPY_BLOCK_BYTES):
        block = view[start : start + COPY_BLOCK_BYTES]
        while pgconn.put_copy_data(block) == 0:
            yield from _write_some(pgconn)
        yield from flush(pgconn)


def end_copy(pgconn: PGconn) -> PQGen[PGresult]:
    """Complete the running COPY FROM STDIN and return the server's result; raises the server's error."""
    while pgconn.put_copy_end() == 0:
        yield from _write_some(pgconn)
    yield from flush(pgconn)
    results: list[PGresult] = yield from fetch_many(pgconn)
    (result,) = results
    if result.status != pq.ExecStatus.COMMAND_OK:
        raise error_from_result(result)
    return result


def flush(pgconn: PGconn) -> PQGen[None]:
    """Wait until the socket has taken everything that libpq holds."""
    yield from _write_some(pgconn)
    while pgconn.flush():
        yield from _write_some(pgconn)


def _write_some(pgconn: PGconn) -> PQGen[None]:
    """Wait until the socket takes more, reading what the server sends meanwhile."""
    while True:
        ready = yield Wait.RW
        if ready & Ready.R:
            pgconn.consume_input()
        if ready & Ready.W:
            return


def ping(pgconn: PGconn) -> PQGen[None]:
    """Make one round trip with an empty query: it begins no transaction and changes nothing."""
    pgconn.send_query(b"")
    for result in (yield from execute(pgconn)):
        if result.status == pq.ExecStatus.FATAL_ERROR:
            raise error_from_result(result)


def settle(pgconn: PGconn) -> PQGen[None]:
    """Read, and throw away, the rest of what a statement answers, until the connection can take the next one.

    A COPY that is still open is failed. The caller has asked the server to cancel the statement. May be interrupted,
    and begun again with a new generator: what was read and sent so far is libpq's knowledge.
    """
    yield from send(pgconn)
    while (result := (yield from fetch(pgconn))) is not None:
        if result.status in _COPYING:
            while pgconn.put_copy_end(b"interrupted by the client") == 0:
                yield from _write_some(pgconn)
            yield from flush(pgconn)
        elif result.status == pq.ExecStatus.COPY_OUT:
            yield from _skip_copy_out(pgconn)


def _skip_copy_out(pgconn: PGconn) -> PQGen[None]:
    while True:
        size, _ = pgconn.get_copy_data(1)
        if size < 0:
            return
        if size == 0:
            yield Wait.R
            pgconn.consume_input()
