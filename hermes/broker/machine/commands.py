"""Declares the commands of the broker's log, and the entry that carries them.

One entry is one record of the log: a time, and the commands that were committed together. Every value that decides
anything stands in the command or in the state, so that each node that applies the same entries has the same state.

Format: MessagePack, each struct as an array that begins with its tag. A new field goes to the end, with a default, so
that entries of an older version stay readable.
"""

from __future__ import annotations

import msgspec


class Command(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A change of the state. Names of topics and groups are any text, the empty text too."""


class Produce(Command, frozen=True, tag="p"):
    """Append a message. With a ``producer_id`` the pair with ``seq`` is stored once. Replies with the offset.

    With ``delay_ms`` the message enters its topic so much later, and the reply is its id until then. Messages of one
    ``key`` are delivered one after the other; without a key (the empty text) in any order.
    """

    topic: str
    payload: bytes
    priority: int = 0
    content_type: int = 0
    producer_id: str = ""
    seq: int = 0
    delay_ms: int = 0
    key: str = ""


class Poll(Command, frozen=True, tag="q"):
    """Lease up to ``most`` messages for ``visibility_ms``; with ``auto`` acknowledge them at once.

    Replies with the deliveries. Creates the group, but no topic. ``holder`` says who asks.
    """

    topic: str
    group: str
    most: int
    visibility_ms: int = 30_000
    auto: bool = False
    holder: str = ""


class Register(Command, frozen=True, tag="r"):
    """Create the group unless it exists, and note that it is in use."""

    topic: str
    group: str


class Ack(Command, frozen=True, tag="a"):
    """Mark the messages of these leases as done. A lease that is unknown is passed over."""

    topic: str
    group: str
    lease_ids: tuple[int, ...]


class Nack(Command, frozen=True, tag="n"):
    """Give the messages of these leases back, each at its place. A lease that is unknown is passed over.

    With ``delay_ms`` a message is delivered again so much later, and the reply has the ids of new leases, one for each
    message, by which it may be acknowledged or given back sooner. ``reason`` stands in a dead letter.
    """

    topic: str
    group: str
    lease_ids: tuple[int, ...]
    delay_ms: int = 0
    reason: str = ""


class Extend(Command, frozen=True, tag="x"):
    """Let these leases end ``visibility_ms`` from now. Replies with the ids of those that there are."""

    topic: str
    group: str
    lease_ids: tuple[int, ...]
    visibility_ms: int


class Forward(Command, frozen=True, tag="f"):
    """Acknowledge a message and append another, both or neither. Replies as `Produce` does, or with `LeaseGone`."""

    topic: str
    group: str
    lease_id: int
    produce: Produce


class Cancel(Command, frozen=True, tag="z"):
    """Forget a message that waits for its time. Replies whether it still did."""

    topic: str
    id: int


class Wake(Command, frozen=True, tag="w"):
    """Let the messages whose time has come enter their topics, as every entry does."""


class SetGroup(Command, frozen=True, tag="g"):
    """Set what is not None: whether the group is paused, and after how many deliveries a message is a dead letter."""

    topic: str
    group: str
    paused: bool | None = None
    max_attempts: int | None = None


class Bury(Command, frozen=True, tag="u"):
    """Forget these dead letters of the state, which are stored elsewhere now."""

    ids: tuple[int, ...]


class Commit(Command, frozen=True, tag="c"):
    """Mark every message below ``offset`` as done for the group."""

    topic: str
    group: str
    offset: int


class CreateTopic(Command, frozen=True, tag="t"):
    """Create the topic unless it exists."""

    topic: str


class DeleteTopic(Command, frozen=True, tag="d"):
    """Forget the topic, with its messages, groups, leases, keys and limits."""

    topic: str


class SetRateLimit(Command, frozen=True, tag="l"):
    """Bound the deliveries of the topic: thousandths of a message a second, 0 for no bound, and the burst."""

    topic: str
    rate_milli: int
    burst: int


class SetRetention(Command, frozen=True, tag="k"):
    """Bound what the topic keeps; 0 is no bound on that axis, and two zeros are the default."""

    topic: str
    max_messages: int
    max_age_ms: int


class SetCaps(Command, frozen=True, tag="b"):
    """The bounds that all nodes apply from here on: how many topics, groups of one, and how long a group rests."""

    max_topics: int
    max_groups: int
    group_ttl_ms: int


class Bootstrap(Command, frozen=True, tag="i"):
    """Form the cluster of these nodes, pairs of id and peer address. Without effect once a cluster is formed."""

    nodes: tuple[tuple[int, str], ...]


class Lead(Command, frozen=True, tag="e"):
    """The node is the leader from here on; a new term begins."""

    node: int


AnyCommand = (
    Produce
    | Poll
    | Register
    | Ack
    | Nack
    | Extend
    | Forward
    | Cancel
    | Wake
    | SetGroup
    | Bury
    | Commit
    | CreateTopic
    | DeleteTopic
    | SetRateLimit
    | SetRetention
    | SetCaps
    | Bootstrap
    | Lead
)


class Entry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The commands of one commit, in their order, at ``time_ms`` of the log's time (Unix milliseconds).

    >>> decode_entry(encode_entry(Entry(5, (Produce("orders", b"hi"),)))).commands[0].payload
    b'hi'
    """

    time_ms: int
    commands: tuple[AnyCommand, ...]


encode_entry = msgspec.msgpack.Encoder().encode
"""The bytes of an `Entry`."""

decode_entry = msgspec.msgpack.Decoder(Entry).decode
"""The `Entry` of these bytes. Raises `msgspec.DecodeError`."""
