"""A client that sends exactly the bytes it is told, and reads HTTP/1.1 responses one by one.

That is what tests of bad input need; no library would send such requests. Invariant: every wait ends within
``patience`` seconds, so a server that says nothing fails the test instead of hanging it. Used by the integration tests.
"""

from __future__ import annotations

import json
import re
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from tests.net.http.answer import Answer as Answer
from tests.service import Service

PATIENCE = 10.0


class Client:
    """One connection."""

    def __init__(self, stream: trio.abc.Stream, patience: float = PATIENCE) -> None:
        self.stream = stream
        self.patience = patience
        self.buffer = b""

    async def send(self, *parts: bytes) -> None:
        with trio.fail_after(self.patience):
            await self.stream.send_all(b"".join(parts))

    async def answer(self) -> Answer:
        """The next response, an interim one too. Raises `EOFError` where the connection ends before it."""
        head, self.buffer = await self._until(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        matched = re.match(r"HTTP/1\.[01] (\d{3})", lines[0])
        assert matched, f"no status line: {head!r}"
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        status = int(matched[1])
        if headers.get("transfer-encoding") == "chunked":
            return Answer(status, headers, await self._chunked())
        length = 0 if status < 200 or status == 204 else int(headers["content-length"])
        while len(self.buffer) < length:
            await self._more()
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return Answer(status, headers, body)

    async def answers(self, count: int) -> list[Answer]:
        return [await self.answer() for _ in range(count)]

    async def ask(self, *parts: bytes) -> Answer:
        """Send, and return the next response."""
        await self.send(*parts)
        return await self.answer()

    async def rest(self) -> bytes:
        """What comes until the server ends the connection, by an end of stream or a reset."""
        with trio.fail_after(self.patience):
            try:
                while data := await self.stream.receive_some(65536):
                    self.buffer += data
            except trio.BrokenResourceError:
                pass  # a reset ends it as well
        data, self.buffer = self.buffer, b""
        return data

    async def send_eof(self) -> None:
        assert isinstance(self.stream, trio.SocketStream)
        await self.stream.send_eof()

    async def reset(self) -> None:
        """End the connection with a RST."""
        assert isinstance(self.stream, trio.SocketStream)
        self.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await self.stream.aclose()

    async def _until(self, mark: bytes) -> tuple[bytes, bytes]:
        while mark not in self.buffer:
            await self._more()
        found, _, rest = self.buffer.partition(mark)
        return found, rest

    async def _more(self) -> None:
        with trio.fail_after(self.patience):
            data = await self.stream.receive_some(65536)
        if not data:
            raise EOFError(f"the connection ended after {self.buffer!r}")
        self.buffer += data

    async def _chunked(self) -> bytes:
        body = b""
        while True:
            line, self.buffer = await self._until(b"\r\n")
            size = int(line, 16)
            while len(self.buffer) < size + 2:
                await self._more()
            body += self.buffer[:size]
            self.buffer = self.buffer[size + 2 :]
            if not size:
                return body


@asynccontextmanager
async def connect(service: Service, patience: float = PATIENCE) -> AsyncIterator[Client]:
    """A connection to the service."""
    stream = await trio.open_tcp_stream(service.host, service.port)
    async with stream:
        yield Client(stream, patience)


def event(name: str = "1", **changes: Any) -> bytes:
    """The JSON of a valid event with the id ``name``."""
    fields = {"id": name, "user_id": "me", "type": "song_played", "timestamp": 1700000000, "payload": {"n": 1}}
    return json.dumps(fields | changes).encode()


def post(body: bytes, *lines: bytes, path: bytes = b"/events") -> bytes:
    """A whole ``POST /events`` with its length; ``lines`` are further header lines."""
    head = [b"POST %b HTTP/1.1" % path, b"Host: test", b"Content-Length: %d" % len(body), *lines]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def get(path: bytes, *lines: bytes) -> bytes:
    """A whole GET request."""
    return b"\r\n".join([b"GET %b HTTP/1.1" % path, b"Host: test", *lines]) + b"\r\n\r\n"
