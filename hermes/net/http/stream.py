"""The same connection object on a Trio stream, with a task each: the fast lane under TLS, and over any given stream.

For each stream a reader feeds the connection and a writer sends its responses, so that the answer of a ticket goes out
while the client is silent. A connection for the control lane goes to ``hand_over``, and is served in the same task.

Invariants: an error of a stream ends its own tasks and nothing else; the number of connections is bounded.
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
# A client that has read the last answer closes within a round trip. The slowest mobile networks take a second.
_CLOSE_SECONDS = 2.0
# Between two looks whether the client has read enough. The writer could wake the reader, but this case is rare.
_HELD_BACK_SECONDS = 0.01
_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)
# No further request of the fast lane is read in these phases.
_ENDED = frozenset({Phase.CLOSING, Phase.HANDOVER})


@dataclass(frozen=True)
class StreamOptions:
    """The bounds for clients: their time, and ``max_connections`` connections at once.

    ``tls`` None: plain HTTP. After the last answer a client has ``linger`` seconds to close its side.
    """

    timeouts: Timeouts
    max_connections: int
    tls: ssl.SSLContext | None = None
    linger: float = _CLOSE_SECONDS


class StreamServer:
    """Accepts connections, and serves each in a task of its own.

    The server listens on sockets, or on listeners whose streams can be closed on one side, such as the listeners of a
    simulated network. It hands over the stream, or the TLS session on the stream. ::

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
        # The idlest first. A dict and not a set, whose order changes from run to run, also in a simulation.
        self._drivers: dict[_Driver, None] = {}
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
        """Stop accepting, answer the requests in flight, and return once every connection is closed."""
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
            # https_compatible: many clients close a connection without the end of the TLS session.
            stream = trio.SSLStream(accepted, self._options.tls, server_side=True, https_compatible=True)
        driver = _Driver(self._lane, stream, self._options.timeouts, self._note_activity)
        self._drivers[driver] = None
        try:
            with driver.lifetime:
                if not await driver.agrees_on_http2():
                    await driver.run()
            if driver.connection.phase is Phase.HANDOVER:
                # Forgotten here: the control lane decides which of its connections gives way.
                self._forget(driver)
                await self._hand_over(stream, driver.connection.take_handover())
        # except*, because the nursery of the driver raises groups.
        except* (*_GONE, trio.TooSlowError):
            # The client left, sent no TLS, or stopped reading. No other connection is concerned.
            pass
        finally:
            driver.connection.drop()
            self._forget(driver)
            # The room comes last: a connection that lingers still has a descriptor.
            try:
                await close_gently(stream, 0.0 if driver.lifetime.cancel_called else self._options.linger)
            finally:
                self._room.release()

    def _note_activity(self, driver: _Driver) -> None:
        """Put a connection whose client has sent bytes behind the others: it is the last to give way."""
        if driver in self._drivers:
            del self._drivers[driver]
            self._drivers[driver] = None

    def _make_room(self) -> None:
        """End the idlest connection, if one is idle: there is no room for the next client."""
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
            # Raises at once if the client still sends. The end of our side was sent before.
            with suppress(*_GONE):
                await stream.unwrap()
        # Read to the end: unread bytes would make the kernel reset the connection, and the client could lose the
        # answer.
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
        """Whether the client has sent nothing for a while, and waits for no answer."""
        connection = self.connection
        calm = connection.phase is Phase.IDLE and connection.answered and not connection.unsent
        return calm and self._active + LEAST_IDLE_SECONDS <= trio.current_time()

    async def agrees_on_http2(self) -> bool:
        """Do the TLS handshake, if the stream has TLS. True: the client speaks HTTP/2, as the control lane does."""
        if not isinstance(self._stream, trio.SSLStream):
            return False
        # A client that opens a connection and sends no handshake gets no more time than one that sends no head.
        with trio.fail_after(self._timeouts.header):
            await self._stream.do_handshake()
        if self._stream.selected_alpn_protocol() != "h2":
            return False
        self.connection.hand_over()
        return True

    async def run(self) -> None:
        """Serve until the connection ends, or leaves for the control lane."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read)
            # The writer knows the end: it has sent the last answer. The reader may wait for a silent client.
            await self._write()
            self._reading.cancel()

    def drain(self) -> None:
        """End after the answers to the requests in flight; now, if there is none."""
        self.connection.call_off()
        if self.connection.phase is Phase.IDLE and self.connection.answered:
            self.connection.end()
        self._wake()

    def _address(self) -> str:
        stream = self._stream.transport_stream if isinstance(self._stream, trio.SSLStream) else self._stream
        return address_of(stream.socket) if isinstance(stream, trio.SocketStream) else ""

    def _stop_waiting(self) -> None:
        """Send the answer of a ticket. The pending read had no deadline while the client waited; give it one again."""
        if not self.connection.waiting:
            self._patience.deadline = trio.current_time() + allowance(self.connection.phase, self._timeouts)
        self._wake()

    def _wake(self) -> None:
        self._news.set()

    async def _read(self) -> None:
        """Feed the connection until it ends. A client has its time for a whole phase, not for each byte."""
        connection = self.connection
        phase, deadline = connection.phase, trio.current_time() + self._timeouts.idle
        with self._reading:
            # A connection that ends after a response is read on while the response is awaited: if the client leaves,
            # the wait is called off.
            while connection.phase not in _ENDED or (connection.waiting and connection.phase is Phase.CLOSING):
                if self._client_ended:
                    # A stream at its end returns at once each time: to read again would spin.
                    break
                if connection.wants_bytes:
                    with trio.move_on_at(inf if connection.waiting else deadline) as self._patience:
                        self._receive(bytes(await self._stream.receive_some(_RECV_BYTES)))
                    if self._patience.cancelled_caught:
                        connection.time_out()
                else:
                    # Its own unsent responses hold the connection back. The writer has a deadline for them.
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
            lane.observe_answered(lane.clock() - began)

    def _resume(self) -> None:
        # Each task has turns of its own here; the reactor has one turn for all.
        self._lane.turn_ends = self._lane.clock() + TURN_SECONDS
        self.connection.resume()

    async def _write(self) -> None:
        """Send responses until the last one is sent."""
        connection = self.connection
        while not (connection.phase in _ENDED and connection.answered and not connection.out):
            if connection.out:
                # Cleared before the await: responses that come meanwhile are for the next round.
                data = b"".join(connection.out)
                connection.out.clear()
                with trio.fail_after(self._timeouts.write):
                    await self._stream.send_all(data)
                # Not zero: a ticket may have been answered during the send.
                connection.unsent -= len(data)
                self._resume()
            else:
                await self._news.wait()
