"""A client of the broker over a stream in memory, and a broker to talk to, on the virtual clock."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio
import trio.testing

from hermes.broker.machine.commands import SetCaps
from hermes.broker.machine.machine import Machine
from hermes.broker.node import Bounds, Node
from hermes.broker.opening import replay
from hermes.broker.payloads import Payloads
from hermes.broker.sequencer import Sequencer
from hermes.broker.tcp.connection import Connection
from hermes.broker.wire import hermesmq_pb2 as pb
from hermes.store.log import Log
from hermes.store.log.memory import open_memory_log

BOUNDS = Bounds(max_frame=2 * 2**20, max_name_bytes=256, max_visibility_ms=12 * 3_600_000, token=b"")
CAPS = SetCaps(max_topics=10_000, max_groups=1_000, group_ttl_ms=7 * 86_400_000)
NODES = [pb.Node(id=1, peer_addr="127.0.0.1:7700")]


def now_ms() -> int:
    """The virtual clock in milliseconds."""
    return round(trio.current_time() * 1000)


class Client:
    """Sends requests and reads responses."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._bytes = bytearray()

    async def send(self, *requests: pb.Request) -> None:
        await self.send_bytes(b"".join(map(frame, requests)))

    async def send_bytes(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def read(self) -> pb.Response:
        """The next response. Raises EOFError if the broker has closed the connection."""
        while len(self._bytes) < 4 or len(self._bytes) < 4 + self._size():
            data = await self.stream.receive_some()
            if not data:
                raise EOFError
            self._bytes += data
        end = 4 + self._size()
        response = pb.Response.FromString(bytes(self._bytes[4:end]))
        del self._bytes[:end]
        return response

    def _size(self) -> int:
        return int(struct.unpack_from(">I", self._bytes)[0])

    async def ask(self, **kind: Any) -> Any:
        """The member of the response to one request."""
        await self.send(pb.Request(**kind))
        return self.found(await self.read())

    @staticmethod
    def found(response: pb.Response) -> Any:
        return getattr(response, response.WhichOneof("kind"))

    # Short forms.

    async def produce(self, topic: str, payload: bytes, **fields: Any) -> int:
        produced = await self.ask(produce=pb.Produce(topic=topic, payload=payload, **fields))
        assert isinstance(produced, pb.Produced), produced
        return int(produced.offset)

    async def poll(self, topic: str = "t", group: str = "g", **fields: Any) -> list[pb.Delivered]:
        polled = await self.ask(poll=pb.Poll(topic=topic, group=group, **fields))
        assert isinstance(polled, pb.Polled), polled
        return list(polled.items)

    async def offsets(self, topic: str = "t", group: str = "g", **fields: Any) -> list[int]:
        return [item.offset for item in await self.poll(topic, group, **fields)]

    async def ack(self, lease: int, topic: str = "t", group: str = "g") -> None:
        assert isinstance(await self.ask(ack=pb.Ack(topic=topic, group=group, lease_id=lease)), pb.Ok)

    async def subscribe(self, topic: str = "t", group: str = "g", **fields: Any) -> None:
        await self.send(pb.Request(subscribe=pb.Subscribe(topic=topic, group=group, **fields)))

    async def pushed(self) -> pb.Delivered:
        """The next message that is pushed; heartbeats are passed over."""
        while True:
            response = await self.read()
            if response.polled.items:
                (item,) = response.polled.items
                return item

    async def send_ack(self, lease: int) -> None:
        await self.send(pb.Request(ack=pb.Ack(lease_id=lease)))


def frame(request: pb.Request) -> bytes:
    message = request.SerializeToString()
    return struct.pack(">I", len(message)) + message


@dataclass
class Served:
    """A broker without sockets; ``connect`` gives a client of it."""

    node: Node
    connect: Callable[[], Client]

    @property
    def machine(self) -> Machine:
        return self.node.sequencer.machine


@asynccontextmanager
async def open_served(
    log: Log | None = None, *, bounds: Bounds = BOUNDS, caps: SetCaps = CAPS, formed: bool = True
) -> AsyncIterator[Served]:
    """A broker on a log of its own, whose cluster is formed of it alone."""
    async with open_memory_log() as memory:
        log = log or memory
        machine, payloads = Machine(), Payloads(log, most_bytes=2**20)
        await replay(log, machine, payloads)
        sequencer = Sequencer(log, machine, payloads, now_ms)
        node = Node(1, sequencer, caps)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sequencer.run)
            if formed:
                nursery.start_soon(node.begin, "127.0.0.1:7600")

            def connect() -> Client:
                mine, theirs = trio.testing.memory_stream_pair()
                nursery.start_soon(Connection(node, bounds, theirs, "a client").serve)
                return Client(mine)

            await trio.testing.wait_all_tasks_blocked()
            yield Served(node, connect)
            nursery.cancel_scope.cancel()
