"""Reads one request of Segment's HTTP API: its members, the members shared by all messages, and its key. Pure.

Invariants: an unreadable member beside the messages rejects no message, except a shared context or integrations, which
the payloads would have to hold; no payload has a key.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote_plus

import msgspec
from msgspec import Raw, ValidationError

from hermes.base.json.elements import split_object
from hermes.base.json.rules import UNDECODABLE, check_text, describe_error, is_deep
from hermes.events.ingest.ids import RequestIds
from hermes.events.ingest.request import EventRequest
from hermes.net.http.content import ContentTooLarge
from hermes.net.http.keys import UNKNOWN, WANTED, KeyRefused

_NO_TEXT = Raw()
_WRITE_KEY = re.compile("(?:^|&)writeKey=([^&]+)")
MOST_MESSAGE = 2**20
"""The bytes of a message in a batch, or with a key of its own: decoded in 12 ms. The API takes 32 KB."""

# Members of a message that is encoded again without its key: 8 ms. Counted by colons, of which strings may hold some.
_MOST_MEMBERS = 16_384


class Message(msgspec.Struct, rename="camel", kw_only=True, gc=False):
    """The members of a message that become fields of an event."""

    # ``sent_at`` and ``write_key`` take any type: a wrong type there is no reason to reject the message.

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
    """A request of several messages, with the members shared by all of them."""

    batch: Raw
    sent_at: Raw = _NO_TEXT
    write_key: Raw = _NO_TEXT
    context: Raw = _NO_TEXT
    integrations: Raw = _NO_TEXT


class SegmentRequest:
    """The state that all messages of a request share. ``room``: bytes that may still be added to their payloads.

    ``shared`` holds the encoded members for messages without a member of that name; ``broken`` holds an error for each
    shared member that is invalid.
    """

    __slots__ = ("admit", "broken", "ids", "key", "kind", "known", "now", "room", "sent_at", "shared")

    def __init__(self, now: float, kind: str, request: EventRequest, room: int) -> None:
        self.now = now
        self.ids = RequestIds(request, now)
        self.kind = kind
        self.admit = request.admit
        self.known = False
        # Only if the head had no key: a key in the head has been judged already.
        query = request.head.query
        self.key = _read_key(query) if query and request.admit else None
        self.room = room
        self.sent_at: Any = None
        self.shared: dict[str, bytes] = {}
        self.broken: dict[str, str] = {}

    def check_key(self, key: Any) -> None:
        """Check a key of the body if the head had no key. Raises `KeyRefused`."""
        if self.admit is None:
            return
        if not (isinstance(key, str) and self.admit(key)):
            raise KeyRefused(UNKNOWN if isinstance(key, str) and key else WANTED)
        self.known = True

    def share(self, name: str, value: bytes) -> None:
        """Share a member of the batch with each message."""
        # Checked here once, and not again in each of a thousand payloads.
        # null shares nothing.
        if not value or value == b"null":
            return
        try:
            _decode_raw(value)
            check_text(value)
            # One level more, because the member will lie in the object of each message.
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


def _read_key(query: str) -> str | None:
    """Return the write key of a query, or None."""
    # Each piece of a large request looks for the key, and to parse a query of 64 KiB takes longer than the piece.
    found = _WRITE_KEY.search(query)
    return unquote_plus(found[1]) if found is not None else None


def read_batch(body: bytes) -> MessageBatch:
    """Return the members of a batch, also if one has the wrong type. Raises one of `UNDECODABLE`.

    >>> read_batch(b'{"batch": [], "sentAt": 1}').sent_at == Raw(b"1")
    True
    """
    try:
        return _decode_batch(body)
    except UNDECODABLE:
        # One member of a wrong type must not refuse the messages beside it: take the members one by one.
        found = {}
        for quoted, value in split_object(body):
            # latin-1 fails for no bytes: a name that is not UTF-8 is an unknown member.
            name = _MEMBERS.get(quoted[1:-1].decode("latin-1"))
            if name is not None:
                found[name] = Raw(value)
        if "batch" not in found:
            raise
        return MessageBatch(**found)


def read_text(value: Raw) -> str | None:
    """Return the string, or None for any other value.

    >>> read_text(Raw(b'"a"')), read_text(Raw(b"1"))
    ('a', None)
    """
    try:
        text = _decode_any(value) if len(value) else None
    except UNDECODABLE:
        return None
    return text if isinstance(text, str) else None


def complete(request: SegmentRequest, message: Message, text: Raw) -> Raw:
    """Return the message with the shared members of its request, and without a key."""
    added = []
    for name, own in (("context", message.context), ("integrations", message.integrations)):
        if len(own):
            continue
        if name in request.broken:
            raise ValidationError(request.broken[name])
        if name in request.shared:
            added.append(request.shared[name])
            # The comma counts too.
            request.room -= len(added[-1]) + 1
    # A context of a megabyte in each of a thousand payloads would be a gigabyte.
    if request.room < 0:
        raise ContentTooLarge("the messages, each with the context of its batch, are too large: send fewer a request")
    if message.write_key is not None:
        # Decoding and encoding it again is one step, so its size and its members bound how long the loop waits.
        if len(text) > MOST_MESSAGE or bytes(text).count(b":") > _MOST_MEMBERS:
            raise ValidationError(
                f"a message with a writeKey of its own may have {_MOST_MEMBERS} members and {MOST_MESSAGE} bytes: send "
                "the key as Authorization"
            )
        members = _decode_members(text)
        members.pop("writeKey", None)
        text = Raw(msgspec.json.encode(members))
    # A message that is not refused has at least one member, so the comma is right.
    return Raw(b"{%b,%b" % (b",".join(added), bytes(text)[1:])) if added else text
