"""Segment's HTTP API, as its libraries and RudderStack's speak it, as events.

The payload is the message in its own bytes, only without a write key, and with the context that a batch gives to all of
its messages. Invariant: a key is never stored. Pure. Wired in ``hermes.protocols.routes``; called by the ingest route.
Source: Segment's HTTP API reference and its Spec (common fields, timestamps).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw, ValidationError

from hermes.decode import UNDECODABLE, BadBody, Decoded, describe_error, is_clean
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

KINDS = ("track", "identify", "page", "screen", "group", "alias")
"""The calls of the API, each with a path of its own."""

BATCHES = ("/v1/batch", "/v1/import", "/v1/b")
SINGLES = {f"/v1/{kind}": kind for kind in KINDS} | {f"/v1/{kind[0]}": kind for kind in KINDS}
"""The paths of one message: the API's own, and the short ones of the browser library."""

LIBRARY_METRICS = "/v1/m"
"""Where the browser library sends numbers about itself."""

_MOST_METRICS = 64 * 2**10
_SEVERAL = '; several messages? send {"batch": [...]} to /v1/batch'
_TIME_FORM = "expected ISO 8601, such as 2024-05-05T10:11:12.000Z"
_NO_TEXT = Raw()


class Message(msgspec.Struct, rename="camel", kw_only=True, gc=False):
    """The members of a message that an event is made from."""

    type: str = ""
    event: str | None = None
    message_id: str | None = None
    user_id: str | int | float | None = None
    anonymous_id: str | int | float | None = None
    timestamp: str | None = None
    original_timestamp: str | None = None
    sent_at: str | None = None
    write_key: str | None = None


class _OneOfMany(Message, kw_only=True, gc=False):
    """A message in a batch, which has no path to say its type."""

    type: str


class MessageBatch(msgspec.Struct, rename="camel"):
    """A request of several messages, and what it says for all of them."""

    batch: Raw
    sent_at: str | None = None
    write_key: str | None = None
    context: Raw = _NO_TEXT
    integrations: Raw = _NO_TEXT


class _Request:
    """What all messages of a request share. ``room`` is how many bytes may still be added to their payloads."""

    __slots__ = ("admit", "ids", "kind", "now", "room", "sent_at", "shared")

    def __init__(self, now: float, kind: str, head: Head, room: int) -> None:
        self.now = now
        self.ids = RequestIds(head, now)
        self.kind = kind
        self.admit = head.admit
        self.room = room
        self.sent_at: str | None = None
        self.shared: dict[str, Raw] = {}

    def check_key(self, key: str | None) -> None:
        """A key in the body, where the head had none. Raises `KeyRefused`."""
        if self.admit is not None and not self.admit(key or ""):
            raise KeyRefused


class SegmentAnswers:
    """200, the only code that these libraries take for success; errors have the code and message that they show."""

    def taken(self, decoded: Decoded) -> Response:
        """200; what was rejected is told beside the success, for a library would send everything again otherwise."""
        if not decoded.rejected:
            return _SUCCESS
        told = {"success": True, "accepted": len(decoded.events), "rejected": decoded.rejected}
        return Response(200, msgspec.json.encode(told))

    def nothing(self, decoded: Decoded) -> Response:
        """400, which a library does not send again; or 200 for an empty batch."""
        if not decoded.rejected:
            return _SUCCESS
        return self.refused(400, "no message of this request is valid", accepted=0, rejected=decoded.rejected)

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
        self._format = Format(self.answers, self.decode)

    def choose(self, _head: Head) -> Format:
        """The one format, whatever the label: browsers send ``text/plain``, old libraries a form's."""
        return self._format

    def decode(self, head: Head, body: bytes) -> Decoded:
        """The events of a request to one of the paths. Raises `BadBody`, `KeyRefused` or `ContentTooLarge`."""
        request = _Request(self._clock(), SINGLES.get(head.path, ""), head, self._limit)
        decoded = self._alone.decode_one(body, request) if request.kind else self._decode_batch(body, request)
        if not decoded.events:
            request.check_key(None)  # no message was good enough to be asked for its own
        return decoded

    def _decode_batch(self, body: bytes, request: _Request) -> Decoded:
        try:
            batch = _decode_batch(body)
            clean = is_clean(body)
        except msgspec.ValidationError as error:
            raise BadBody(f'{error}: expected {{"batch": [...]}}') from None
        except UNDECODABLE as error:
            raise BadBody(describe_error(error, body, "")) from None
        if request.admit is not None and batch.write_key is not None:
            request.check_key(batch.write_key)
            request.admit = None
        request.sent_at = batch.sent_at
        request.shared = {
            name: value
            for name, value in (("context", batch.context), ("integrations", batch.integrations))
            if len(value) and bytes(value) != b"null"
        }
        messages = bytes(batch.batch)
        if messages[:1] != b"[":
            raise BadBody("Expected `array` - at `$.batch`")
        if request.shared:
            return self._batched.decode_each(messages, request, "the messages share a context")
        return self._batched.decode_list(messages, request, clean=clean)

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
                raise ValidationError("a message needs a userId or an anonymousId")
        timestamp = _correct_time(request, message)
        if request.shared or message.write_key is not None:
            text = _complete(request, text)
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


def _correct_time(request: _Request, message: Message) -> int:
    """When it happened, by our clock: arrival less what passed on the client's clock until it sent the message."""
    stamp = message.original_timestamp or message.timestamp
    if not stamp:
        return int(request.now)
    try:
        happened = parse_time(stamp)
    except ValueError:
        raise ValidationError(f"the timestamp {stamp[:ECHOED]!r} cannot be read: {_TIME_FORM}") from None
    if sent_at := message.sent_at or request.sent_at:
        try:
            passed = parse_time(sent_at) - happened
        except ValueError:
            raise ValidationError(f"sentAt {sent_at[:ECHOED]!r} cannot be read: {_TIME_FORM}") from None
        # A message that was sent before it happened tells nothing about the client's clock.
        happened = request.now - passed if passed >= 0 else happened
    return check_timestamp(happened)


def _complete(request: _Request, text: Raw) -> Raw:
    """The message with what its request says for all, and without a key."""
    members = _decode_members(text)
    members.pop("writeKey", None)
    completed = msgspec.json.encode(request.shared | members)
    request.room -= max(0, len(completed) - len(text))
    if request.room < 0:
        raise ContentTooLarge("the messages, each with the context of its batch, are too large: send fewer a request")
    return Raw(completed)


def library_metrics_route(response_lines: Callable[[Head], bytes]) -> Route:
    """Takes what the browser library says about itself, and keeps none of it: they are no events."""
    return Route(LIBRARY_METRICS, lambda _head: None, lambda _head, _body: _SUCCESS, response_lines, _MOST_METRICS)
