"""One connection to a node: frames of requests out, responses in, in the order of the requests.

Invariant: every fault of the stream, or of the bytes that arrive, is a `ConnectionLost`.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Iterable

import trio
from google.protobuf.message import DecodeError

from hermes.broker.wire.frames import FrameReader, encode_frame
from hermes.broker.wire.hermesmq_pb2 import Auth, Request, Response
from hermes.client.errors import BadRequest, error_of

Dial = Callable[[str], Awaitable[trio.abc.Stream]]
"""Opens a stream to ``host:port``. A test passes one that makes streams in memory."""

# As long as HermesMQ's own client tries.
CONNECT_SECONDS = 5.0
CLOSE_SECONDS = 1.0
# HermesMQ's client takes as much: our broker stops a poll at 16 MiB, HermesMQ's at nothing.
MOST_RESPONSE_BYTES = 64 * 2**20
_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


class ConnectionLost(Exception):
    """The connection ended, stalled, or brought something that is no response."""


async def dial_tcp(address: str) -> trio.abc.Stream:
    """Open a TCP stream to ``host:port``; Trio sets TCP_NODELAY."""
    return await trio.open_tcp_stream(*_host_and_port(address))


def dial_tls(context: ssl.SSLContext) -> Dial:
    """Return a `Dial` for brokers behind TLS, whose certificates the ``context`` checks.

    ::

        context = ssl.create_default_context(cafile="ca.pem")
        async with connect(["broker.example:7600"], dial=dial_tls(context)) as client:
            ...
    """

    async def dial(address: str) -> trio.abc.Stream:
        host, port = _host_and_port(address)
        tcp = await trio.open_tcp_stream(host, port)
        # Without the notice of the end: a broker that is killed sends none, and every frame has its length.
        stream = trio.SSLStream(tcp, context, server_hostname=host, https_compatible=True)
        try:
            await stream.do_handshake()
        # A certificate that is not trusted, or a broker without TLS.
        except trio.BrokenResourceError as error:
            await trio.aclose_forcefully(tcp)
            raise OSError(f"no TLS there: {error.__cause__ or error}") from error
        except BaseException:
            await trio.aclose_forcefully(tcp)
            raise
        return stream

    return dial


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        raise BadRequest(f"{address!r} is no address of a node: write host:port")
    # An IPv6 address stands in brackets before its port, and a resolver takes none.
    return host.strip("[]"), int(port)


class Connection:
    """One connection. One task may send while another receives.

    ::

        connection = await open_connection(dial_tcp, "127.0.0.1:7600")
        response = await connection.call(Request(stats=Stats()), seconds=10)
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._reader = FrameReader(MOST_RESPONSE_BYTES)
        self._responses: deque[Response] = deque()
        self._turn = trio.Lock()

    async def send(self, requests: Iterable[Request]) -> None:
        """Send requests in one write."""
        data = b"".join(encode_frame(request.SerializeToString()) for request in requests)
        try:
            # Handlers of a subscription ack at the same time, and a stream of Trio refuses a second writer.
            async with self._turn:
                whole = False
                try:
                    await self._stream.send_all(data)
                    whole = True
                finally:
                    # A cancelled send may have left half a frame, and no later frame would be understood.
                    if not whole:
                        await trio.aclose_forcefully(self._stream)
        except _BROKEN as error:
            # Some of Trio's errors have no text.
            raise ConnectionLost(str(error) or "the connection is closed") from error

    async def receive(self) -> Response:
        """Return the next response."""
        while not self._responses:
            try:
                data = await self._stream.receive_some(65_536)
            except _BROKEN as error:
                raise ConnectionLost(str(error) or "the connection is closed") from error
            if not data:
                raise ConnectionLost("the node closed the connection")
            try:
                self._responses.extend(Response.FromString(frame) for frame in self._reader.feed(bytes(data)))
            except DecodeError as error:
                raise ConnectionLost("the node sent no response of the protocol") from error
            if self._reader.too_large is not None:
                raise ConnectionLost(str(self._reader.too_large))
        return self._responses.popleft()

    async def call(self, request: Request, seconds: float) -> Response:
        """Send one request and return its response, within ``seconds``."""
        with trio.move_on_after(seconds):
            await self.send([request])
            return await self.receive()
        raise ConnectionLost(f"no answer within {seconds:g} s")

    async def close(self) -> None:
        """Close the connection. Bounded in time, and safe to repeat."""
        with trio.move_on_after(CLOSE_SECONDS):
            await self._stream.aclose()


async def open_connection(dial: Dial, address: str, token: str, seconds: float) -> Connection:
    """Connect to a node and, with a token, pass its check. Raises `ConnectionLost` or `Unauthorized`."""
    connection = None
    try:
        with trio.move_on_after(CONNECT_SECONDS):
            connection = Connection(await dial(address))
    # Also for a name that cannot be resolved: `socket.gaierror` is an OSError.
    except OSError as error:
        raise ConnectionLost(f"{address}: {error}") from error
    if connection is None:
        raise ConnectionLost(f"{address}: no connection within {CONNECT_SECONDS:g} s")
    # The first request of the connection, as the broker demands: it closes after any other one.
    if token:
        admitted = False
        try:
            reply = await connection.call(Request(auth=Auth(token=token)), seconds)
            if reply.WhichOneof("kind") == "error":
                raise error_of(reply.error)
            admitted = True
        finally:
            # Also after a cancel: nobody else knows this connection yet.
            if not admitted:
                await connection.close()
    return connection
