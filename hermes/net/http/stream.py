"""The same connection object on a Trio stream, a task each: the fast lane under TLS, and over any stream that is lent.

For each stream a reader feeds the connection and a writer sends what is ready, so that a response whose wait ends goes
out while the client is silent. Invariants: whatever happens to a stream ends its own tasks and nothing else; the number
of connections is bounded. The edge runs `StreamServer.serve` and `drain` as it would a reactor's; what belongs to the
control lane is given to ``hand_over`` and served in the same task.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import Any

import trio

from hermes.base.cleanup import clean_up
from hermes.base.repeated_event import RepeatedEvent
from hermes.net.http.accepting import BoundedListener, Place, listener_of
from hermes.net.http.connection import Connection
from hermes.net.http.lane import LEAST_IDLE_SECONDS, TURN_SECONDS, Lane, Timeouts
from hermes.net.http.phase import Phase, allowance
from hermes.net.listen import address_of

Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]
AnyStream = trio.abc.HalfCloseableStream | trio.SSLStream[Any]
Handover = Callable[[Any, bytes], Awaitable[None]]

_RECV_BYTES = 64 * 2**10
_CLOSE_SECONDS = 2.0
_HELD_BACK_SECONDS = 0.01
_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)
_ENDED = frozenset({Phase.CLOSING, Phase.HANDOVER})


@dataclass(frozen=True)
class StreamOptions:
    """What clients may take: time, and ``max_connections`` connections at once.

    ``tls`` None: plain HTTP. After the last answer a client has ``linger`` seconds to close its side.
    """

    timeouts: Timeouts
    max_connections: int
    tls: ssl.SSLContext | None = None
    linger: float = _CLOSE_SECONDS


class StreamServer:
    """Accepts and serves with a task a connection.

    It listens on sockets, or on listeners whose streams can be closed on one side, such as those of a simulated
    network. It hands over such a stream, or the TLS session on it. ::

        server = StreamServer(lane, sockets, control.serve_stream, StreamOptions(timeouts, 1000, tls))
        nursery.start_soon(server.serve)
    """

    def __init__(
        self,
        lane: Lane,
        listeners: Sequence[Place],
        hand_over: Handover,
        options: StreamOptions,
    ) -> None:
        self._lane = lane
        self._listeners = listeners
        self._hand_over = hand_over
        self._options = options
        self._room = trio.Semaphore(options.max_connections)
        self._accepting = trio.CancelScope()
        self._drivers: dict[_Driver, None] = {}  # in the order they came: a set's order changes from run to run
        self._emptied: trio.Event | None = None
        self.evicted = 0

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._drivers)

    async def serve(self) -> None:
        """Serve until cancelled."""
        listeners = [BoundedListener(listener_of(place), self._room, self._make_room) for place in self._listeners]
        async with trio.open_nursery() as connections:
            with self._accepting:
                await trio.serve_listeners(self._serve, listeners, handler_nursery=connections)

    async def drain(self) -> None:
        """Stop accepting, answer what is in flight, and return once every connection is closed."""
        self._lane.draining = True
        self._accepting.cancel()
        for driver in tuple(self._drivers):
            driver.drain()
        if self._drivers:
            self._emptied = trio.Event()
            await self._emptied.wait()

    async def _serve(self, accepted: trio.abc.HalfCloseableStream) -> None:
        stream: AnyStream = accepted
        if self._options.tls is not None:
            stream = trio.SSLStream(accepted, self._options.tls, server_side=True, https_compatible=True)
        driver = _Driver(self._lane, stream, self._options.timeouts, self._note_activity)
        self._drivers[driver] = None
        try:
            with driver.lifetime:
                if not await driver.agrees_on_http2():
                    await driver.run()
            if driver.connection.phase is Phase.HANDOVER:
                self._forget(driver)
                await self._hand_over(stream, driver.connection.take_handover())
        except* (*_GONE, trio.TooSlowError):
            pass  # the client left, sent no TLS, or stopped reading: it concerns nobody else
        finally:
            driver.connection.drop()
            self._forget(driver)
            try:
                await close_gently(stream, 0.0 if driver.lifetime.cancel_called else self._options.linger)
            finally:
                self._room.release()

    def _note_activity(self, driver: _Driver) -> None:
        """Something has come: of the idle connections, this one is now the last to give way."""
        if driver in self._drivers:
            del self._drivers[driver]
            self._drivers[driver] = None

    def _make_room(self) -> None:
        """There is no room for the next connection: the idlest gives way to it, if one is idle."""
        for driver in self._drivers:
            if driver.idle:
                self.evicted += 1
                self._forget(driver)
                driver.lifetime.cancel()
                return

    def _forget(self, driver: _Driver) -> None:
        self._drivers.pop(driver, None)
        if not self._drivers and self._emptied is not None:
            self._emptied.set()


async def close_gently(stream: AnyStream, linger: float = _CLOSE_SECONDS) -> None:
    """Close our side first, so that the last response is not lost to bytes that the client still sends."""
    with clean_up(linger), suppress(*_GONE):
        transport: trio.abc.HalfCloseableStream
        if not isinstance(stream, trio.SSLStream):
            transport = stream
        else:
            transport = stream.transport_stream
            # Ends at once with an error if the client still sends; but our end of the TLS session has been said.
            with suppress(*_GONE):
                await stream.unwrap()
        await transport.send_eof()
        while await transport.receive_some(_RECV_BYTES):
            pass
    await trio.aclose_forcefully(stream)


class _Driver:
    """One stream and its connection."""

    def __init__(
        self, lane: Lane, stream: AnyStream, timeouts: Timeouts, note_activity: Callable[[_Driver], None]
    ) -> None:
        self.lifetime = trio.CancelScope()
        self.connection = Connection(lane, self._stop_waiting, self._address)
        self._stream = stream
        self._lane = lane
        self._timeouts = timeouts
        self._news = RepeatedEvent()
        self._reading = trio.CancelScope()
        self._patience = trio.CancelScope()
        self._client_ended = False
        self._note_activity = note_activity
        self._active = trio.current_time()

    @property
    def idle(self) -> bool:
        """Whether the client has asked for nothing for a while, and is owed nothing."""
        connection = self.connection
        calm = connection.phase is Phase.IDLE and connection.answered and not connection.unsent
        return calm and self._active + LEAST_IDLE_SECONDS <= trio.current_time()

    async def agrees_on_http2(self) -> bool:
        """Do the TLS handshake, if there is one. True: the client speaks HTTP/2, which is the control lane's."""
        if not isinstance(self._stream, trio.SSLStream):
            return False
        with trio.fail_after(self._timeouts.header):
            await self._stream.do_handshake()
        if self._stream.selected_alpn_protocol() != "h2":
            return False
        self.connection.hand_over()
        return True

    async def run(self) -> None:
        """Serve until the connection is over as one of the fast lane."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read)
            await self._write()
            self._reading.cancel()

    def drain(self) -> None:
        """Answer what is in flight, and end; a connection in the middle of no request ends now."""
        self.connection.call_off()
        if self.connection.phase is Phase.IDLE and self.connection.answered:
            self.connection.end()
        self._wake()

    def _address(self) -> str:
        stream = self._stream.transport_stream if isinstance(self._stream, trio.SSLStream) else self._stream
        return address_of(stream.socket) if isinstance(stream, trio.SocketStream) else ""

    def _stop_waiting(self) -> None:
        """A wait is over. The read that goes on meanwhile was given all the time in the world for it."""
        if not self.connection.waiting:
            self._patience.deadline = trio.current_time() + allowance(self.connection.phase, self._timeouts)
        self._wake()

    def _wake(self) -> None:
        self._news.set()

    async def _read(self) -> None:
        """Feed the connection until it ends; the allowance is for one phase, not for one byte."""
        connection = self.connection
        phase, deadline = connection.phase, trio.current_time() + self._timeouts.idle
        with self._reading:
            # A connection that ends after a response it waits for is read on, to see whether the client leaves.
            while connection.phase not in _ENDED or (connection.waiting and connection.phase is Phase.CLOSING):
                if self._client_ended:
                    break  # nothing more comes, and to ask again would be answered at once, again and again
                if connection.wants_bytes:
                    with trio.move_on_at(inf if connection.waiting else deadline) as self._patience:
                        self._receive(bytes(await self._stream.receive_some(_RECV_BYTES)))
                    if self._patience.cancelled_caught:
                        connection.time_out()
                else:
                    # Its own unsent responses hold it back. The writer has a deadline of its own for them.
                    await trio.sleep(0 if connection.deferred else _HELD_BACK_SECONDS)
                    self._resume()
                if not connection.hold():
                    connection.drop()
                if connection.phase is not phase or phase is Phase.IDLE or connection.out:
                    phase, deadline = (
                        connection.phase,
                        trio.current_time() + allowance(connection.phase, self._timeouts),
                    )
                self._wake()

    def _receive(self, data: bytes) -> None:
        if not data:
            self._client_ended = True
            self.connection.receive_eof()
            return
        self._active = trio.current_time()
        self._note_activity(self)
        lane = self._lane
        lane.begin_turn()
        began = lane.clock()
        lane.turn_ends = began + TURN_SECONDS
        self.connection.receive(data)
        if lane.answered:
            lane.settle_answered(lane.clock() - began)

    def _resume(self) -> None:
        self._lane.turn_ends = self._lane.clock() + TURN_SECONDS
        self.connection.resume()

    async def _write(self) -> None:
        """Send what is ready until the connection has said all it will."""
        connection = self.connection
        while not (connection.phase in _ENDED and connection.answered and not connection.out):
            if connection.out:
                data = b"".join(connection.out)
                connection.out.clear()
                with trio.fail_after(self._timeouts.write):
                    await self._stream.send_all(data)
                connection.unsent -= len(data)
                self._resume()
            else:
                await self._news.wait()
