"""A small real HTTP server for the generator's tests: what it answers, and how badly, is up to the test."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

ACCEPTED = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"


@dataclass
class Request:
    """One request: ``number`` counts from 0 over all connections; ``head`` is in lower case."""

    number: int
    head: bytes
    body: bytes


Answer = Callable[[trio.SocketStream, Request], Awaitable[None]]
"""Sends an answer, or part of one; a stream that it closes is left alone."""


@dataclass
class Server:
    """What the server saw; ``deserted`` is set whenever its last connection has ended."""

    port: int
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    connections: int = 0
    open_connections: int = 0
    deserted: trio.Event = field(default_factory=trio.Event)
    requests: list[Request] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/events"

    def die(self) -> None:
        """Close everything at once, the listener too."""
        self.scope.cancel()


@asynccontextmanager
async def open_server(answer: Answer | bytes = ACCEPTED, port: int = 0) -> AsyncIterator[Server]:
    """Serve on a free port of the loopback; a constant answer may be given as its bytes."""

    async def send_constant(stream: trio.SocketStream, request: Request) -> None:
        assert isinstance(answer, bytes)
        await stream.send_all(answer)

    reply = send_constant if isinstance(answer, bytes) else answer

    async def handle(stream: trio.SocketStream) -> None:
        server.connections += 1
        server.open_connections += 1
        received = b""
        try:
            while True:
                while (end := received.find(b"\r\n\r\n")) < 0:
                    received += await receive(stream)
                head = received[:end].lower()
                length = re.search(rb"\r\ncontent-length: (\d+)", head)
                assert length is not None
                total = end + 4 + int(length[1])
                while len(received) < total:
                    received += await receive(stream)
                request = Request(len(server.requests), head, received[end + 4 : total])
                server.requests.append(request)
                received = received[total:]
                await reply(stream, request)
        except (EndOfConnection, trio.BrokenResourceError, trio.ClosedResourceError):
            await trio.aclose_forcefully(stream)
        finally:
            server.open_connections -= 1
            if not server.open_connections:
                server.deserted.set()
                server.deserted = trio.Event()

    async def serve(listeners: list[trio.SocketListener]) -> None:
        with server.scope:
            await trio.serve_listeners(handle, listeners)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
        server = Server(listeners[0].socket.getsockname()[1])
        nursery.start_soon(serve, listeners)
        yield server
        server.die()


class EndOfConnection(Exception):
    """The client has closed its connection."""


async def receive(stream: trio.SocketStream) -> bytes:
    data = await stream.receive_some(65536)
    if not data:
        raise EndOfConnection
    return bytes(data)


async def reset(stream: trio.SocketStream) -> None:
    """Close a connection with a RST."""
    linger_for_no_time = b"\x01\x00\x00\x00\x00\x00\x00\x00"
    stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, linger_for_no_time)
    await trio.aclose_forcefully(stream)
