"""One request of Segment's HTTP API: its members, what it says for all of its messages, and the key that it has. Pure.

Invariants: what cannot be read beside the messages refuses none of them, but for a context that they would have to
keep; a key is in no payload. Called by ``hermes.protocols.segment``.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

import msgspec
from msgspec import Raw, ValidationError

from hermes.decode import UNDECODABLE, check_text, describe_error, is_deep
from hermes.elements import split_object
from hermes.http.content import ContentTooLarge
from hermes.http.head import Head
from hermes.http.ids import RequestIds
from hermes.http.keys import UNKNOWN, WANTED, KeyRefused

_NO_TEXT = Raw()
MOST_MESSAGE = 2**20
"""The bytes of a message in a batch, or with a key of its own: decoded in 12 ms. The API takes 32 KB."""

_MOST_MEMBERS = (
    16_384  # of a message that is written anew without its key: 8 ms. A colon within a string counts as well
)


class Message(msgspec.Struct, rename="camel", kw_only=True, gc=False):
    """The members of a message that an event is made from.

    ``sent_at`` and ``write_key`` are of any type, for one that cannot be read is no reason to refuse the message.
    """

    type: str = ""
    event: str | None = None
    message_id: str | None = None
    user_id: str | int | float | None = None
    anonymous_id: str | int | float | None = None
    timestamp: str | None = None
    original_timestamp: str | None = None
    sent_at: Any = None
    write_key: Any = None
    merge_properties: Any = None
    context: Raw = _NO_TEXT
    integrations: Raw = _NO_TEXT


class MessageBatch(msgspec.Struct, rename="camel"):
    """A request of several messages, and what it says for all of them."""

    batch: Raw
    sent_at: Raw = _NO_TEXT
    write_key: Raw = _NO_TEXT
    context: Raw = _NO_TEXT
    integrations: Raw = _NO_TEXT


class SegmentRequest:
    """What all messages of a request share. ``room`` is how many bytes may still be added to their payloads.

    ``shared`` are the members that a message gets which has none of its own, ready to be written, and ``broken`` says
    which of them cannot be.
    """

    __slots__ = ("admit", "broken", "ids", "key", "kind", "known", "now", "room", "sent_at", "shared")

    def __init__(self, now: float, kind: str, head: Head, room: int) -> None:
        self.now = now
        self.ids = RequestIds(head, now)
        self.kind = kind
        self.admit = head.admit
        self.known = False
        self.key = parse_qs(head.query).get("writeKey", [None])[0] if head.query and head.admit else None
        self.room = room
        self.sent_at: Any = None
        self.shared: dict[str, bytes] = {}
        self.broken: dict[str, str] = {}

    def check_key(self, key: Any) -> None:
        """A key in the body, where the head had none. Raises `KeyRefused`."""
        if self.admit is None:
            return
        if not (isinstance(key, str) and self.admit(key)):
            raise KeyRefused(UNKNOWN if isinstance(key, str) and key else WANTED)
        self.known = True

    def share(self, name: str, value: bytes) -> None:
        """A member of the batch that is each message's. It is judged once, and not with every message."""
        if not value or value == b"null":
            return
        try:
            _decode_raw(value)
            check_text(value)
            if is_deep(Raw(b"[%b]" % value)):
                raise RecursionError
        except UNDECODABLE as error:
            self.broken[name] = f"{describe_error(error, value, '')} - at `$.{name}` of the batch"
        else:
            self.shared[name] = b'"%b":%b' % (name.encode(), value)


_decode_batch = msgspec.json.Decoder(MessageBatch).decode
_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_raw = msgspec.json.Decoder(Raw).decode
_decode_any = msgspec.json.Decoder().decode
_MEMBERS = dict(zip(MessageBatch.__struct_encode_fields__, MessageBatch.__struct_fields__, strict=True))


def read_batch(body: bytes) -> MessageBatch:
    """The members of a batch, whatever is wrong in one of them. Raises one of `UNDECODABLE`."""
    try:
        return _decode_batch(body)
    except UNDECODABLE:
        found = {}
        for quoted, value in split_object(body):
            name = _MEMBERS.get(quoted[1:-1].decode("latin-1"))
            if name is not None:
                found[name] = Raw(value)
        if "batch" not in found:
            raise
        return MessageBatch(**found)


def read_text(value: Raw) -> str | None:
    """A string, or None for anything else."""
    try:
        text = _decode_any(value) if len(value) else None
    except UNDECODABLE:
        return None
    return text if isinstance(text, str) else None


def complete(request: SegmentRequest, message: Message, text: Raw) -> Raw:
    """The message with what its request says for all, and without a key."""
    added = []
    for name, own in (("context", message.context), ("integrations", message.integrations)):
        if len(own):
            continue
        if name in request.broken:
            raise ValidationError(request.broken[name])
        if name in request.shared:
            added.append(request.shared[name])
            request.room -= len(added[-1]) + 1
    if request.room < 0:
        raise ContentTooLarge("the messages, each with the context of its batch, are too large: send fewer a request")
    if message.write_key is not None:
        if len(text) > MOST_MESSAGE or bytes(text).count(b":") > _MOST_MEMBERS:
            raise ValidationError(
                f"a message with a writeKey of its own may have {_MOST_MEMBERS} members and {MOST_MESSAGE} bytes: send "
                "the key as Authorization"
            )
        members = _decode_members(text)
        members.pop("writeKey", None)
        text = Raw(msgspec.json.encode(members))
    return Raw(b"{%b,%b" % (b",".join(added), bytes(text)[1:])) if added else text
