"""Declares the commands of the broker's log, and the entry that carries them.

One entry is one record of the log: a time, and the commands that were committed together. Every value that decides
anything stands in the command or in the state, so that each node that applies the same entries has the same state.

Format: MessagePack, each struct as an array that begins with its tag. A new field goes to the end, with a default, so
that entries of an older version stay readable.
"""

from __future__ import annotations

import msgspec


# No cycle can pass through a command, so the garbage collector need not visit the many that the cache of payloads
# holds.
class Command(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A change of the state. Names of topics and groups are any text, the empty text too."""


# The tags of these classes stand in every log: with another tag the entries of before could not be read.
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
    # The default of HermesMQ.
    visibility_ms: int = 30_000
    # In the poll's own command: a crash between the entry and its reply leaves the messages done, and not leased.
    auto: bool = False
    holder: str = ""


# A poll that waits writes this and no `Poll`, so that its group's share for the oldest goes on where it was.
class Register(Command, frozen=True, tag="r"):
    """Create the group unless there is one of the name, and note that the group is in use."""

    topic: str
    group: str


class Ack(Command, frozen=True, tag="a"):
    """Mark the messages of these leases as done. A lease that is unknown is passed over."""

    topic: str
    group: str
    # Many: the acknowledgements of a group that wait for the same entry share one command.
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
    """Create the topic unless there is one of the name."""

    topic: str


class DeleteTopic(Command, frozen=True, tag="d"):
    """Forget the topic, with its messages, groups, leases, keys and limits."""

    topic: str


class SetRateLimit(Command, frozen=True, tag="l"):
    """Bound the deliveries of the topic: thousandths of a message a second, 0 for no bound, and the burst."""

    topic: str
    # A whole number: HermesMQ rounds the protocol's float to thousandths too.
    rate_milli: int
    burst: int


class SetRetention(Command, frozen=True, tag="k"):
    """Bound the messages that the topic keeps; 0 is no bound on that axis, and two zeros are the default."""

    topic: str
    max_messages: int
    max_age_ms: int


# In the log, for the caps decide replies: two nodes with caps of their own would differ over the same entry.
class SetCaps(Command, frozen=True, tag="b"):
    """The bounds that all nodes apply from here on: how many topics, groups of one, and how long a group rests."""

    max_topics: int
    max_groups: int
    group_ttl_ms: int


class Bootstrap(Command, frozen=True, tag="i"):
    """Form the cluster of these nodes, pairs of id and peer address. Without effect once a cluster is formed."""

    nodes: tuple[tuple[int, str], ...]


# Written at each start too: until the log has taken it, a node that led before cannot know that it still may.
class Lead(Command, frozen=True, tag="e"):
    """The node is the leader from here on; a new term begins."""

    node: int


# A class that is missing here would be written all the same, and the next start could not read its entry.
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

    # The writer's time: a node that applies the entry later gives each lease the same deadline.
    time_ms: int
    commands: tuple[AnyCommand, ...]


# Made once: msgspec looks at all the types when a decoder is made.
encode_entry = msgspec.msgpack.Encoder().encode
"""The bytes of an `Entry`."""

decode_entry = msgspec.msgpack.Decoder(Entry).decode
"""The `Entry` of these bytes. Raises `msgspec.DecodeError`."""
