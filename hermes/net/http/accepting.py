"""Accepts connections as streams, while there is room for one more.

Invariant: of the errors of accept(2), only one that a bug of ours causes leaves `BoundedListener.accept`. If there is
no room and a client waits, an idle connection is asked to give way.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import trio

from hermes.net.http.lane import ACCEPT_PAUSE
from hermes.net.listen import Fault, whose_fault
from hermes.observe.throttled_log import ThrottledLog

Place = socket.socket | trio.abc.Listener[Any]

# Between two looks for a connection that may give way: connections grow idle as time passes.
_MAKE_ROOM_SECONDS = 0.1


def listener_of(place: Place) -> trio.abc.Listener[Any]:
    """Return the listener of a place: a socket, or a listener that is there already."""
    if isinstance(place, socket.socket):
        return trio.SocketListener(trio.socket.from_stdlib_socket(place))
    return place


class BoundedListener(trio.abc.Listener[trio.abc.HalfCloseableStream]):
    """Accepts only while there is room for a connection. The server of a connection gives the room back.

    If there is no room, ``make_room()`` is called once a client waits to be accepted. ::

        listener = BoundedListener(trio.SocketListener(sock), trio.Semaphore(1000), server.end_the_idlest)
    """

    def __init__(self, listener: trio.abc.Listener[Any], room: trio.Semaphore, make_room: Callable[[], None]) -> None:
        self._listener = listener
        self._room = room
        self._make_room = make_room
        self._throttled = ThrottledLog("hermes.net.http")

    async def accept(self) -> trio.abc.HalfCloseableStream:
        """Wait for room and for a client. Raises `OSError` only if the socket is no listening socket."""
        while True:
            try:
                await self._acquire_room()
                # Whatever ends the wait, a cancellation too, the room must be free for the next.
                try:
                    accepted: trio.abc.HalfCloseableStream = await self._listener.accept()
                except BaseException:
                    self._room.release()
                    raise
            except OSError as error:
                if whose_fault(error) is Fault.OURS:
                    raise
                # The machine lacks descriptors or memory: connections that end give them back.
                self._throttled.warn("cannot accept for a moment", error=str(error))
                await trio.sleep(ACCEPT_PAUSE)
            else:
                return accepted

    async def _acquire_room(self) -> None:
        # Only a socket tells that a client waits. The listener of a simulated network waits for room.
        while self._room.value == 0 and isinstance(self._listener, trio.SocketListener):
            await trio.lowlevel.wait_readable(self._listener.socket)
            self._make_room()
            with trio.move_on_after(_MAKE_ROOM_SECONDS):
                await self._room.acquire()
                return
        await self._room.acquire()

    async def aclose(self) -> None:
        """Accept nothing more."""
        self._throttled.write_rest()
        await self._listener.aclose()
