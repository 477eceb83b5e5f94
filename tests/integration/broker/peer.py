"""A client of the broker's protocol that shares nothing with the broker but the ``.proto`` file.

It compiles the file itself, writes its own lengths, and waits for one answer at a time unless told otherwise.
"""

from __future__ import annotations

import socket
import struct
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, Self

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_tools import protoc

import hermes

PROTO = Path(hermes.__file__).parent / "broker/wire/hermesmq.proto"
ANSWER_SECONDS = 15.0


@cache
def messages() -> Any:
    """The classes of the messages by their names, of a pool of their own."""
    with TemporaryDirectory() as folder:
        made = f"{folder}/set"
        assert protoc.main(["protoc", f"--proto_path={PROTO.parent}", f"--descriptor_set_out={made}", PROTO.name]) == 0
        files = descriptor_pb2.FileDescriptorSet.FromString(Path(made).read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    (file,) = files.file
    names = [message.name for message in file.message_type]
    found = {name: pool.FindMessageTypeByName(f"{file.package}.{name}") for name in names}
    return SimpleNamespace(**{name: message_factory.GetMessageClass(each) for name, each in found.items()})


def framed(data: bytes) -> bytes:
    """``data`` behind its length."""
    return struct.pack(">I", len(data)) + data


def request(kind: str, /, **fields: Any) -> bytes:
    """The frame of a request: the member's name, and its fields."""
    made = messages().Request()
    member = getattr(made, kind)
    # An empty member must still stand on the wire.
    member.SetInParent()
    for name, value in fields.items():
        if isinstance(value, list):
            getattr(member, name).extend(value)
        else:
            setattr(member, name, value)
    return framed(made.SerializeToString())


class Peer:
    """One connection."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), ANSWER_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.socket.close()

    # --- bytes and frames ---

    def send(self, *frames: bytes) -> None:
        """Send frames with one call of the system."""
        self.socket.sendall(b"".join(frames))

    def raw(self) -> bytes | None:
        """The next response as bytes; None if the broker has closed the connection."""
        head = self._exactly(4)
        return None if head is None else self._exactly(struct.unpack(">I", head)[0])

    def _exactly(self, count: int) -> bytes | None:
        data = b""
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            if not piece:
                assert not data, "the connection was closed inside a response"
                return None
            data += piece
        return data

    def read(self, seconds: float = ANSWER_SECONDS) -> Any:
        """The member of the next response. Raises TimeoutError, and EOFError if the connection is closed."""
        self.socket.settimeout(seconds)
        data = self.raw()
        if data is None:
            raise EOFError
        response = messages().Response.FromString(data)
        return getattr(response, response.WhichOneof("kind"))

    def closed(self, seconds: float = ANSWER_SECONDS) -> bool:
        """Whether the broker closes the connection, without a further response."""
        self.socket.settimeout(seconds)
        try:
            return self.raw() is None
        except ConnectionResetError:
            return True

    def rest(self) -> list[Any]:
        """The members of all responses until the broker closes the connection."""
        found = []
        while True:
            try:
                found.append(self.read())
            except EOFError:
                return found

    # --- one request and its answer ---

    def ask(self, kind: str, /, **fields: Any) -> Any:
        """The member of the response to one request."""
        self.send(request(kind, **fields))
        return self.read(ANSWER_SECONDS + fields.get("wait_ms", 0) / 1000)

    def ok(self, kind: str, /, **fields: Any) -> None:
        """A request that is answered by Ok."""
        found = self.ask(kind, **fields)
        assert found.DESCRIPTOR.name == "Ok", found

    def fails(self, kind: str, /, **fields: Any) -> Any:
        """The Error that answers a request."""
        found = self.ask(kind, **fields)
        assert found.DESCRIPTOR.name == "Error", found
        return found

    def produce(self, topic: str, payload: bytes = b"", **fields: Any) -> int:
        """Store a message; return its offset."""
        found = self.ask("produce", topic=topic, payload=payload, **fields)
        assert found.DESCRIPTOR.name == "Produced", found
        return int(found.offset)

    def poll(self, topic: str, group: str = "g", **fields: Any) -> list[Any]:
        """The items of a Polled."""
        found = self.ask("poll", topic=topic, group=group, **fields)
        assert found.DESCRIPTOR.name == "Polled", found
        return list(found.items)

    def offsets(self, topic: str, group: str = "g", **fields: Any) -> list[int]:
        """The offsets that a poll gives."""
        return [item.offset for item in self.poll(topic, group, **fields)]

    def bootstrap(self, node: int = 1) -> None:
        """Form a cluster of this node."""
        self.ok("bootstrap", nodes=[messages().Node(id=node, peer_addr="127.0.0.1:7700")])

    # --- a subscription ---

    def subscribe(self, topic: str, group: str = "g", **fields: Any) -> None:
        """Make this connection a subscription."""
        self.send(request("subscribe", topic=topic, group=group, **fields))

    def pushed(self, seconds: float = ANSWER_SECONDS) -> Any:
        """The next message that is pushed, alone in its frame. Raises TimeoutError if none comes."""
        found = self.read(seconds)
        assert found.DESCRIPTOR.name == "Polled", found
        (item,) = found.items
        return item

    def silent(self, seconds: float) -> bool:
        """Whether nothing comes for so long."""
        try:
            self.pushed(seconds)
        except TimeoutError:
            return True
        return False

    def ack(self, lease_id: int) -> None:
        """Acknowledge a message that was pushed; there is no answer."""
        self.send(request("ack", lease_id=lease_id))

    def nack(self, lease_id: int) -> None:
        """Give back a message that was pushed; there is no answer."""
        self.send(request("nack", lease_id=lease_id))
