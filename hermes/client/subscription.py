"""A subscription: messages that the broker pushes, over a connection of its own that is opened again after a loss.

Invariants: an ack goes out on the connection that brought the message; after that connection is lost the broker
delivers the message again, so its ack is dropped. At most ``prefetch`` messages wait for the reader.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import structlog
import trio

from hermes.broker.wire.hermesmq_pb2 import Ack, Nack, Request, Subscribe
from hermes.client.connection import Connection, ConnectionLost
from hermes.client.errors import BrokerError, error_of
from hermes.client.message import Message, message_of
from hermes.client.pool import Pool
from hermes.client.routing import Routing, pause_after

# HermesMQ's own client pauses as long. Nobody waits for an answer here, as behind a call.
LONGEST_PAUSE = 5.0
# HermesMQ 0.6.5 writes nothing in silence: there a subscription without messages is opened anew each time.
SILENCE_SECONDS = 30.0
"""The broker writes every 10 s; a connection that is silent for longer is dead."""
DRAIN_SECONDS = 30.0

Handler = Callable[[Message], Awaitable[object]]
_log = structlog.get_logger("hermes.client")


class Subscription:
    """Messages of one group, as an asynchronous iterator. ``handler_failures`` and ``reconnects`` count.

    ::

        async with client.subscribe("orders", "billing") as messages:
            async for message in messages:
                await messages.ack(message)
    """

    def __init__(self, pool: Pool, routing: Routing, request: Subscribe) -> None:
        self._pool = pool
        self._routing = routing
        self._request = request
        self._send, self._receive = trio.open_memory_channel[tuple[Connection, Message]](request.prefetch)
        # The connection of each lease that is not answered yet; emptied with its connection.
        self._leases: dict[int, Connection] = {}
        self._connection: Connection | None = None
        self.failure: BrokerError | None = None
        self.handler_failures = 0
        self.reconnects = 0

    def __aiter__(self) -> AsyncIterator[Message]:
        return self

    async def __anext__(self) -> Message:
        while True:
            try:
                connection, message = await self._receive.receive()
            except trio.EndOfChannel:
                raise StopAsyncIteration from None
            # A message of a lost connection comes again: its lease is free.
            if self._request.ack_mode == "auto" or self._leases.get(message.lease_id) is connection:
                return message

    async def ack(self, message: Message) -> None:
        """Acknowledge a message. Without effect after its connection is lost: then the broker delivers once more."""
        await self._answer(
            message, Request(ack=Ack(topic=message.topic, group=message.group, lease_id=message.lease_id))
        )

    async def nack(self, message: Message) -> None:
        """Give a message back, for delivery at once."""
        await self._answer(
            message, Request(nack=Nack(topic=message.topic, group=message.group, lease_id=message.lease_id))
        )

    async def _answer(self, message: Message, request: Request) -> None:
        # Taken out: a second ack of the message sends nothing.
        connection = self._leases.pop(message.lease_id, None)
        if connection is not None:
            try:
                await connection.send([request])
            except ConnectionLost:
                # The task that reads this connection notices too, and opens another one.
                await connection.close()

    async def handle(self, handler: Handler) -> None:
        """Call ``handler`` with each message: ack after success, nack after an exception."""
        async for message in self:
            try:
                await handler(message)
            except Exception as error:  # noqa: BLE001 - any fault of the caller's handler is one message's: nacked, logged
                self.handler_failures += 1
                _log.warning(
                    "a handler failed: the message is nacked",
                    topic=message.topic,
                    group=message.group,
                    offset=message.offset,
                    error=repr(error),
                )
                await self.nack(message)
            else:
                await self.ack(message)

    async def run(self, stop: trio.CancelScope, whole: trio.CancelScope) -> None:
        """Read pushes until ``stop`` is cancelled. An error of the broker goes to ``failure`` and cancels ``whole``."""
        try:
            await self._read(stop)
        except BrokerError as error:
            # No new connection mends this error, so the caller's block ends with it.
            self.failure = error
            whole.cancel()

    async def _read(self, stop: trio.CancelScope) -> None:
        failures = 0
        # The channel closes with the reader: handlers end behind the messages that are in it.
        with self._send, stop:
            while True:
                node = self._routing.node
                pushed, moved = False, ""
                try:
                    connection = self._connection = await self._pool.open(node)
                    try:
                        await connection.send([Request(subscribe=self._request)])
                        while True:
                            with trio.fail_after(SILENCE_SECONDS):
                                response = await connection.receive()
                            if response.WhichOneof("kind") == "error":
                                if response.error.code != "not_leader":
                                    raise error_of(response.error)
                                moved = response.error.leader_addr
                                break
                            # A heartbeat has no items.
                            for item in response.polled.items:
                                pushed = True
                                message = message_of(self._request.topic, self._request.group, item)
                                # In automatic mode the broker has acknowledged the message before its push.
                                if self._request.ack_mode != "auto":
                                    self._leases[item.lease_id] = connection
                                    # Messages that are never answered expire at the broker; here the oldest go.
                                    if len(self._leases) > 16 * self._request.prefetch:
                                        del self._leases[next(iter(self._leases))]
                                # Waits for a slow reader, and so does the broker then. In automatic mode nothing else
                                # bounds what it sends.
                                await self._send.send((connection, message))
                    finally:
                        # A stop leaves the connection open for the acks of running handlers.
                        if not stop.cancel_called:
                            self._forget(connection)
                            await connection.close()
                except (ConnectionLost, trio.TooSlowError) as error:
                    _log.debug("a subscription's connection is lost", node=node.address, reason=str(error))
                if moved:
                    self._routing.redirect(node, moved)
                # A node that pushed leads, and is asked again first.
                elif not pushed:
                    self._routing.failed(node)
                failures = 1 if pushed else failures + 1
                self.reconnects += 1
                await trio.sleep(pause_after(failures, longest=LONGEST_PAUSE))

    async def close(self) -> None:
        """Close the connection, after the acks that were sent on it."""
        if self._connection is not None:
            await self._connection.close()

    def _forget(self, connection: Connection) -> None:
        self._leases = {lease: held for lease, held in self._leases.items() if held is not connection}
