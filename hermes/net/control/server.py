"""Runs Hypercorn on each connection that the fast lane hands over.

Invariants: the number of connections is bounded, and no connection outlives `ControlServer.serve`; an error of
Hypercorn ends only the connection in which the error happens. The fast lane hands over through the channel, or awaits
`serve_stream` under TLS.
"""

from __future__ import annotations

import socket
import sys
from contextlib import suppress
from email.utils import formatdate
from functools import partial
from math import inf
from os import urandom
from typing import Any

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.logging import Logger
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.typing import ConnectionState

from hermes.net.control.bounded_connection import Patience, PlainReplay, Replay, SecureReplay
from hermes.net.control.places import Places, Use
from hermes.net.http.head import MAX_HEAD_BYTES
from hermes.net.http.lane import LINGER_AT_STOP_SECONDS, Timeouts
from hermes.net.http.response import Response, problem
from hermes.net.http.stream import Stream, close_gently
from hermes.observe.throttled_log import ThrottledLog

_CROWDED = problem(
    503, "too many requests are being answered: send it again", {"Retry-After": "1", "Connection": "close"}
)
# A refusal on a stream takes a task: a client that does not read must not keep the task.
_CROWDED_SECONDS = 1.0


class _HypercornLog(Logger):
    """Hypercorn's log, written as lines of our log."""

    def __init__(self, throttled: ThrottledLog, config: Config) -> None:
        super().__init__(config)
        self._throttled = throttled

    # Hypercorn would write lines without limit, in a form of its own.
    async def exception(self, message: str, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002 - Hypercorn's
        self._throttled.report_bug("a request failed in the framework", sys.exception())


class ControlServer:
    """Serves an ASGI app on connections that the fast lane accepted, ``most`` at once.

    ::

        server = ControlServer(app, timeouts, max_body_bytes, most=1024)
        nursery.start_soon(server.serve)
        server.hand_over(sock, b"GET /health HTTP/1.1\r\n\r\n")
        await server.drain()
    """

    def __init__(self, app: Any, timeouts: Timeouts, max_body_bytes: int, most: int) -> None:
        self.places = Places(most)
        self._app = ASGIWrapper(app)
        self._config = Config()
        self._throttled = ThrottledLog("hermes.net.control")
        self._config.logger_class = partial(_HypercornLog, self._throttled)  # type: ignore[assignment]
        # `_HypercornLog` writes the errors, as lines of our log.
        self._config.errorlog = None
        # The fast lane sends no such header, and both lanes shall answer alike.
        self._config.include_server_header = False
        self._config.keep_alive_timeout = timeouts.idle
        # The fast lane's own bound.
        self._config.h11_max_incomplete_size = MAX_HEAD_BYTES
        self._config.h2_max_concurrent_streams = 32
        # Hypercorn would end a connection after 1,000 requests. A client that posts events over HTTP/2 goes on and on.
        self._config.keep_alive_max_requests = 10**9
        self._config.wsgi_max_body_size = max_body_bytes
        # `Replay` bounds the reads, and knows whether it is the client's turn.
        self._config.read_timeout = None
        self._patience = Patience(timeouts.write, max(timeouts.idle, timeouts.body))
        self._drained = trio.Event()
        self._draining = False
        self._connections = 0
        self._streams: set[Replay] = set()
        # No bound of its own: it holds connections that have a place, and those that gave way since the last turn.
        self._send, self._receive = trio.open_memory_channel[tuple[trio.SocketStream, Replay]](inf)

    def hand_over(self, sock: socket.socket, data: bytes) -> None:
        """Take a connection with the bytes that were read. The idlest connection gives way if there is no place."""
        if self._draining:
            sock.close()
            return
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        replay = PlainReplay(stream, data, self.places, self._patience)
        if not self._take_place(replay):
            # By the socket itself, without a task: a client that cannot take the answer at once gets none.
            with suppress(OSError):
                sock.send(_render(_CROWDED))
            sock.close()
            return
        self._connections += 1
        self._send.send_nowait((stream, replay))

    async def serve(self) -> None:
        """Serve the connections that are handed over, until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                async for stream, replay in self._receive:
                    nursery.start_soon(self._serve_socket, stream, replay)
        finally:
            with suppress(trio.WouldBlock, trio.EndOfChannel):
                # Connections that nobody took from the channel: without this their sockets would stay open.
                while True:
                    self._receive.receive_nowait()[1].give_way()

    def tell_rest(self) -> None:
        """Log how many lines about trouble were held back. Call it when no connection is left."""
        self._throttled.write_rest()

    async def drain(self) -> None:
        """End idle connections, and return once every request in progress is answered."""
        self._draining = True
        # No connection comes after this, so `serve` ends with the connections that wait in the channel.
        self._send.close()
        # A copy: a connection that ends meanwhile leaves the set.
        for stream in tuple(self._streams):
            await stream.drain()
        # Without a connection nobody would set the event.
        if self._connections:
            await self._drained.wait()

    async def serve_stream(self, stream: Stream, data: bytes) -> None:
        """Serve a connection that a task of the fast lane owns and closes, its TLS handshake done."""
        kind = SecureReplay if isinstance(stream, trio.SSLStream) else PlainReplay
        replay = kind(stream, data, self.places, self._patience)
        if not self._take_place(replay):
            with trio.move_on_after(_CROWDED_SECONDS):
                await stream.send_all(_render(_CROWDED))
            return
        self._connections += 1
        try:
            await self._contain(replay)
        finally:
            self.places.leave(replay)
            self._forget_connection()

    async def _serve_socket(self, stream: trio.SocketStream, replay: Replay) -> None:
        try:
            await self._contain(replay)
        finally:
            # Before the gentle close, which may take seconds: a drain waits for answers, not for the client's end.
            self._forget_connection()
            # From here on the connection only waits for its client, and is the first to give way.
            self.places.note(replay, Use.IDLE)
            await (close_gently(stream, LINGER_AT_STOP_SECONDS) if self._draining else close_gently(stream))
            self.places.leave(replay)

    def _take_place(self, replay: Replay) -> bool:
        taken = self.places.take(replay)
        if not taken:
            self._throttled.warn("a control connection was refused: all are busy", limit=self.places.most)
        return taken

    def _forget_connection(self) -> None:
        self._connections -= 1
        if self._draining and not self._connections:
            self._drained.set()

    async def _contain(self, stream: Replay) -> None:
        app = partial(stream.answering.answer, self._app)
        # Hypercorn's own `serve()` ends when one client floods it with HTTP/2 PRIORITY frames. So each connection has a
        # server of its own, and an error ends that connection alone.
        server: Any = TCPServer(app, self._config, stream.context, ConnectionState({}), stream)  # type: ignore[arg-type]
        self._streams.add(stream)
        try:
            if self._draining:
                # The stop began between the handover and now.
                await stream.drain()
            with stream.lifetime:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_break_when_cancelled, stream)
                    await server
        except* Exception as group:  # noqa: BLE001 - whatever a client provokes in Hypercorn concerns that client alone
            # A connection whose socket was closed for a newcomer breaks by our own doing.
            if not stream.gave_way:
                self._throttled.warn("a control connection broke", errors=[repr(error) for error in _leaves(group)])
        finally:
            self._streams.discard(stream)
            stream.answering.release()
            _take_apart(server)


def _render(response: Response) -> bytes:
    # A new id, because nobody has read the request, and so the client's own.
    return response.render(formatdate(usegmt=True).encode(), urandom(8).hex().encode())


def _take_apart(server: Any) -> None:
    """Break the reference cycles of Hypercorn and h2, which hold the last bytes received, up to 160 KiB."""
    # The collector would find the cycles long after: it runs seldom here, because events are in no cycles.
    wrapper = getattr(server, "protocol", None)
    protocol = getattr(wrapper, "protocol", None)
    for part in (getattr(protocol, "connection", None), protocol, wrapper, server):
        if hasattr(part, "__dict__"):
            vars(part).clear()


async def _break_when_cancelled(stream: Replay) -> None:
    """Close the socket when cancelled, unless Hypercorn has ended the connection."""
    # Hypercorn shields its sends from cancellation. A closed socket ends them.
    try:
        await trio.sleep_forever()
    finally:
        if not stream.closed:
            stream.socket.close()


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        # A group may hold groups: our nursery, Hypercorn's and that of quart-trio each make one.
        found.extend(_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return found
