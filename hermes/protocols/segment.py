"""Segment's HTTP API, as its libraries and RudderStack's speak it, as events.

The payload is the message in its own bytes, only without a write key, and with the context that a batch gives to all of
its messages. Invariant: a key is never stored. Pure. Wired in ``hermes.protocols.routes``; called by the ingest route.
Source: Segment's HTTP API reference and its Spec (common fields, timestamps).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs

import msgspec
from msgspec import Raw, ValidationError

from hermes.cut import Cutter, Pieces, cut_json
from hermes.decode import (
    JUDGED,
    UNDECODABLE,
    BadBody,
    Decoded,
    Rejection,
    check_text,
    describe_error,
    is_deep,
    without_mark,
)
from hermes.elements import is_object, split_object
from hermes.event import Event
from hermes.http.content import ContentTooLarge
from hermes.http.format import Format
from hermes.http.head import Head, Route
from hermes.http.ids import RequestIds
from hermes.http.ingest import ECHOED
from hermes.http.keys import KeyRefused
from hermes.http.response import Response
from hermes.protocols.mapping import TypeNames, check_timestamp, fit, parse_time
from hermes.protocols.messages import MessageDecoder

KINDS = ("track", "identify", "page", "screen", "group", "alias", "merge")
"""The calls of the API, each with a path of its own; the last is RudderStack's."""

BEACON = "/beacon/v1/batch"
"""RudderStack's path of what a page sends as it closes, with the key in the query."""

BATCHES = ("/v1/batch", "/v1/import", "/v1/b", BEACON)
SINGLES = {f"/v1/{kind}": kind for kind in KINDS} | {f"/v1/{kind[0]}": kind for kind in KINDS[:-1]}
"""The paths of one message: the API's own, and the short ones of the browser library."""

SOURCE_CONFIG = msgspec.json.encode(
    {
        "source": {
            "id": "hermes",
            "name": "hermes",
            "enabled": True,
            "config": {"statsCollection": {"errors": {"enabled": False}, "metrics": {"enabled": False}}},
            "destinations": [],
            "connections": [],
            "dataplanes": {},
        }
    }
)
"""What RudderStack's libraries ask for before they send: an enabled source without destinations of its own."""

LIBRARY_METRICS = "/v1/m"
"""Where the browser library sends numbers about itself."""

_MOST_METRICS = 64 * 2**10
_SEVERAL = '; several messages? send {"batch": [...]} to /v1/batch'
_TIME_FORM = "expected ISO 8601, such as 2024-05-05T10:11:12.000Z"
_NO_TEXT = Raw()
_PIECE = 16 * 2**10  # bytes, decoded in 5 ms
_MOST_SHARED = 64 * 2**10  # bytes that each piece of a large batch has: its context and what else is not its messages


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


class _OneOfMany(Message, kw_only=True, gc=False):
    """A message in a batch, which has no path to say its type."""

    type: str


class MessageBatch(msgspec.Struct, rename="camel"):
    """A request of several messages, and what it says for all of them."""

    batch: Raw
    sent_at: Raw = _NO_TEXT
    write_key: Raw = _NO_TEXT
    context: Raw = _NO_TEXT
    integrations: Raw = _NO_TEXT


class _Request:
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
            raise KeyRefused
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


class SegmentAnswers:
    """200, the only code that these libraries take for success; errors have the code and message that they show.

    A request with invalid messages is a success too: the messages get no better by being sent again, and a library
    that hears anything else may repeat them for ever, with the others of its queue behind them.
    """

    def taken(self, decoded: Decoded) -> Response:
        """200; what was rejected is told beside the success."""
        if not decoded.rejected:
            return _SUCCESS
        told = {"success": True, "accepted": len(decoded.events), "rejected": decoded.rejected}
        return Response(200, msgspec.json.encode(told))

    def nothing(self, decoded: Decoded) -> Response:
        """The same."""
        return self.taken(decoded)

    def refused(self, status: int, detail: str, headers: Mapping[str, str] | None = None, **members: Any) -> Response:
        """An error in Segment's own form."""
        code = _CODES.get(status, "invalid_request" if status < 500 else "server_error")
        document = {"success": False, "code": code, "message": detail, **members}
        return Response(status, msgspec.json.encode(document), headers=headers, detail=detail)


_SUCCESS = Response(200, b'{"success":true}')
_CODES = {401: "unauthorized", 413: "payload_too_large", 415: "unsupported_media_type", 503: "service_unavailable"}


class Segment:
    """The protocol. A payload may grow by ``limit`` bytes a request; ``clock`` gives the time of arrival."""

    paths = (*SINGLES, *BATCHES)
    key_in_body = True
    decode_one = None

    def __init__(self, event_types: Sequence[str], limit: int, clock: Callable[[], float]) -> None:
        self._type_of = TypeNames(event_types)
        self._limit = limit
        self._clock = clock
        self._alone = MessageDecoder(Message, self._convert, _SEVERAL)
        self._batched = MessageDecoder(_OneOfMany, self._convert, "")
        self.answers = SegmentAnswers()
        self._format = Format(self.answers, self.decode, cut=_cut, at_once=_PIECE, most=2 * limit)

    def choose(self, _head: Head) -> Format:
        """The one format, whatever the label: browsers send ``text/plain``, old libraries a form's."""
        return self._format

    def decode(self, head: Head, body: bytes) -> Decoded:
        """The events of a request to one of the paths. Raises `BadBody`, `KeyRefused` or `ContentTooLarge`."""
        request = _Request(self._clock(), SINGLES.get(head.path, ""), head, self._limit)
        if request.key is not None:
            request.check_key(request.key)
            request.admit = None
        body = without_mark(body)
        decoded = self._decode_alone(body, request) if request.kind else self._decode_batch(body, request)
        if not decoded.events and not request.known:
            request.check_key(None)  # no message was good enough to be asked for its own
        return decoded

    def _decode_alone(self, body: bytes, request: _Request) -> Decoded:
        try:
            return self._alone.decode_one(body, request)
        except BadBody as error:
            if len(body) <= JUDGED and not is_object(body):  # a longer one was walked when it was cut
                raise
            return Decoded([], [Rejection(0, str(error))])  # as in a batch, and the library has not to send it again

    def _decode_batch(self, body: bytes, request: _Request) -> Decoded:
        try:
            batch = _read_batch(body)
        except UNDECODABLE as error:
            words = describe_error(error, body, "")
            raise BadBody(f'{words}: expected {{"batch": [...]}}' if is_object(body) else words) from None
        key = _read_text(batch.write_key)
        if request.admit is not None and key is not None:
            request.check_key(key)
            request.admit = None
        request.sent_at = _read_text(batch.sent_at)
        request.share("context", bytes(batch.context))
        request.share("integrations", bytes(batch.integrations))
        messages = bytes(batch.batch)
        if messages[:1] != b"[":
            raise BadBody("Expected `array` - at `$.batch`")
        return self._batched.decode_list(messages, request)

    def _convert(self, request: _Request, index: int, message: Message, text: Raw) -> Event:
        if request.admit is not None:
            request.check_key(message.write_key)
        kind = request.kind or message.type
        if kind == "track":
            if not message.event:
                raise ValidationError("a track message needs the name of its event - at `$.event`")
            type_ = self._type_of(message.event, "track")
        elif kind in _OTHER_KINDS:
            type_ = self._type_of(kind, kind)
        else:
            raise ValidationError(f"{kind[:ECHOED]!r} is none of {', '.join(KINDS)} - at `$.type`")
        user = message.user_id
        if user is None or user == "":
            user = message.anonymous_id
            if user is None or user == "":
                user = _find_merged(message.merge_properties) if kind == "merge" else None
                if user is None:
                    raise ValidationError("a message needs a userId or an anonymousId")
        timestamp = _correct_time(request, message)
        if request.shared or request.broken or message.write_key is not None:
            text = _complete(request, message, text)
        return Event(
            fit(message.message_id) if message.message_id else request.ids(index),
            fit(user if isinstance(user, str) else str(user)),
            type_,
            timestamp,
            text,
        )


_OTHER_KINDS = frozenset(KINDS) - {"track"}
_decode_batch = msgspec.json.Decoder(MessageBatch).decode
_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_raw = msgspec.json.Decoder(Raw).decode
_decode_any = msgspec.json.Decoder().decode
_MEMBERS = dict(zip(MessageBatch.__struct_encode_fields__, MessageBatch.__struct_fields__, strict=True))


def _read_batch(body: bytes) -> MessageBatch:
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


def _read_text(value: Raw) -> str | None:
    """A string, or None for anything else."""
    try:
        text = _decode_any(value) if len(value) else None
    except UNDECODABLE:
        return None
    return text if isinstance(text, str) else None


def _find_merged(properties: Any) -> str | None:
    """Whom a ``merge`` is about, which has no user: the first identifier of those that it says are one."""
    for each in properties if isinstance(properties, list) else ():
        value = each.get("value") if isinstance(each, dict) else None
        if value and isinstance(value, str | int) and value is not True:
            return str(value)
    return None


def _correct_time(request: _Request, message: Message) -> int:
    """When it happened, by our clock: arrival less what passed on the client's clock until it sent the message."""
    stamp = message.original_timestamp or message.timestamp
    if not stamp:
        return int(request.now)
    try:
        happened = parse_time(stamp)
    except ValueError:
        raise ValidationError(f"the timestamp {stamp[:ECHOED]!r} cannot be read: {_TIME_FORM}") from None
    passed = _since(happened, message.sent_at)
    if passed is None:
        passed = _since(happened, request.sent_at)
    # A message that was sent before it happened tells nothing about the client's clock.
    return check_timestamp(happened if passed is None or passed < 0 else request.now - passed)


def _since(happened: float, sent_at: Any) -> float | None:
    """The seconds until a message was sent; None where that cannot be read: then the client's clock is believed."""
    try:
        return parse_time(sent_at) - happened if sent_at and isinstance(sent_at, str) else None
    except ValueError:
        return None


def _complete(request: _Request, message: Message, text: Raw) -> Raw:
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
        members = _decode_members(text)
        members.pop("writeKey", None)
        text = Raw(msgspec.json.encode(members))
    return Raw(b"{%b,%b" % (b",".join(added), bytes(text)[1:])) if added else text


_cutter = Cutter(_PIECE, most_shared=_MOST_SHARED)


def _cut(head: Head, body: bytes) -> Pieces:
    """A large body in pieces, of which each has what its batch says for all messages."""
    return cut_json(body, _PIECE) if head.path in SINGLES else _cutter.cut_along(body, (("batch",),))


def library_metrics_route(response_lines: Callable[[Head], bytes]) -> Route:
    """Takes what the browser library says about itself, and keeps none of it: they are no events."""
    return Route(LIBRARY_METRICS, lambda _head: None, lambda _head, _body: _SUCCESS, response_lines, _MOST_METRICS)
