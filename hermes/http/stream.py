"""The same connection object on a Trio stream, a task each: the fast lane under TLS.

A reader feeds the connection and a writer sends what is ready, so that a response whose wait ends can go out while the
client is silent. Invariant: whatever happens to the stream ends these two tasks and nothing else. The app runs
`serve_stream` for each connection of a TLS listener; what belongs to the control lane is given to ``hand_over``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from math import inf

import trio

from hermes.http.connection import Connection, Lane, Phase
from hermes.http.reactor import Timeouts

_RECV_BYTES = 64 * 2**10
_CLOSE_SECONDS = 2.0
_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)

Handover = Callable[[trio.SSLStream[trio.SocketStream], bytes], Awaitable[None]]


class _Driver:
    """One stream and its connection."""

    def __init__(self, lane: Lane, stream: trio.SSLStream[trio.SocketStream], timeouts: Timeouts) -> None:
        self.stream = stream
        self._lane = lane
        self.connection = Connection(lane, self._wake)
        self._timeouts = timeouts
        self._news = trio.Event()

    def _wake(self) -> None:
        self._news.set()

    @property
    def over(self) -> bool:
        """Whether the connection has said all it will, as a data connection."""
        connection = self.connection
        ended = connection.phase in {Phase.CLOSING, Phase.HANDOVER}
        return ended and connection.answered and not connection.out

    async def read(self) -> None:
        """Feed the connection until it ends; the allowance is for one phase, not for one byte."""
        connection = self.connection
        phase, deadline = connection.phase, trio.current_time() + self._timeouts.idle
        while connection.phase not in {Phase.CLOSING, Phase.HANDOVER}:
            if not connection.wants_bytes:
                await trio.sleep(0.01)  # its own responses hold it back; the writer has a deadline of its own
                connection.resume()
                self._wake()
                continue
            with trio.move_on_at(inf if connection.waiting else deadline) as scope:
                data = await self.stream.receive_some(_RECV_BYTES)
            if scope.cancelled_caught:
                connection.time_out()
            elif data:
                self._lane.begin_turn()
                began = self._lane.clock()
                connection.receive(bytes(data))
                if self._lane.answered:
                    self._lane.settle_answered(self._lane.clock() - began)
            else:
                connection.receive_eof()
            if connection.phase is not phase or connection.phase is Phase.IDLE:
                phase, deadline = connection.phase, trio.current_time() + self._allowance(connection.phase)
            self._wake()

    async def write(self) -> None:
        """Send what is ready until the connection is over."""
        connection = self.connection
        while True:
            if connection.out:
                data = b"".join(connection.out)
                connection.out.clear()
                with trio.fail_after(self._timeouts.write):
                    await self.stream.send_all(data)
                connection.unsent = 0
            elif self.over:
                return
            else:
                await self._news.wait()
                self._news = trio.Event()

    def _allowance(self, phase: Phase) -> float:
        timeouts = self._timeouts
        return {Phase.HEAD: timeouts.header, Phase.BODY: timeouts.body, Phase.CHUNKED: timeouts.body}.get(
            phase, timeouts.idle
        )


async def serve_stream(
    lane: Lane, stream: trio.SSLStream[trio.SocketStream], timeouts: Timeouts, hand_over: Handover
) -> None:
    """Serve one TLS connection to its end, the handshake included."""
    driver = _Driver(lane, stream, timeouts)
    try:
        with trio.fail_after(timeouts.header):
            await stream.do_handshake()
        if stream.selected_alpn_protocol() == "h2":
            await hand_over(stream, b"")
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(driver.read)
            nursery.start_soon(driver.write)
        if driver.connection.phase is Phase.HANDOVER:
            await hand_over(stream, driver.connection.take_handover())
    except* (*_GONE, trio.TooSlowError):
        pass  # the client left, sent no TLS, or stopped reading: it concerns nobody else
    finally:
        driver.connection.drop()
        with trio.move_on_after(_CLOSE_SECONDS, shield=True):
            await stream.aclose()
