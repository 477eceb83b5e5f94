"""Drives psycopg's generators with Trio: the only file in which the Postgres driver waits for a socket.

psycopg's protocol is made of generators. They yield the awaited readiness (readable, writable, either) and receive the
actual one; libpq reads and writes.

Invariant: no wait opens a task, every wait can be cancelled, and no generator keeps the run loop for longer than
`MAX_BUSY_SECONDS` between two of its yields.
"""

from __future__ import annotations

import select
import time
from typing import TypeVar

import trio
from psycopg.abc import PQGen, PQGenConn
from psycopg.errors import OperationalError
from psycopg.waiting import Ready, Wait

MAX_BUSY_SECONDS = 0.002
"""Seconds that a generator with an always ready socket may go on before other tasks get a turn."""

# A hang-up or an error counts as ready for both: libpq reads or writes, and reports the error.
_READABLE = select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR
_WRITABLE = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR

RV = TypeVar("RV")


class SocketWaiter:
    """Waits for one connected socket, for one task at a time.

    ::

        waiter = SocketWaiter(pgconn.socket)
        if await waiter.wait(Wait.R) & Ready.R:
            ...  # the server has sent something
        waiter.close(pgconn.socket)
    """

    def __init__(self, fileno: int) -> None:
        self._fileno = fileno
        # A Trio task waits for one condition of one descriptor, so readable *or* writable would take two tasks. An
        # epoll is one descriptor for both, and polling it costs one system call without a turn of the run loop.
        self._epoll = select.epoll(1)
        self._epoll.register(fileno, select.EPOLLIN | select.EPOLLOUT)

    def poll(self) -> int:
        """Return the present readiness of the socket. A broken socket is ready for both; libpq finds the error."""
        ready: int = Ready.NONE
        # One event at most, for one descriptor is registered.
        for _, events in self._epoll.poll(0, 1):
            if events & _READABLE:
                ready |= Ready.R
            if events & _WRITABLE:
                ready |= Ready.W
        return ready

    async def wait(self, wanted: Wait) -> int:
        """Block until the socket is ready for (part of) `wanted`, and return the actual readiness.

        Raises `trio.ClosedResourceError` if `close()` is called meanwhile.
        """
        if wanted == Wait.R:
            await trio.lowlevel.wait_readable(self._fileno)
            return Ready.R
        if wanted == Wait.W:
            await trio.lowlevel.wait_writable(self._fileno)
            return Ready.W
        await trio.lowlevel.wait_readable(self._epoll.fileno())
        return self.poll()

    @property
    def closed(self) -> bool:
        """Whether `close()` was called."""
        return self._epoll.closed

    def close(self, fileno: int) -> None:
        """Wake the waiting task, just before the socket is closed; call once.

        `fileno` is the socket's descriptor, or negative if libpq has already closed the socket.
        """
        # A closed descriptor's number may belong to another socket by now, whose waiters must not be woken.
        if fileno >= 0:
            trio.lowlevel.notify_closing(fileno)
        trio.lowlevel.notify_closing(self._epoll.fileno())
        self._epoll.close()


async def drive(generator: PQGen[RV], waiter: SocketWaiter) -> RV:
    """Run a generator of an established connection to its end and return its value.

    Always lets other tasks run. A cancelled call leaves the generator where it is: the caller ends the server's work
    (`Connection.abandon`). Raises the generator's errors, and `psycopg.OperationalError` if the connection is closed
    meanwhile.
    """
    turn_began = time.monotonic()
    waited = False
    try:
        wanted = next(generator)
        while True:
            # A socket is nearly always writable, and polling it is much cheaper than a turn of the run loop. A socket
            # is rarely readable at once, so a wait to read does not poll.
            ready = waiter.poll() & wanted if wanted & Wait.W else Ready.NONE
            if not ready:
                ready = await waiter.wait(wanted)
                waited = True
                turn_began = time.monotonic()
            elif time.monotonic() - turn_began > MAX_BUSY_SECONDS:
                await trio.lowlevel.checkpoint()
                turn_began = time.monotonic()
            wanted = generator.send(ready)
    except StopIteration as end:
        result: RV = end.value
    except (OSError, trio.ClosedResourceError) as error:
        raise OperationalError("the connection was closed while in use") from error
    if not waited:
        # The statement has succeeded. A Cancelled raised here would make the caller believe that it has not.
        await trio.lowlevel.cancel_shielded_checkpoint()
    return result


async def drive_connecting(generator: PQGenConn[RV]) -> RV:
    """Run a generator that opens a socket (of a connection, of a cancel request) to its end and return its value.

    Unlike in `drive`, the descriptor may change meanwhile. A cancelled call closes the half-open socket.
    """
    try:
        fileno, wanted = next(generator)
        while True:
            if wanted == Wait.R:
                await trio.lowlevel.wait_readable(fileno)
                ready = Ready.R
            else:
                await trio.lowlevel.wait_writable(fileno)
                ready = Ready.W
            fileno, wanted = generator.send(ready)
    except StopIteration as end:
        result: RV = end.value
        return result
    except OSError as error:
        raise OperationalError(f"the socket failed: {error}") from error
    finally:
        # After a cancellation too, so that the half-open socket goes with the generator.
        generator.close()
