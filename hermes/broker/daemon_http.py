"""The HTTP address of ``hermesmqd``: ``/health``, ``/ready`` and ``/metrics``, each answer on a connection of its own.

Invariant: a client has `HEAD_SECONDS` for its request, and at most `MAX_CONNECTIONS` are served at once.
"""

from __future__ import annotations

from collections.abc import Callable

import h11
import trio
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

# As long as HermesMQ waits.
HEAD_SECONDS = 10.0
_READ_BYTES = 16 * 2**10
_CONTENT_TYPE = "text/plain; version=0.0.4"


class DaemonHttp:
    """Answers every request by its path alone. ``ready`` says whether a leader is known. ::

    http = DaemonHttp(registry, lambda: True, most=256)
    nursery.start_soon(trio.serve_tcp, http.answer, 9600)
    """

    def __init__(self, registry: CollectorRegistry | None, ready: Callable[[], bool], most: int) -> None:
        self._registry = registry
        self._ready = ready
        self._most = most
        self._open = 0

    async def answer(self, stream: trio.abc.Stream) -> None:
        """Serve one connection. Never raises for what the client or the network does."""
        # Before the first read: a crowd costs a socket each, and no buffer.
        if self._open >= self._most:
            await trio.aclose_forcefully(stream)
            return
        self._open += 1
        try:
            # The answer is part of this time: a client that does not read would keep one of few places.
            with trio.move_on_after(HEAD_SECONDS):
                await self._answer(stream)
        # The client has gone, which nobody needs to know.
        except trio.BrokenResourceError:
            pass
        finally:
            self._open -= 1
            await trio.aclose_forcefully(stream)

    async def _answer(self, stream: trio.abc.Stream) -> None:
        connection = h11.Connection(h11.SERVER)
        try:
            while (event := connection.next_event()) is h11.NEED_DATA:
                # At the end of the stream these bytes are empty, by which h11 learns of the end.
                connection.receive_data(bytes(await stream.receive_some(_READ_BYTES)))
            # The client has closed without a request, as probes of a port do.
            if not isinstance(event, h11.Request):
                return
            # HermesMQ answers by the path alone: any method will do, and the query is ignored.
            status, body = self._find(event.target.decode("latin-1").partition("?")[0])
        except h11.RemoteProtocolError as error:
            status, body = error.error_status_hint, b"not HTTP\n"
        # HermesMQ closes after each answer as well.
        headers = [("content-type", _CONTENT_TYPE), ("content-length", str(len(body))), ("connection", "close")]
        data = connection.send(h11.Response(status_code=status, headers=headers)) or b""
        data += connection.send(h11.Data(data=body)) or b""
        await stream.send_all(data)
        # A client that still sends would see a reset in the place of the answer.
        if isinstance(stream, trio.SocketStream):
            await stream.send_eof()
            while await stream.receive_some(_READ_BYTES):
                pass

    def _find(self, path: str) -> tuple[int, bytes]:
        if path == "/health":
            return 200, b"ok\n"
        if path == "/ready":
            return (200, b"ready\n") if self._ready() else (503, b"not ready\n")
        if path == "/metrics":
            return (404, b"metrics disabled\n") if self._registry is None else (200, generate_latest(self._registry))
        return 404, b"not found\n"
