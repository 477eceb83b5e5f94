"""The door: sockets of the kernel's memory between the simulated network and the reactor, which wants descriptors.

    client ── simulated network (latency, fragments, cuts) ── porter ── Unix socket ── the reactor's epoll

A porter carries bytes both ways, at once, and passes on how each side ends: its last byte, its close, a reset. Nothing
waits for the kernel, for what one end of a Unix socket sends is readable at the other when the call returns, so a run
is as repeatable as without. Invariant: what the service has sent after its crash reaches no client, for the network
resets the streams first. Opened for one life of the service.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count

import trio

from tests.simulation.network import SimulatedListener, SimulatedStream

_LOOK_SECONDS = 0.05
_FLUSH_SECONDS = 1.0
_NUMBERS = count()
_BACKLOG = 1024


class Door:
    """``socket`` listens, for the service, which closes it. ``left_open`` are the connections that it did not close."""

    def __init__(self, listener: SimulatedListener) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.left_open: list[int] = []
        self._listener = listener
        self._name = f"\0hermes-simulation-{os.getpid()}-{next(_NUMBERS)}"
        self._inner: dict[int, trio.SocketStream] = {}
        self.socket.bind(self._name)
        self.socket.listen(_BACKLOG)
        self.socket.setblocking(False)

    async def admit(self, porters: trio.Nursery) -> None:
        """Bring everybody in who connects, each with a porter."""
        while True:
            stream = await self._listener.accept()
            inner = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                inner.bind(f"{self._name}/{stream.number}")  # a client has an address
                inner.connect(self._name)
            except OSError:  # the service listens no more
                inner.close()
                stream.reset()
            else:
                inner.setblocking(False)
                porters.start_soon(self._carry, stream, trio.SocketStream(trio.socket.from_stdlib_socket(inner)))

    def look(self) -> None:
        """The service has ended: note what it has not closed."""
        self.left_open = [number for number, inner in self._inner.items() if not _has_hung_up(inner)]

    async def wait_empty(self) -> None:
        """Return when every porter has done its work."""
        while self._inner:  # noqa: ASYNC110 - on the virtual clock that costs nothing
            await trio.sleep(_LOOK_SECONDS)

    async def _carry(self, stream: SimulatedStream, service: trio.SocketStream) -> None:
        """One connection, until it has ended on both sides."""
        self._inner[stream.number] = service
        try:
            async with service, trio.open_nursery() as both:
                both.start_soon(_carry_in, stream, service, both.cancel_scope)
                both.start_soon(_carry_out, stream, service, both.cancel_scope)
                await trio.sleep_forever()
        finally:
            del self._inner[stream.number]
            with trio.CancelScope(shield=True):
                await stream.aclose()


@asynccontextmanager
async def open_door(listener: SimulatedListener) -> AsyncIterator[Door]:
    """A door where those come out who connect to ``listener``."""
    door = Door(listener)
    try:
        async with trio.open_nursery() as porters:
            porters.start_soon(door.admit, porters)
            yield door
            door.socket.close()  # the service has, unless it never came up
            door.look()
            with trio.move_on_after(_FLUSH_SECONDS):  # what was sent arrives, as from a process that has ended
                await door.wait_empty()
            porters.cancel_scope.cancel()
    finally:
        door.socket.close()


async def _carry_in(stream: SimulatedStream, service: trio.SocketStream, over: trio.CancelScope) -> None:
    try:
        while data := await stream.receive_some():
            await service.send_all(data)
        await service.send_eof()
    except trio.BrokenResourceError:
        over.cancel()  # the client has reset it, or the service has closed it with bytes unread
    except trio.ClosedResourceError:
        over.cancel()  # a crash: the network has ended it


async def _carry_out(stream: SimulatedStream, service: trio.SocketStream, over: trio.CancelScope) -> None:
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while data := await service.receive_some():
            await stream.send_all(data)
        if not _has_hung_up(service):
            await stream.send_eof()
            while not _has_hung_up(service):  # noqa: ASYNC110 - of a socket at its end Trio says no more
                await trio.sleep(_LOOK_SECONDS)
    over.cancel()


def _has_hung_up(service: trio.SocketStream) -> bool:
    """Whether the other end is closed, and not only done with sending; or this one is."""
    descriptor = service.socket.fileno()
    if descriptor < 0:
        return True
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(events & select.POLLHUP for _, events in poll.poll(0))
