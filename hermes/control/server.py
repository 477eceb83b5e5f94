"""Hypercorn, one connection at a time: the control lane's end of the handover.

Hypercorn's own ``serve()`` dies of one client's HTTP/2 PRIORITY flood, so its ``TCPServer`` is run for each connection
by us, and what it raises ends that connection alone. Invariant: the number of connections is bounded, and none outlives
`ControlServer.serve`. The fast lane hands over through the channel (or awaits `serve_stream` under TLS); the app runs
`serve` and calls `drain`. Hypercorn stops here.
"""

from __future__ import annotations

import socket
from typing import Any

import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState, LifespanState

_log = structlog.get_logger("hermes.control")

MAX_CONNECTIONS = 1000
_CLOSE_SECONDS = 2.0


class _Replay:
    """A stream that gives back the bytes which were read before it was handed over."""

    def __init__(self, stream: trio.SocketStream, data: bytes) -> None:
        self._stream = stream
        self._data = data
        self.socket = stream.socket

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._data:
            data, self._data = self._data, b""
            return data
        return bytes(await self._stream.receive_some(max_bytes))

    async def send_all(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


class _SecureReplay:
    """The same for a TLS stream whose handshake is done."""

    def __init__(self, stream: trio.SSLStream[trio.SocketStream], data: bytes) -> None:
        self._stream = stream
        self._data = data
        self.transport_stream = stream.transport_stream

    async def do_handshake(self) -> None:
        await trio.lowlevel.checkpoint()

    def selected_alpn_protocol(self) -> str | None:
        protocol: str | None = self._stream.selected_alpn_protocol()
        return protocol

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._data:
            data, self._data = self._data, b""
            return data
        return bytes(await self._stream.receive_some(max_bytes))

    async def send_all(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def aclose(self) -> None:
        await self._stream.aclose()


class ControlServer:
    """Serves an ASGI app on connections that others accepted."""

    def __init__(self, app: Any, *, idle_timeout: float, read_timeout: float, max_body_bytes: int) -> None:
        self._app = ASGIWrapper(app)
        self._config = Config()
        self._config.include_server_header = False
        self._config.keep_alive_timeout = idle_timeout
        self._config.h11_max_incomplete_size = 64 * 2**10
        self._config.h2_max_concurrent_streams = 32
        self._config.wsgi_max_body_size = max_body_bytes
        self._config.read_timeout = max(1, round(max(idle_timeout, read_timeout)))
        self._context = WorkerContext(None)
        self._state: LifespanState = {}
        self._drained = trio.Event()
        self._draining = False
        self._connections = 0
        self._send, self._receive = trio.open_memory_channel[tuple[socket.socket, bytes]](64)

    def hand_over(self, sock: socket.socket, data: bytes) -> None:
        """Take a connection with the bytes that were read from it; close it where there are too many."""
        try:
            self._send.send_nowait((sock, data))
        except (trio.WouldBlock, trio.ClosedResourceError):
            _log.warning("too many control connections: one was closed", limit=MAX_CONNECTIONS)
            sock.close()

    async def serve(self) -> None:
        """Serve what is handed over until cancelled."""
        limit = trio.CapacityLimiter(MAX_CONNECTIONS)
        async with trio.open_nursery() as nursery:
            async for sock, data in self._receive:
                stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
                await limit.acquire_on_behalf_of(stream)
                nursery.start_soon(self._serve_socket, stream, data, limit)

    async def drain(self) -> None:
        """End idle connections, and return once those in the middle of a request have had their answer."""
        self._draining = True
        self._send.close()
        await self._context.terminated.set()
        if self._connections:
            await self._drained.wait()

    async def _serve_socket(self, stream: trio.SocketStream, data: bytes, limit: trio.CapacityLimiter) -> None:
        try:
            await self._contain(_Replay(stream, data))
        finally:
            limit.release_on_behalf_of(stream)
            await trio.aclose_forcefully(stream)

    async def serve_stream(self, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream], data: bytes) -> None:
        """Serve a connection that a task of the fast lane owns, its TLS handshake done, to its end."""
        await self._contain(
            _SecureReplay(stream, data) if isinstance(stream, trio.SSLStream) else _Replay(stream, data)
        )

    async def _contain(self, stream: _Replay | _SecureReplay) -> None:
        self._connections += 1
        server: Any = TCPServer
        try:
            await server(self._app, self._config, self._context, ConnectionState(self._state), stream)
        except* Exception as group:  # noqa: BLE001 - whatever a client provokes in Hypercorn concerns that client alone
            _log.warning("a control connection broke", errors=[repr(error) for error in _leaves(group)])
        finally:
            self._connections -= 1
            if self._draining and not self._connections:
                self._drained.set()


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found.extend(_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return found
