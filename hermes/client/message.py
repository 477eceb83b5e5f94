"""The client's view of the broker: messages, nodes, statistics; and how a value becomes a payload. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from hermes.broker.wire.hermesmq_pb2 import Delivered, StatsResult

# The protocol's numbers. Its fourth, 3 for msgpack, comes from other clients alone.
RAW, TEXT, JSON = 0, 1, 2


class Node(msgspec.Struct, frozen=True):
    """A node: ``address`` is ``host:port``; ``peer_address`` is its name in redirects and at bootstrap."""

    address: str
    peer_address: str = ""
    # The number that `hermesmqd` has unless told: a single node needs none here.
    id: int = 1


class Message(msgspec.Struct, frozen=True):
    """A delivered message. ``timestamp_ms`` is the broker's time of the produce, in Unix milliseconds.

    ``content_type`` is 0 for bytes, 1 for text, 2 for JSON, 3 for msgpack.
    """

    topic: str
    group: str
    # Offsets and lease ids begin at 0, which is no sign of a missing one.
    offset: int
    lease_id: int
    priority: int
    content_type: int
    payload: bytes
    timestamp_ms: int

    def json(self) -> Any:
        """Return the payload decoded from JSON."""
        return msgspec.json.decode(self.payload)


class Stats(msgspec.Struct, frozen=True):
    """The statistics that a node gives of itself; 0 means none. ``in_flight`` counts the leases of all groups."""

    last_applied: int
    current_leader: int
    current_term: int
    last_log_index: int
    is_leader: bool
    topics: int
    messages: int
    in_flight: int


def encode_payload(value: object) -> tuple[bytes, int]:
    """Return a value as the bytes of a payload, and its content type.

    >>> encode_payload(b"x"), encode_payload("x"), encode_payload({"a": 1})
    ((b'x', 0), (b'x', 1), (b'{"a":1}', 2))
    """
    if isinstance(value, bytes | bytearray | memoryview):
        # A copy of a bytearray: the produce may wait, or be sent again, while the caller changes it.
        return bytes(value), RAW
    if isinstance(value, str):
        # Before JSON, which would put quotes around it.
        return value.encode(), TEXT
    return msgspec.json.encode(value), JSON


def message_of(topic: str, group: str, item: Delivered) -> Message:
    """Return a delivered item as a message of its topic and group."""
    return Message(topic, group, item.offset, item.lease_id, item.priority, item.content_type, item.payload, item.ts_ms)


def stats_of(reply: StatsResult) -> Stats:
    """Return the statistics of a reply."""
    return Stats(
        reply.last_applied,
        reply.current_leader,
        reply.current_term,
        reply.last_log_index,
        reply.is_leader,
        reply.topics,
        reply.messages,
        reply.in_flight,
    )
