"""A connection as Hypercorn sees it, bounded in time: first the bytes that were read before, then the client's own.

Invariants: the owner of the stream closes the stream; the connection of a client that sends nothing or reads nothing
for too long is ended; a client that has only ended its sending side is answered first, if the answer comes soon.
"""

from __future__ import annotations

import re
from email.utils import formatdate
from os import urandom
from typing import NamedTuple

import trio
from hypercorn.trio.worker_context import WorkerContext

from hermes.net.control.answering import Answering
from hermes.net.control.places import Places, Use
from hermes.net.http.head import MAX_HEAD_BYTES
from hermes.net.http.response import problem
from hermes.net.http.stream import Stream

# Longer than Hypercorn takes from the last byte of a request to its first answer.
_IDLE_AT_STOP_SECONDS = 0.1
# A flood of tiny HTTP/2 frames then keeps the loop for milliseconds at a time and no longer: a frame of nine bytes may
# take Hypercorn 16 microseconds. With fewer bytes a large body would take half as long again.
_RECV_BYTES = 4 * 2**10

# How Hypercorn itself refuses what it cannot read; an answer of the app to such a request would have a body.
_REFUSAL = re.compile(rb"HTTP/1\.1 ([45]\d\d) \r\ncontent-length: 0\r\nconnection: close\r\n", re.IGNORECASE)
_DETAILS = {
    431: f"the request's headers are larger than {MAX_HEAD_BYTES} bytes",
    500: "Hermes failed at this request: its log says where",
}


class Patience(NamedTuple):
    """Seconds for which a client may read nothing (``write``) or send nothing (``silence``)."""

    write: float
    silence: float


class Replay:
    """A stream for Hypercorn, which first gives the bytes that were read before. The owner closes the stream.

    Hypercorn has to run within ``lifetime``. The scope ends when Hypercorn closes the stream, and when the client reads
    or sends nothing for too long. ``places`` are told whether the connection is busy.
    """

    def __init__(self, stream: Stream, data: bytes, places: Places, patience: Patience) -> None:
        self._stream = stream
        self._data = data
        self._places = places
        self._patience = patience
        self._sending = trio.CancelScope()
        self._receiving = trio.CancelScope()
        self._replayed = self._draining = False
        # One for each connection: its event `terminated` ends every connection that shares the context.
        self.context = WorkerContext(None)
        self.closed = self.gave_way = False
        self.lifetime = trio.CancelScope()
        self.answering = Answering(self._change, patience.write, self.lifetime.cancel)
        # A TLS session has no socket of its own.
        transport = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        self.socket: trio.socket.SocketType = transport.socket

    # Hypercorn asks for 64 KiB at a time, and gets less: see `_RECV_BYTES`.
    async def receive_some(self, _max_bytes: int | None = None) -> bytes:
        """Bytes of the client; empty once the client has ended and is answered. Raises `trio.TooSlowError`."""
        if not self._data:
            self._replayed = True
            if self._draining:
                await self.context.terminated.set()
            # The deadline moves with every change: a client that is being answered need not send anything.
            with trio.fail_at(self._patient_until()) as self._receiving:
                data = bytes(await self._stream.receive_some(_RECV_BYTES))
            if not data:
                # Hypercorn takes the end for the client's leaving, and would cancel the requests.
                await self.answering.finish()
                # Else Hypercorn may wait for its timer of an idle connection.
                await self.context.terminated.set()
            return data
        await trio.lowlevel.checkpoint()
        # In the same steps as bytes from the socket: a flood of frames may have come with the first read.
        data, self._data = self._data[:_RECV_BYTES], self._data[_RECV_BYTES:]
        return data

    async def send_all(self, data: bytes) -> None:
        """Send bytes. Raises `trio.BrokenResourceError` if the client does not read."""
        if self.closed:
            # By this error Hypercorn learns that the connection is over, and tells its protocol.
            raise trio.ClosedResourceError
        try:
            # While bytes wait for the client, the connection may give way to a newcomer.
            self._places.note(self, Use.WAITING)
            # Hypercorn shields its sends from cancellation, so a client that does not read needs a deadline here.
            with trio.fail_after(self._patience.write) as self._sending:
                await self._stream.send_all(_put_into_words(data))
            self._change()
        except (trio.BrokenResourceError, trio.TooSlowError) as error:
            # Hypercorn alone would go on with the next response.
            self.lifetime.cancel()
            # Hypercorn catches this error of a send, and would let TooSlowError through.
            raise trio.BrokenResourceError from error

    async def drain(self) -> None:
        """End the connection once the requests that were handed over with the stream are answered."""
        # Hypercorn ends an idle connection, unless it has lost the task for that: a request that ends cancels its own
        # tasks, and at times the task that Hypercorn is about to start for the idle time. Hence the deadline below.
        self._draining = True
        if self._replayed:
            await self.context.terminated.set()
            self._receiving.deadline = self._patient_until()

    def give_way(self) -> None:
        """End at once and send nothing: another connection has the place."""
        self.gave_way = True
        self.lifetime.cancel()
        self.socket.close()

    def _change(self) -> None:
        self._receiving.deadline = self._patient_until()
        answering = self.answering
        # Requests that wait for their own client are no work of the service, and keep no newcomer out.
        clients_turn = answering.bodies_left + answering.unread
        use = Use.BUSY if answering.requests > clients_turn else Use.WAITING
        self._places.note(self, use if answering.requests else Use.IDLE)

    def _patient_until(self) -> float:
        """The time at which a client that stays silent from now on is given up."""
        idle_at_the_end = self._draining and not self.answering.requests
        return trio.current_time() + (_IDLE_AT_STOP_SECONDS if idle_at_the_end else self._patience.silence)

    async def aclose(self) -> None:
        """Hypercorn is done with the connection."""
        # Without a checkpoint: Hypercorn also closes within the task of a request that has just been cancelled.
        self.closed = True
        self._sending.cancel()
        # Hypercorn alone would wait for its timers before it ends.
        self.lifetime.cancel()


class PlainReplay(Replay):
    """Without TLS."""

    # Hypercorn takes a stream that has `do_handshake` for a TLS session, so this class must not have it.
    async def send_eof(self) -> None:
        """The owner of the stream ends the sending side."""


class SecureReplay(Replay):
    """With TLS, whose handshake is done."""

    @property
    # Hypercorn asks this stream for the socket, to know the addresses of both sides.
    def transport_stream(self) -> Replay:
        """The stream below TLS, which has the socket."""
        return self

    # Hypercorn begins with the handshake; the fast lane has done it already, to read the head. `send_eof` is missing
    # here: TLS cannot end one side, and Hypercorn expects that.
    async def do_handshake(self) -> None:
        """The handshake is done already."""
        await trio.lowlevel.checkpoint()

    def selected_alpn_protocol(self) -> str | None:
        """The protocol that client and server have agreed on."""
        assert isinstance(self._stream, trio.SSLStream)  # noqa: S101 - whoever made it has looked
        protocol: str | None = self._stream.selected_alpn_protocol()
        return protocol


def _put_into_words(data: bytes) -> bytes:
    """The bytes to send: a refusal by Hypercorn, which has no body, becomes problem details."""
    refusal = _REFUSAL.match(data)
    if refusal is None:
        return data
    status = int(refusal[1])
    response = problem(status, _DETAILS.get(status, "the request is malformed"), {"Connection": "close"})
    # A new id, because Hypercorn could not read the request, and so the client's own.
    return response.render(formatdate(usegmt=True).encode(), urandom(8).hex().encode())
