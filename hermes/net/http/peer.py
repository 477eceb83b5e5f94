"""One socket of the reactor with its connection: the events that the epoll reports, and the deadline.

Invariant: `Peer.interest` has the events that the epoll watches for this socket; the reactor changes both together.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from math import inf

from hermes.net.http.connection import Connection
from hermes.net.http.lane import Lane, Timeouts
from hermes.net.http.phase import Phase, allowance
from hermes.net.listen import address_of

READ = select.EPOLLIN | select.EPOLLRDHUP


class Peer:
    """A client. ``ready(peer)`` is called when a response that was waited for is in ``connection.out``."""

    __slots__ = ("_ready", "calm", "connection", "deadline", "fd", "interest", "lingering", "sock", "timed")

    def __init__(self, sock: socket.socket, lane: Lane, ready: Callable[[Peer], None]) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.interest = READ
        # True: the last answer is sent, our side is closed, and the client has a moment to close its side.
        self.lingering = False
        # True between two requests, with nothing unsent. Nearly every connection is so, and has a short way.
        self.calm = True
        self.deadline = 0.0
        # The phase to which the deadline belongs. None: the deadline has to be set anew.
        self.timed: Phase | None = Phase.IDLE
        self._ready = ready
        self.connection = Connection(lane, self._tell_ready, self._address)

    def interest_now(self) -> int:
        """Return the events that the connection needs to hear of now."""
        connection = self.connection
        # A deferred connection can be written to, so the next poll reports it, after the others.
        interest = select.EPOLLOUT if connection.out or connection.deferred else 0
        if connection.phase is not Phase.CLOSING and connection.wants_bytes:
            return interest | READ
        # The end of the client's side calls its waits off, though nothing more is read.
        return interest | select.EPOLLRDHUP if connection.waiting and self.interest else interest

    @property
    def held_back(self) -> bool:
        """Whether the client has to read responses, or to wait for its turn, before its next request is read."""
        # Not in a body: its chunks wait for a turn again and again, and each wait would earn the client new time.
        connection = self.connection
        return bool(connection.out) or (connection.deferred and connection.phase is not Phase.BODY)

    def set_deadline(self, now: float, timeouts: Timeouts) -> None:
        """Give a phase that has begun its time. A phase that goes on keeps its deadline: slow bytes earn no time."""
        connection = self.connection
        phase = None if connection.waiting else connection.phase
        if connection.out or (self.held_back and not connection.waiting):
            # The connection goes on once the client reads the responses.
            phase = Phase.CLOSING
        if phase is not self.timed or phase is Phase.IDLE:
            self.timed = phase
            self.deadline = now + self._allowance(timeouts)

    def _allowance(self, timeouts: Timeouts) -> float:
        connection = self.connection
        if connection.out:
            return timeouts.write
        if connection.waiting:
            return inf
        return timeouts.write if self.held_back else allowance(connection.phase, timeouts)

    def _address(self) -> str:
        return address_of(self.sock)

    def _tell_ready(self) -> None:
        self._ready(self)
