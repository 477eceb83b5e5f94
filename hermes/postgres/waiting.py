"""Driving psycopg's generators with Trio: the only file in which the Postgres driver waits for a socket.

psycopg keeps its protocol in generators that yield what they wait for (readable, writable, either) and are told what
has become ready; libpq does the reading and writing. Invariant: no wait opens a task, every wait can be cancelled, and
no generator keeps the run loop for longer than `MAX_BUSY_SECONDS` between two of its yields. Used by `connection`.
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
"""How long a generator that finds its socket always ready may go on before other tasks get a turn."""

_READABLE = select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR
_WRITABLE = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR

RV = TypeVar("RV")


class SocketWaiter:
    """Waits for one connected socket, for one task at a time.

    Waiting for readable *or* writable would take two tasks, because a Trio task waits for one thing on one descriptor.
    An epoll of its own makes it one descriptor, and asking it costs one system call without a turn of the run loop.
    """

    def __init__(self, fileno: int) -> None:
        self._fileno = fileno
        self._epoll = select.epoll(1)
        self._epoll.register(fileno, select.EPOLLIN | select.EPOLLOUT)

    def poll(self) -> int:
        """Return what the socket is ready for at this moment. A broken socket is ready for both: libpq finds out."""
        ready: int = Ready.NONE
        for _, events in self._epoll.poll(0, 1):
            if events & _READABLE:
                ready |= Ready.R
            if events & _WRITABLE:
                ready |= Ready.W
        return ready

    async def wait(self, wanted: Wait) -> int:
        """Block until the socket is ready for (part of) `wanted`, and return for what.

        Raises `trio.ClosedResourceError` when `close()` is called meanwhile.
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
        """Wake up who waits, just before the socket is closed; once.

        `fileno` is the socket's descriptor, or negative when libpq has already closed it: then the number may belong
        to somebody else by now, whose waits are none of our business.
        """
        if fileno >= 0:
            trio.lowlevel.notify_closing(fileno)
        trio.lowlevel.notify_closing(self._epoll.fileno())
        self._epoll.close()


async def drive(generator: PQGen[RV], waiter: SocketWaiter) -> RV:
    """Run a generator of an established connection to its end and return its value.

    Always lets other tasks run. Cancelled, it leaves the generator where it stands: the caller settles what the server
    still does. Raises what the generator raises, and `psycopg.OperationalError` when somebody closes the connection.
    """
    turn_began = time.monotonic()
    waited = False
    try:
        wanted = next(generator)
        while True:
            # A socket to write to is nearly always writable, and asking is much cheaper than a turn of the run loop.
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
        # The work is done: a cancellation that arrives now belongs to the caller's next step.
        await trio.lowlevel.cancel_shielded_checkpoint()
    return result


async def drive_connecting(generator: PQGenConn[RV]) -> RV:
    """Run a generator that opens a socket (a connection's, a cancel request's) to its end and return its value.

    Unlike an established connection's, the descriptor may change under way. Cancelled, it closes the half-open socket.
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
        generator.close()
