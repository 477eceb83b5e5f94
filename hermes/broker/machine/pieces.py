"""The pieces of a snapshot, and their bytes.

Format: a line that names the version; then the pieces, each its length (4 bytes, little-endian) and so many bytes of
MessagePack, a struct of this file as an array that begins with its tag. The order::

    Head, Dead...,
    (TopicHead, Rows..., Orders..., Late..., Keys..., Waits...,
        (GroupHead, Ranges..., Runs..., Held..., Delays..., Delayed..., Returned..., Stands..., Fails...)...)...,
    End

A long list is spread over several pieces, so that no piece takes long to make. A new field needs a new version.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from hermes.broker.machine.commands import SetCaps
from hermes.broker.machine.group import GroupOptions
from hermes.broker.machine.leases import LeaseRun
from hermes.broker.machine.machine import DeadLetter
from hermes.broker.machine.scheduled import Later
from hermes.broker.machine.topic import Limits

_FORMAT = b"snapshot of a hermes broker, version "
_VERSION = b"1\n"
_LENGTH_BYTES = 4
# Other tasks run between two chunks: this much is encoded while they wait.
_CHUNK_BYTES = 16 * 2**10


class _Piece(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A piece of a snapshot."""


class Head(_Piece, frozen=True, tag="head"):
    """The state outside of topics. ``next_index`` is the index of the first entry that the snapshot does not have."""

    next_index: int
    time_ms: int
    # Or the ids of leases that have ended would be given to other messages.
    next_lease: int
    nodes: dict[int, str]
    leader: int
    term: int
    caps: SetCaps
    next_id: int


class Dead(_Piece, frozen=True, tag="dead"):
    """Dead letters that are not stored elsewhere yet, by id."""

    letters: list[tuple[int, DeadLetter]]


class TopicHead(_Piece, frozen=True, tag="topic"):
    """A topic begins. ``first`` is the offset of its first row."""

    name: str
    first: int
    limits: Limits


class Rows(_Piece, frozen=True, tag="rows"):
    """Retained messages, as `Messages.rows` gives them."""

    rows: bytes


class Orders(_Piece, frozen=True, tag="orders"):
    """The digests of keys that keep an order, each with the offset of its newest message."""

    orders: list[tuple[int, int]]


class Late(_Piece, frozen=True, tag="late"):
    """Offset and record of messages whose record is lower than that of a message before them."""

    messages: list[tuple[int, int]]


class Waits(_Piece, frozen=True, tag="waits"):
    """Messages that enter later, by id."""

    messages: list[tuple[int, Later]]


class Keys(_Piece, frozen=True, tag="keys"):
    """Keys of the window of deduplication: producer id, sequence number, offset."""

    keys: list[tuple[str, int, int]]


class GroupHead(_Piece, frozen=True, tag="group"):
    """A group of the topic begins. ``fresh`` is the offset of each priority's first fresh message."""

    name: str
    watermark: int
    # The turn of the oldest comes at the same poll as without the restart.
    polls: int
    active_ms: int
    fresh: list[int]
    options: GroupOptions


class Ranges(_Piece, frozen=True, tag="ranges"):
    """Done offsets above the watermark: the first of a range, and the one after its last."""

    ranges: list[tuple[int, int]]


class Runs(_Piece, frozen=True, tag="runs"):
    """Deadlines of leases."""

    runs: list[LeaseRun]


class Held(_Piece, frozen=True, tag="held"):
    """Leases: id and offset."""

    leases: list[tuple[int, int]]


class Delays(_Piece, frozen=True, tag="delays"):
    """The ends of delays, as `Runs`."""

    runs: list[LeaseRun]


class Delayed(_Piece, frozen=True, tag="delayed"):
    """Messages that were given back with a delay, as `Held`."""

    leases: list[tuple[int, int]]


class Stands(_Piece, frozen=True, tag="stands"):
    """Offsets of messages that stand behind others of their keys."""

    offsets: list[int]


class Fails(_Piece, frozen=True, tag="fails"):
    """Offset of messages, and how many attempts at each failed."""

    counts: list[tuple[int, int]]


class Returned(_Piece, frozen=True, tag="returned"):
    """Offsets of messages that were returned."""

    offsets: list[int]


class End(_Piece, frozen=True, tag="end"):
    """The last piece."""


Piece = (
    Head
    | Dead
    | TopicHead
    | Rows
    | Orders
    | Late
    | Keys
    | Waits
    | GroupHead
    | Ranges
    | Runs
    | Held
    | Delays
    | Delayed
    | Returned
    | Stands
    | Fails
    | End
)

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Piece).decode


def encode(pieces: Iterable[Piece]) -> Iterator[bytes]:
    """The bytes of the pieces, in chunks.

    >>> list(decode(b"".join(encode([Rows(b"..."), End()]))))
    [Rows(rows=b'...'), End()]
    """
    chunk = bytearray(_FORMAT + _VERSION)
    for piece in pieces:
        data = _encode(piece)
        chunk += len(data).to_bytes(_LENGTH_BYTES, "little") + data
        if len(chunk) >= _CHUNK_BYTES:
            yield bytes(chunk)
            chunk.clear()
    yield bytes(chunk)


def decode(state: bytes) -> Iterator[Piece]:
    """The pieces of these bytes. Raises ValueError, `msgspec.DecodeError`.

    >>> list(decode(b"{}"))
    Traceback (most recent call last):
    ValueError: these bytes are no snapshot of a broker
    """
    # The beginning alone: `partition` copies the rest of what it is given, and a state may have many megabytes.
    version, line_end, _ = state[: len(_FORMAT) + 20].removeprefix(_FORMAT).partition(b"\n")
    if not state.startswith(_FORMAT) or not line_end:
        raise ValueError("these bytes are no snapshot of a broker")
    if version + line_end != _VERSION:
        raise ValueError(f"its version is {version.decode(errors='replace')}, and this program reads {_VERSION[:-1]!r}")
    # A view, so that a piece is decoded without a copy of its bytes.
    view, at = memoryview(state), len(_FORMAT + _VERSION)
    while at < len(view):
        start = at + _LENGTH_BYTES
        at = start + int.from_bytes(view[at:start], "little")
        if at > len(view):
            raise ValueError("it is cut off")
        yield _decode(view[start:at])
