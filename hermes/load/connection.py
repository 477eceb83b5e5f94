"""One keep-alive connection of the generator: its socket, its outstanding request and the answer to it.

Invariant: at most one request is outstanding; without a socket the state is CLOSED. No method waits: the reactor calls
one when the epoll reports that the socket is ready.
"""

from __future__ import annotations

import errno
import os
import socket
from enum import Enum

from hermes.load.response import Answer, Malformed, ResponseReader, Truncated

# An answer of Hermes is under 1 KiB; 16 KiB takes a long one in a single read without a large buffer a call.
READ_BYTES = 16 << 10

Address = tuple[str | int | bytes, ...]
"""The argument of ``socket.connect``; its length depends on the family."""


class State(Enum):
    """The event for which a connection waits."""

    CLOSED = "its turn to be opened"
    CONNECTING = "the peer to accept"
    IDLE = "a request to send"
    WAITING = "the first byte of an answer; the request is out"
    PARTIAL = "room for the rest of a request, or the rest of an answer"


class Lost(Exception):
    """The connection can no longer be used; the tally counts the loss under ``kind``."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class Connection:
    """One of the generator's connections; it is opened again after a loss.

    ``fd`` is -1 without a socket. ``due_at`` and ``sent_at`` are monotonic nanoseconds of the outstanding request
    (``sent_at`` also of an attempt to connect); ``failures`` counts losses since the last answer. The reactor drives
    one like this::

        connection.connect(family, address)   # then wait until the socket is writable
        connection.connected()
        connection.transmit(request)          # then wait until the socket is readable
        answer = connection.take(connection.receive())
    """

    __slots__ = ("_unsent", "due_at", "failures", "fd", "reader", "recv", "send", "sent_at", "sock", "state")

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
        # Bound methods, kept because the reactor calls them once a request; the look-up would cost as much as a call.
        self.recv = self.sock.recv
        self.send = self.sock.send
        self.reader = ResponseReader()
        self._unsent = b""
        try:
            # Without TCP_NODELAY a request that needs two sends would wait for the server's delayed ACK, up to 40 ms.
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sock.connect(address)
        except BlockingIOError:
            return
        except OSError as error:
            raise Lost(failure_kind(error)) from error

    def connected(self) -> None:
        """Finish the attempt to connect. Raises `Lost` if it failed."""
        # A non-blocking connect reports its result here; the socket is writable in both cases.
        # SO_ERROR holds the result and clears it: ask once.
        code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise Lost(failure_kind(OSError(code, os.strerror(code))))
        self.state = State.IDLE

    def transmit(self, request: bytes) -> bool:
        """Send a request. Returns False if the rest has to wait for room (`resume`). Raises `Lost`."""
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
        self._unsent = request[sent:]
        return False

    def resume(self) -> bool:
        """Send more of a request after there was no room. Returns True once all of it is out. Raises `Lost`."""
        try:
            sent = self.send(self._unsent)
        except BlockingIOError:
            return False
        except OSError as error:
            raise Lost(failure_kind(error)) from error
        self._unsent = self._unsent[sent:]
        return not self._unsent

    def receive(self) -> bytes:
        """Return the received bytes, b"" at the end of the connection.

        Raises BlockingIOError if nothing has arrived, and `Lost`.
        """
        try:
            return self.recv(READ_BYTES)
        except BlockingIOError:
            raise
        except OSError as error:
            raise Lost(failure_kind(error)) from error

    def take(self, data: bytes) -> Answer | None:
        """Return the answer that ``data`` completes, or None. ``data`` is b"" at the end of the connection.

        Raises `Lost`.
        """
        try:
            answer = self.reader.receive(data) if data else self.reader.receive_eof()
        except Malformed as error:
            raise Lost("malformed") from error
        except Truncated as error:
            raise Lost("truncated" if error.started else "closed") from error
        self.state = State.PARTIAL if answer is None else State.IDLE
        if answer is not None and self._unsent:
            # The server answered before it had the whole request (with a 413, say). The rest of the request would
            # be read as the start of the next one.
            return answer._replace(reusable=False)
        return answer

    def close(self) -> None:
        """Close the socket, if there is one."""
        # `close` may be called twice: by the loss and at the end of the run.
        if self.state is not State.CLOSED:
            self.sock.close()
            self.fd = -1
            self.state = State.CLOSED


def failure_kind(error: OSError) -> str:
    """Return the word under which the tally counts an operating system's error.

    >>> failure_kind(ConnectionRefusedError(errno.ECONNREFUSED, "refused"))
    'refused'
    """
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
