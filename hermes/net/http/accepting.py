"""Accepting connections as streams: while there is room for one, whatever accept(2) says.

Invariant: only an error that a bug of ours causes leaves `BoundedListener.accept`; where there is no room and a client
waits, an idle connection is asked to give way.
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

_MAKE_ROOM_SECONDS = 0.1  # between two looks for a connection that may give way


def listener_of(place: Place) -> trio.abc.Listener[Any]:
    """The listener of a place where clients come from."""
    if isinstance(place, socket.socket):
        return trio.SocketListener(trio.socket.from_stdlib_socket(place))
    return place


class BoundedListener(trio.abc.Listener[trio.abc.HalfCloseableStream]):
    """Accepts only while there is room for a connection; whoever serves it gives the room back.

    Where there is none, ``make_room`` is called once somebody waits to be accepted.
    """

    def __init__(self, listener: trio.abc.Listener[Any], room: trio.Semaphore, make_room: Callable[[], None]) -> None:
        self._listener = listener
        self._room = room
        self._make_room = make_room
        self._throttled = ThrottledLog("hermes.net.http")

    async def accept(self) -> trio.abc.HalfCloseableStream:
        """Wait for room and for a client. Raises `OSError` only for a listener that is none."""
        while True:
            try:
                await self._acquire_room()
                try:
                    accepted: trio.abc.HalfCloseableStream = await self._listener.accept()
                except BaseException:
                    self._room.release()
                    raise
            except OSError as error:
                if whose_fault(error) is Fault.OURS:
                    raise
                self._throttled.warn("cannot accept for a moment", error=str(error))
                await trio.sleep(ACCEPT_PAUSE)
            else:
                return accepted

    async def _acquire_room(self) -> None:
        # Who waits to be accepted is known of a socket alone; the listener of a simulated network waits for room.
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
