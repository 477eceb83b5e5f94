"""Hypercorn, one connection at a time: the control lane's end of the handover.

Hypercorn's own ``serve()`` dies of one client's HTTP/2 PRIORITY flood, so its ``TCPServer`` is run for each connection
by us, and what it raises ends that connection alone. Invariant: the number of connections is bounded, and none outlives
`ControlServer.serve`. The fast lane hands over through the channel (or awaits `serve_stream` under TLS); the app runs
`serve` and calls `drain`. Hypercorn stops here.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from email.utils import formatdate
from os import urandom
from typing import Any

import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState

from hermes.http.head import MAX_HEAD_BYTES
from hermes.http.lane import Timeouts
from hermes.http.response import problem
from hermes.http.stream import Stream, close_gently

_log = structlog.get_logger("hermes.control")

MAX_CONNECTIONS = 1000
_IDLE_AT_STOP_SECONDS = 0.1  # what Hypercorn takes from the last byte of a request to its first answer, and more
_LINGER_AT_STOP_SECONDS = 0.25  # a client does not look at a connection that it holds in reserve: a stop would wait
_RECV_BYTES = 16 * 2**10  # so that a flood of tiny HTTP/2 frames keeps the loop for milliseconds at a time, no longer


# How Hypercorn itself refuses what it cannot read; an answer of the app to such a request would have a body.
_REFUSAL = re.compile(rb"HTTP/1\.1 ([45]\d\d) \r\ncontent-length: 0\r\nconnection: close\r\n", re.IGNORECASE)
_TOO_LARGE = 431


class _Replay:
    """A stream as Hypercorn sees it: it gives back the bytes that were read before; whoever owns the stream closes it.

    ``lifetime`` is what Hypercorn has to run in. It ends when Hypercorn closes the stream (by itself it would wait for
    its timers), or when the client does not read for ``patience`` seconds (by itself it would try the next response).
    A client that sends nothing for ``silence`` seconds is given up, but not while it is sent something: by itself
    Hypercorn would end a response that goes on for long.
    """

    def __init__(self, stream: Stream, data: bytes, *, patience: float, silence: float) -> None:
        self._stream = stream
        self._data = data
        self._patience = patience
        self._silence = silence
        self._sending = trio.CancelScope()
        self._receiving = trio.CancelScope()
        self._replayed = self._draining = False
        self._answering = 0
        self.context = WorkerContext(None)
        self.closed = False
        self.lifetime = trio.CancelScope()
        transport = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        self.socket: trio.socket.SocketType = transport.socket

    async def receive_some(self, _max_bytes: int | None = None) -> bytes:
        if not self._data:
            self._replayed = True
            if self._draining:
                await self.context.terminated.set()
            with trio.fail_at(self._patient_until()) as self._receiving:
                return bytes(await self._stream.receive_some(_RECV_BYTES))
        await trio.lowlevel.checkpoint()
        data, self._data = self._data[:_RECV_BYTES], self._data[_RECV_BYTES:]
        return data

    async def send_all(self, data: bytes) -> None:
        if self.closed:
            raise trio.ClosedResourceError
        try:
            with trio.fail_after(self._patience) as self._sending:  # for Hypercorn shields its sends from cancellation
                await self._stream.send_all(_put_into_words(data))
            self._receiving.deadline = self._patient_until()
        except (trio.BrokenResourceError, trio.TooSlowError) as error:
            self.lifetime.cancel()
            raise trio.BrokenResourceError from error

    async def drain(self) -> None:
        """End as soon as the connection is idle, which it is not before what was handed over with it is answered.

        Hypercorn ends it then, unless it has lost the task that would: a request that ends cancels its own tasks, and
        at times the one that Hypercorn is just about to start for the time after it.
        """
        self._draining = True
        if self._replayed:
            await self.context.terminated.set()
            self._receiving.deadline = self._patient_until()

    @contextmanager
    def answering(self) -> Iterator[None]:
        """While a request of this connection is answered."""
        self._answering += 1
        self._receiving.deadline = self._patient_until()
        try:
            yield
        finally:
            self._answering -= 1
            self._receiving.deadline = self._patient_until()

    def _patient_until(self) -> float:
        """When the client has been silent for too long, from now on."""
        idle_at_the_end = self._draining and not self._answering
        return trio.current_time() + (_IDLE_AT_STOP_SECONDS if idle_at_the_end else self._silence)

    async def aclose(self) -> None:
        # Without a checkpoint: Hypercorn also closes within the task of a request that has just been cancelled.
        self.closed = True
        self._sending.cancel()
        self.lifetime.cancel()


class _PlainReplay(_Replay):
    """Without TLS."""

    async def send_eof(self) -> None:
        """Whoever owns the stream does it."""


class _SecureReplay(_Replay):
    """With TLS, whose handshake is done."""

    @property
    def transport_stream(self) -> _Replay:
        return self

    async def do_handshake(self) -> None:
        await trio.lowlevel.checkpoint()

    def selected_alpn_protocol(self) -> str | None:
        assert isinstance(self._stream, trio.SSLStream)  # noqa: S101 - whoever made it has looked
        protocol: str | None = self._stream.selected_alpn_protocol()
        return protocol


class ControlServer:
    """Serves an ASGI app on connections that others accepted."""

    def __init__(self, app: Any, timeouts: Timeouts, max_body_bytes: int) -> None:
        self._app = ASGIWrapper(app)
        self._config = Config()
        self._config.include_server_header = False
        self._config.keep_alive_timeout = timeouts.idle
        self._config.h11_max_incomplete_size = MAX_HEAD_BYTES
        self._config.h2_max_concurrent_streams = 32
        self._config.keep_alive_max_requests = 10**9  # a client that posts events over HTTP/2 goes on and on
        self._config.wsgi_max_body_size = max_body_bytes
        self._config.read_timeout = None  # `_Replay` has it
        self._silence = max(timeouts.idle, timeouts.body)
        self._patience = timeouts.write
        self._drained = trio.Event()
        self._draining = False
        self._connections = 0
        self._streams: set[_Replay] = set()
        self._send, self._receive = trio.open_memory_channel[tuple[socket.socket, bytes]](MAX_CONNECTIONS)

    def hand_over(self, sock: socket.socket, data: bytes) -> None:
        """Take a connection with the bytes that were read from it; close it where there are too many, or at the end."""
        if self._draining:
            sock.close()
            return
        if self._connections >= MAX_CONNECTIONS:
            _log.warning("a control connection was closed: there are too many", limit=MAX_CONNECTIONS)
            sock.close()
            return
        self._connections += 1
        self._send.send_nowait((sock, data))

    async def serve(self) -> None:
        """Serve what is handed over until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                async for sock, data in self._receive:
                    stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
                    nursery.start_soon(self._serve_socket, stream, data)
        finally:
            with suppress(trio.WouldBlock, trio.EndOfChannel):
                while True:
                    self._receive.receive_nowait()[0].close()

    async def drain(self) -> None:
        """End idle connections, and return once those in the middle of a request have had their answer."""
        self._draining = True
        self._send.close()
        for stream in tuple(self._streams):
            await stream.drain()
        if self._connections:
            await self._drained.wait()

    async def serve_stream(self, stream: Stream, data: bytes) -> None:
        """Serve a connection that a task of the fast lane owns and closes, its TLS handshake done."""
        self._connections += 1
        try:
            if isinstance(stream, trio.SSLStream):
                await self._contain(_SecureReplay(stream, data, patience=self._patience, silence=self._silence))
            else:
                await self._contain(_PlainReplay(stream, data, patience=self._patience, silence=self._silence))
        finally:
            self._forget_connection()

    async def _serve_socket(self, stream: trio.SocketStream, data: bytes) -> None:
        try:
            await self._contain(_PlainReplay(stream, data, patience=self._patience, silence=self._silence))
        finally:
            self._forget_connection()
            await (close_gently(stream, _LINGER_AT_STOP_SECONDS) if self._draining else close_gently(stream))

    def _forget_connection(self) -> None:
        self._connections -= 1
        if self._draining and not self._connections:
            self._drained.set()

    async def _contain(self, stream: _Replay) -> None:
        server: Any = TCPServer
        self._streams.add(stream)
        try:
            if self._draining:
                await stream.drain()
            with stream.lifetime:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_break_when_cancelled, stream)
                    app = _watch(self._app, stream)
                    await server(app, self._config, stream.context, ConnectionState({}), stream)
        except* Exception as group:  # noqa: BLE001 - whatever a client provokes in Hypercorn concerns that client alone
            _log.warning("a control connection broke", errors=[repr(error) for error in _leaves(group)])
        finally:
            self._streams.discard(stream)


def _watch(app: ASGIWrapper, stream: _Replay) -> Callable[..., Awaitable[None]]:
    """The app, of whose requests the stream knows whether one is being answered."""

    async def watched(*arguments: Any) -> None:
        with stream.answering():
            await app(*arguments)

    return watched


def _put_into_words(data: bytes) -> bytes:
    """What is sent: a refusal of Hypercorn's own, which says nothing, becomes problem details."""
    refusal = _REFUSAL.match(data)
    if refusal is None:
        return data
    status = int(refusal[1])
    too_large = f"the request's headers are larger than {MAX_HEAD_BYTES} bytes"
    detail = too_large if status == _TOO_LARGE else "the request is malformed"
    response = problem(status, detail, {"Connection": "close"})
    return response.render(formatdate(usegmt=True).encode(), urandom(8).hex().encode())


async def _break_when_cancelled(stream: _Replay) -> None:
    """Close the socket if the end does not come from Hypercorn: that ends what it shields from cancellation."""
    try:
        await trio.sleep_forever()
    finally:
        if not stream.closed:
            stream.socket.close()


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found.extend(_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return found
