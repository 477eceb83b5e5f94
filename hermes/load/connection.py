"""One keep-alive connection of the generator: its socket, the request on it and the answer that comes back.

Invariant: at most one request is outstanding; without a socket the state is CLOSED. Nothing here waits: the client's
loop calls a method when the epoll says that its socket is ready.
"""

from __future__ import annotations

import errno
import os
import socket
from enum import Enum

from hermes.load.response import Answer, Malformed, ResponseReader, Truncated

READ_BYTES = 16 << 10

Address = tuple[str | int | bytes, ...]
"""What ``socket.connect`` takes; its length depends on the family."""


class State(Enum):
    """What a connection is waiting for."""

    CLOSED = "its turn to be opened"
    CONNECTING = "the peer to accept"
    IDLE = "a request to send"
    WAITING = "the first byte of an answer; the request is out"
    PARTIAL = "room for the rest of a request, or the rest of an answer"


class Lost(Exception):
    """The connection cannot be used any more; ``kind`` is the word under which that is counted."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class Connection:
    """A slot of the generator; it is opened again after a loss.

    ``fd`` is -1 without a socket. ``due_at`` and ``sent_at`` are monotonic nanoseconds of the outstanding request
    (``sent_at`` also of an attempt to connect); ``failures`` counts losses since the last answer.
    """

    __slots__ = ("_rest", "due_at", "failures", "fd", "reader", "recv", "send", "sent_at", "sock", "state")

    def __init__(self) -> None:
        self.state = State.CLOSED
        self.due_at = 0
        self.sent_at = 0
        self.failures = 0
        self.fd = -1

    def connect(self, family: socket.AddressFamily, address: Address) -> None:
        """Begin to connect. Raises `Lost` if that fails at once."""
        try:
            self.sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            raise Lost(failure_kind(error)) from error
        self.state = State.CONNECTING
        self.fd = self.sock.fileno()
        self.recv = self.sock.recv
        self.send = self.sock.send
        self.reader = ResponseReader()
        self._rest = b""
        try:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sock.connect(address)
        except BlockingIOError:
            return
        except OSError as error:
            raise Lost(failure_kind(error)) from error

    def connected(self) -> None:
        """Take note that the attempt to connect has ended. Raises `Lost` if it failed."""
        code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise Lost(failure_kind(OSError(code, os.strerror(code))))
        self.state = State.IDLE

    def transmit(self, request: bytes) -> bool:
        """Send a request; False if a part of it has to wait for room (`resume`). Raises `Lost`."""
        self.state = State.WAITING
        try:
            sent = self.send(request)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise Lost(failure_kind(error)) from error
        if sent == len(request):
            return True
        self.state = State.PARTIAL
        self._rest = request[sent:]
        return False

    def resume(self) -> bool:
        """Send more of a request after there was no room; True once all of it is out. Raises `Lost`."""
        try:
            sent = self.send(self._rest)
        except BlockingIOError:
            return False
        except OSError as error:
            raise Lost(failure_kind(error)) from error
        self._rest = self._rest[sent:]
        return not self._rest

    def receive(self) -> bytes:
        """What came in, b"" at the end of the connection. Raises BlockingIOError (nothing did) and `Lost`."""
        try:
            return self.recv(READ_BYTES)
        except BlockingIOError:
            raise
        except OSError as error:
            raise Lost(failure_kind(error)) from error

    def take(self, data: bytes) -> Answer | None:
        """The answer that these bytes complete, b"" being the end of the connection. Raises `Lost`."""
        try:
            answer = self.reader.receive(data) if data else self.reader.receive_eof()
        except Malformed as error:
            raise Lost("malformed") from error
        except Truncated as error:
            raise Lost("truncated" if error.started else "closed") from error
        self.state = State.PARTIAL if answer is None else State.IDLE
        if answer is not None and self._rest:
            # Answered before it was asked in full (a 413, say): the rest of the request is in the way of the next.
            return answer._replace(reusable=False)
        return answer

    def close(self) -> None:
        """Close the socket, if there is one."""
        if self.state is not State.CLOSED:
            self.sock.close()
            self.fd = -1
            self.state = State.CLOSED


def failure_kind(error: OSError) -> str:
    """The word under which an operating system's error is counted."""
    match error.errno:
        case errno.ECONNREFUSED:
            return "refused"
        case errno.ECONNRESET | errno.EPIPE | errno.ECONNABORTED:
            return "reset"
        case errno.ETIMEDOUT:
            return "timeout"
        case errno.ENETUNREACH | errno.EHOSTUNREACH:
            return "unreachable"
        case code:
            return errno.errorcode.get(code or 0, type(error).__name__).lower()
