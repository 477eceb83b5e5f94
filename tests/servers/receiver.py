"""An HTTP/1.1 server that takes what is posted to it, remembers it, and answers what a test wants.

    async with open_receiver() as receiver:
        receiver.answer = lambda request: Reply(503, {"retry-after": "7"})
        ...  # post to receiver.url; look at receiver.requests

Invariant: a request is remembered when all of its body has come, before it is answered.
"""

from __future__ import annotations

import gzip
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import h11
import trio
import zstandard
from msgspec import json

from hermes import Event


@dataclass(frozen=True)
class Received:
    """One request: ``raw`` is the body as it came, ``content`` without its content coding."""

    path: str
    headers: Mapping[str, str]
    raw: bytes

    @property
    def content(self) -> bytes:
        coding = self.headers.get("content-encoding")
        if coding == "gzip":
            return gzip.decompress(self.raw)
        return zstandard.ZstdDecompressor().decompress(self.raw) if coding == "zstd" else self.raw

    @property
    def events(self) -> list[Event]:
        if self.headers["content-type"] == "application/x-ndjson":
            return json.Decoder(Event).decode_lines(self.content)
        return json.decode(self.content, type=list[Event])

    @property
    def ids(self) -> list[str]:
        return [event.id for event in self.events]


@dataclass(frozen=True)
class Reply:
    """An answer. ``endless``: its body never ends. ``hang``: it never comes. ``cut``: the connection ends instead."""

    status: int = 204
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    endless: bool = False
    hang: bool = False
    cut: bool = False


Answer = Callable[[Received], Reply]


class Receiver:
    """A running server. ``connections`` counts those that were made."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[Received] = []
        self.connections = 0
        self.answer: Answer = lambda _request: Reply()

    def reply(self, status: int, body: object = b"", **headers: str) -> None:
        """Answer all requests alike; a body that is no bytes is sent as JSON, ``_`` in a header's name is a hyphen."""
        content = body if isinstance(body, bytes) else json.encode(body)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answer = lambda _request: Reply(status, names, content)

    async def serve(self, stream: trio.abc.Stream) -> None:
        self.connections += 1
        connection = h11.Connection(h11.SERVER)
        try:
            while True:
                request = await _read_request(connection, stream)
                if request is None:
                    return
                self.requests.append(request)
                if not await _answer(connection, stream, self.answer(request)):
                    return
                connection.start_next_cycle()
        except (h11.ProtocolError, trio.BrokenResourceError):
            return  # a client that left in the middle


async def _read_request(connection: h11.Connection, stream: trio.abc.Stream) -> Received | None:
    head: Any = None
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(bytes(await stream.receive_some(65536)))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            headers = {name.decode(): value.decode() for name, value in head.headers}
            return Received(head.target.decode(), headers, bytes(body))
        else:
            return None


async def _answer(connection: h11.Connection, stream: trio.abc.Stream, reply: Reply) -> bool:
    """Answer, and return whether the connection goes on."""
    if reply.hang:
        await trio.sleep_forever()
    if reply.cut:
        return False
    headers = [(name, value) for name, value in reply.headers.items()]
    if not reply.endless:
        headers.append(("content-length", str(len(reply.body))))
    response = h11.Response(status_code=reply.status, headers=headers)
    await stream.send_all((connection.send(response) or b"") + (connection.send(h11.Data(reply.body)) or b""))
    while reply.endless:
        await stream.send_all(connection.send(h11.Data(b"x" * 4096)) or b"")
    await stream.send_all(connection.send(h11.EndOfMessage()) or b"")
    return connection.our_state is h11.DONE


@asynccontextmanager
async def open_receiver(path: str = "/in", tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """Run a server on a free loopback port for the length of the block."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    scheme = "https" if tls else "http"
    receiver = Receiver(f"{scheme}://127.0.0.1:{listener.socket.getsockname()[1]}{path}")

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            try:
                if tls is None:
                    await receiver.serve(stream)
                else:
                    await receiver.serve(trio.SSLStream(stream, tls, server_side=True, https_compatible=True))
            except trio.BrokenResourceError:
                return  # a client that does not trust the certificate

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield receiver
        nursery.cancel_scope.cancel()
