"""The broker's TCP server: accepts connections, bounds how many, and ends them in order.

Invariants: one connection's fault ends no other; at most ``max_connections`` are open, and a further one is closed at
once, for a client that waits without a word would wait for ever.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import trio

from hermes.base.repeated_event import RepeatedEvent
from hermes.broker.node import Bounds, Node
from hermes.broker.tcp.connection import Connection
from hermes.config import Address
from hermes.net.listen import addresses_of, open_listeners

# Keepalive finds a peer whose machine has gone: after 15 s of silence, then every 5 s, three times.
_OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000),
)

# As long as a frame may take once it has begun would be long for a few hundred bytes.
_HANDSHAKE_SECONDS = 10.0


class TcpServer:
    """A `hermes.part.Listener` for the clients of a node. ::

    with open_tcp_server(node, bounds, Address("127.0.0.1", 7600), most=4096) as server:
        nursery.start_soon(server.serve)
    """

    def __init__(
        self,
        node: Node,
        bounds: Bounds,
        sockets: Sequence[socket.socket],
        most: int,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._node = node
        self._bounds = bounds
        self._sockets = sockets
        self._most = most
        self._tls = tls
        # Connections whose client has not finished the handshake are not in the set yet.
        self._open = 0
        self._connections: set[Connection] = set()
        self._accepting = trio.CancelScope()
        self._fewer = RepeatedEvent()
        self.addresses = addresses_of(sockets)
        """The addresses where clients connect, as host and port."""
        self.refused = 0
        """Connections that were one too many."""

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    async def serve(self) -> None:
        """Serve until cancelled."""
        listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(each)) for each in self._sockets]
        async with trio.open_nursery() as nursery:
            with self._accepting:
                await trio.serve_listeners(self._serve_stream, listeners, handler_nursery=nursery)
            # After the end of accepting: connections in the nursery go on until they are drained.
            await trio.sleep_forever()

    async def drain(self) -> None:
        """Accept no more clients, answer their requests, and close their connections."""
        self._accepting.cancel()
        for connection in list(self._connections):
            connection.stop()
        while self._connections:
            await self._fewer.wait()

    async def _serve_stream(self, stream: trio.SocketStream) -> None:
        if self._open >= self._most:
            self.refused += 1
            await trio.aclose_forcefully(stream)
            return
        self._open += 1
        try:
            await self._serve_client(stream)
        finally:
            self._open -= 1

    async def _serve_client(self, stream: trio.SocketStream) -> None:
        peer = ""
        try:
            for option in _OPTIONS:
                stream.socket.setsockopt(*option)
            host, port, *_ = stream.socket.getpeername()
            peer = str(Address(host, port))
        except OSError:
            # The client has left already: the first read will tell.
            pass
        opened = stream if self._tls is None else await _shake_hands(stream, self._tls)
        if opened is None:
            return
        connection = Connection(self._node, self._bounds, opened, peer)
        self._connections.add(connection)
        try:
            await connection.serve()
        finally:
            self._connections.discard(connection)
            self._fewer.set()


async def _shake_hands(stream: trio.SocketStream, tls: ssl.SSLContext) -> trio.SSLStream[trio.SocketStream] | None:
    """The stream behind TLS; None if the client speaks no TLS, distrusts the certificate, or takes too long."""
    # Without the notice of the end: clients that are killed send none, and every frame has its length.
    encrypted = trio.SSLStream(stream, tls, server_side=True, https_compatible=True)
    try:
        with trio.fail_after(_HANDSHAKE_SECONDS):
            await encrypted.do_handshake()
    except (trio.BrokenResourceError, trio.TooSlowError):
        await trio.aclose_forcefully(stream)
        return None
    return encrypted


@contextmanager
def open_tcp_server(
    node: Node, bounds: Bounds, address: Address, most: int, tls: ssl.SSLContext | None = None
) -> Iterator[TcpServer]:
    """Listen on ``address``, behind ``tls`` if it is given, until the end of the block. Raises `ConfigError`."""
    with open_listeners(address, "HERMESMQ_CLIENT_ADDR") as sockets:
        yield TcpServer(node, bounds, sockets, most, tls)
