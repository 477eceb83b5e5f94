"""A TCP proxy that can play a stalled peer: it stops forwarding while every connection stays open."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


class Proxy:
    """Forwards what connects to `port`, both ways, except between `stall()` and `resume()`."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._flowing = trio.Event()
        self._flowing.set()

    def stall(self) -> None:
        """Stop reading from both sides: the system's buffers fill up, and nobody is told."""
        self._flowing = trio.Event()

    def resume(self) -> None:
        """Forward again, beginning with what has piled up."""
        self._flowing.set()

    async def forward(self, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        """Copy one direction until either side ends."""
        try:
            while data := await source.receive_some(65536):
                await self._flowing.wait()
                await sink.send_all(data)
            await sink.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return


@asynccontextmanager
async def open_proxy(target_port: int) -> AsyncIterator[Proxy]:
    """Run a proxy on a free loopback port, to `target_port` on the loopback interface, for the length of the block."""
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        proxy = Proxy(listener.socket.getsockname()[1])

        async def serve(client: trio.SocketStream) -> None:
            async with await trio.open_tcp_stream("127.0.0.1", target_port) as server, trio.open_nursery() as pair:
                pair.start_soon(proxy.forward, client, server)
                pair.start_soon(proxy.forward, server, client)

        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield proxy
        nursery.cancel_scope.cancel()
