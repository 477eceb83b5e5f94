"""The broker's TCP server: accepts connections, bounds how many, and ends them in order.

Invariants: one connection's fault ends no other; at most ``max_connections`` are open, and a further one is closed at
once, for a client that waits without a word would wait for ever.
"""

from __future__ import annotations

import socket
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


class TcpServer:
    """A `hermes.part.Listener` for the clients of a node. ::

    with open_tcp_server(node, bounds, Address("127.0.0.1", 7600), most=4096) as server:
        nursery.start_soon(server.serve)
    """

    def __init__(self, node: Node, bounds: Bounds, sockets: Sequence[socket.socket], most: int) -> None:
        self._node = node
        self._bounds = bounds
        self._sockets = sockets
        self._most = most
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
        if len(self._connections) >= self._most:
            self.refused += 1
            await trio.aclose_forcefully(stream)
            return
        peer = ""
        try:
            for option in _OPTIONS:
                stream.socket.setsockopt(*option)
            host, port, *_ = stream.socket.getpeername()
            peer = str(Address(host, port))
        except OSError:
            # The client has left already: the first read will tell.
            pass
        connection = Connection(self._node, self._bounds, stream, peer)
        self._connections.add(connection)
        try:
            await connection.serve()
        finally:
            self._connections.discard(connection)
            self._fewer.set()


@contextmanager
def open_tcp_server(node: Node, bounds: Bounds, address: Address, most: int) -> Iterator[TcpServer]:
    """Listen on ``address`` until the end of the block. Raises `ConfigError` if that is not possible."""
    with open_listeners(address, "HERMESMQ_CLIENT_ADDR") as sockets:
        yield TcpServer(node, bounds, sockets, most)
