"""A TCP proxy before a server that can cut connections in the middle of a conversation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


class Cutter:
    """Forwards what connects to `port`, as long as it is `open`."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.open = True
        self.cut_at: str | None = None
        self.hides_goodbyes = False

    def cut(self, what: str, *, and_close: bool = False) -> None:
        """The next ``question`` does not arrive, or the next ``answer``; then nobody gets through to the server."""
        self.cut_at = what
        self.open = not and_close

    async def serve(self, client: trio.SocketStream, target_port: int) -> None:
        if not self.open and self.cut_at is None:
            return
        async with await trio.open_tcp_stream("127.0.0.1", target_port) as server, trio.open_nursery() as nursery:

            async def forward(what: str, source: trio.SocketStream, sink: trio.SocketStream) -> None:
                try:
                    async for data in source:
                        if self.cut_at == what:
                            self.cut_at = None
                            break
                        await sink.send_all(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass
                if what == "question" and self.hides_goodbyes:
                    return  # the server takes the client for alive
                nursery.cancel_scope.cancel()

            nursery.start_soon(forward, "question", client, server)
            nursery.start_soon(forward, "answer", server, client)


@asynccontextmanager
async def open_cutter(target_port: int) -> AsyncIterator[Cutter]:
    """Run a proxy on a free loopback port, to `target_port` on the loopback interface, for the length of the block."""
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        cutter = Cutter(listener.socket.getsockname()[1])

        async def serve(client: trio.SocketStream) -> None:
            async with client:
                await cutter.serve(client, target_port)

        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield cutter
        nursery.cancel_scope.cancel()
