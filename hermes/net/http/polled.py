"""The listening sockets of the reactor, in its epoll.

Invariant: of the errors of accept(2), only one that a bug of ours causes leaves `PolledListeners.accept`.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from hermes.net.http.lane import ACCEPT_PAUSE
from hermes.net.listen import Fault, whose_fault
from hermes.observe.throttled_log import ThrottledLog

# Connections that the kernel reports as lost, one after the other. More may follow without end, so pause.
_LOST_IN_A_ROW = 16


class PolledListeners:
    """Accepts clients while the sockets are watched. ``connections()`` is the number of open connections, for the log.

    ::

        listeners = PolledListeners(sockets, lambda: len(peers))
        listeners.register(epoll)
        listeners.watch()
        for sock in listeners.accept(now):  # once the epoll reports a descriptor that belongs to no connection
            ...
    """

    def __init__(self, sockets: Sequence[socket.socket], connections: Callable[[], int]) -> None:
        self._sockets = list(sockets)
        self._connections = connections
        self._epoll: select.epoll | None = None
        self._watched = False
        self._again_at = 0.0
        self._throttled = ThrottledLog("hermes.net.http")

    def register(self, epoll: select.epoll) -> None:
        """Add the sockets to an epoll, which does not watch them yet."""
        self._epoll = epoll
        for sock in self._sockets:
            epoll.register(sock.fileno(), 0)

    def watch(self) -> None:
        """Report clients that wait to be accepted, unless a pause has not ended."""
        # A connection that ends during a pause must not end the pause: what the machine lacks may still be missing.
        if not self._again_at:
            self._set(True)

    def ignore(self) -> None:
        """Report no client."""
        self._set(False)

    def pause(self, error: OSError, now: float) -> None:
        """Report no client for a moment, because the machine lacks something, and log the reason."""
        self._throttled.warn("cannot accept for a moment", error=str(error), connections=self._connections())
        self._again_at = now + ACCEPT_PAUSE
        self.ignore()

    def end_pause(self, now: float) -> None:
        """Watch again, if there was a pause and its time is over."""
        if self._again_at and now >= self._again_at:
            self._again_at = 0.0
            self.watch()

    def accept(self, now: float) -> Iterator[socket.socket]:
        """Yield the clients that wait, each as a non-blocking socket."""
        for listener in tuple(self._sockets):
            lost = 0
            while True:
                try:
                    sock, _ = listener.accept()
                except BlockingIOError:
                    break
                except OSError as error:
                    fault = whose_fault(error)
                    if fault is Fault.OURS:
                        raise
                    lost += 1
                    if fault is Fault.KERNEL or lost == _LOST_IN_A_ROW:
                        self.pause(error, now)
                        break
                    continue
                sock.setblocking(False)
                # The client may have left already. The first recv tells.
                with suppress(OSError):
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                yield sock

    def anyone_waits(self) -> bool:
        """Return whether a client waits to be accepted."""
        # A poll of its own: the sockets are not watched in the epoll while there is no room.
        waiting = select.poll()
        for sock in self._sockets:
            waiting.register(sock.fileno(), select.POLLIN)
        return bool(waiting.poll(0))

    def close(self) -> None:
        """Close the sockets. No pause ends any more."""
        # No pause is left over: the reactor's timer would watch descriptors that are closed.
        self.ignore()
        self._again_at = 0.0
        for sock in self._sockets:
            sock.close()
        self._sockets = []
        self._throttled.write_rest()

    def _set(self, watched: bool) -> None:
        if watched == self._watched or self._epoll is None:
            return
        self._watched = watched
        for sock in self._sockets:
            # They stay registered: to register needs memory, and memory may be what the machine lacks.
            self._epoll.modify(sock.fileno(), select.EPOLLIN if watched else 0)
