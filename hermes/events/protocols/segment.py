"""Turns requests of Segment's HTTP API, as Segment's and RudderStack's libraries send them, into events. Pure.

Invariants: the payload is the message in its own bytes, without its write key and with the context that its batch gives
to all messages; a key is never stored.
Source: Segment's HTTP API reference and its Spec (common fields, timestamps).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Raw, ValidationError

from hermes.base.json.cut import Cutter, Pieces, Refused, cut_json
from hermes.base.json.elements import is_object
from hermes.base.json.long_values import BadValue
from hermes.base.json.missing_fields import FieldMissing
from hermes.base.json.rules import JUDGED, UNDECODABLE, BadBody, describe_error, without_mark
from hermes.base.json.wrong_types import in_words, kind_of
from hermes.events.decode import Decoded
from hermes.events.event import Event
from hermes.events.ingest.format import Format
from hermes.events.ingest.request import EventRequest
from hermes.events.protocols.mapping import TypeNames, check_timestamp, fit, parse_time
from hermes.events.protocols.messages import MessageDecoder
from hermes.events.protocols.segment_answers import SegmentAnswers
from hermes.events.protocols.segment_request import (
    MOST_MESSAGE,
    Message,
    SegmentRequest,
    complete,
    read_batch,
    read_text,
)
from hermes.net.http.head import Head
from hermes.net.http.rejection import Rejection
from hermes.net.http.response import ECHOED

KINDS = ("track", "identify", "page", "screen", "group", "alias", "merge")
"""The calls of the API, each with a path of its own; only RudderStack has the last."""

BEACON = "/beacon/v1/batch"
"""RudderStack's path for the messages of a closing page, with the key in the query."""

BATCHES = ("/v1/batch", "/v1/import", "/v1/b", BEACON)
# No short path for the last, merge: /v1/m belongs to the library's own metrics.
SINGLES = {f"/v1/{kind}": kind for kind in KINDS} | {f"/v1/{kind[0]}": kind for kind in KINDS[:-1]}
"""The paths of one message: the API's own, and the short ones of the browser library."""

_SEVERAL = '; several messages? send {"batch": [...]} to /v1/batch'
_TIME_FORM = "expected ISO 8601, such as 2024-05-05T10:11:12.000Z"
# Bytes, decoded in 5 ms.
_PIECE = 16 * 2**10
# Bytes that each piece of a large batch repeats: every member but the messages.
_MOST_SHARED = 64 * 2**10


class _OneOfMany(Message, kw_only=True, gc=False):
    """A message in a batch. No path tells its type, so the member is required."""

    type: str


class Segment:
    """The protocol of Segment's HTTP API.

    The shared members of a batch may add ``limit`` bytes to the payloads of a request. ``clock`` gives the time of
    arrival, in Unix seconds. ::

        protocol = Segment(["*"], limit=2**20, clock=time.time)
        request = EventRequest(head, protocol.choose(head))
        decoded = request.format.decode(request, b'{"batch": [{"type": "identify", "userId": "u1"}]}')
    """

    paths = (*SINGLES, *BATCHES)
    key_in_body = True

    def __init__(self, event_types: Sequence[str], limit: int, clock: Callable[[], float]) -> None:
        self._type_of = TypeNames(event_types)
        self._limit = limit
        self._clock = clock
        self._alone = MessageDecoder(Message, self._convert, _SEVERAL)
        self._batched = MessageDecoder(_OneOfMany, self._convert, "", partial=True)
        # ``partial``: the libraries repeat a whole request for ever after anything but a success, so any number of
        # messages may be invalid.
        # Twice the limit: the messages themselves, and as much again that the shared members may add.
        self._format = Format(SegmentAnswers(), self.decode, cut=_cut, at_once=_PIECE, most=2 * limit, partial=True)

    def choose(self, _head: Head) -> Format:
        """Return the one format, for every media type."""
        # Browsers send text/plain to avoid a preflight request; old libraries send the type of a form.
        return self._format

    def decode(self, asked: EventRequest, body: bytes) -> Decoded:
        """Return the events of a request to one of the paths. Raises `BadBody`, `KeyRefused` or `ContentTooLarge`."""
        request = SegmentRequest(self._clock(), SINGLES.get(asked.head.path, ""), asked, self._limit)
        # RudderStack's beacon has its key in the query: a page that closes can set no header.
        if request.key is not None:
            request.check_key(request.key)
            request.admit = None
        body = without_mark(body)
        decoded = self._decode_alone(body, request) if request.kind else self._decode_batch(body, request)
        # A piece is not judged: its messages may all be wrong while another piece has the key. `Ingest` asks once for
        # all.
        if not decoded.events and not request.known and not asked.piece:
            # No message was valid, so none was asked for a key of its own.
            request.check_key(None)
        return decoded

    def _decode_alone(self, body: bytes, request: SegmentRequest) -> Decoded:
        try:
            return self._alone.decode_one(body, request)
        except BadBody as error:
            # Cutting has already read a longer body to its end.
            if len(body) <= JUDGED and not is_object(body):
                raise
            # As in a batch: a rejection is a success for the library, which then does not send the message again.
            return Decoded([], [Rejection(0, str(error))])

    def _decode_batch(self, body: bytes, request: SegmentRequest) -> Decoded:
        try:
            batch = read_batch(body)
        except UNDECODABLE as error:
            words = describe_error(error, body, "")
            raise BadBody(f'{words}: expected {{"batch": [...]}}' if is_object(body) else words) from None
        key = read_text(batch.write_key)
        if request.admit is not None and key is not None:
            request.check_key(key)
            request.admit = None
        request.sent_at = read_text(batch.sent_at)
        request.share("context", bytes(batch.context))
        request.share("integrations", bytes(batch.integrations))
        messages = bytes(batch.batch)
        # `read_batch` took the member raw, of any type.
        if messages[:1] != b"[":
            raise BadBody(in_words(f"Expected `array`, got `{kind_of(messages)}` - at `$.batch`"))
        return self._batched.decode_list(messages, request)

    def _convert(self, request: SegmentRequest, index: int, message: Message, text: Raw) -> Event:
        # No key in the head or the batch: each message has to bring its own.
        if request.admit is not None:
            request.check_key(message.write_key)
        kind = request.kind or message.type
        if kind == "track":
            if not message.event:
                raise FieldMissing("a track message needs the name of its event - at `$.event`", "event")
            type_ = self._type_of(message.event, "track")
        elif kind in _OTHER_KINDS:
            # Not the kind itself: EVENT_TYPES may lack `page`, whose message is then rejected.
            type_ = self._type_of(kind, kind)
        else:
            raise ValidationError(f"{kind[:ECHOED]!r} is none of {', '.join(KINDS)} - at `$.type`")
        user = message.user_id
        if user is None or user == "":
            # An empty string is as good as none: it would make all such users one.
            user = message.anonymous_id
            if user is None or user == "":
                user = _find_merged(message.merge_properties) if kind == "merge" else None
                if user is None:
                    raise FieldMissing("a message needs a userId or an anonymousId", "userId", "anonymousId")
        timestamp = _correct_time(request, message)
        # Only then is the message written anew; else the payload is the client's own bytes.
        if request.shared or request.broken or message.write_key is not None:
            text = complete(request, message, text)
        return Event(
            # The library repeats a message with its id, so the sinks store the message once.
            fit(message.message_id) if message.message_id else request.ids(index),
            # JSON lets a user id be a number, and the same user has one id as number and as text.
            fit(user if isinstance(user, str) else str(user)),
            type_,
            timestamp,
            text,
        )


_OTHER_KINDS = frozenset(KINDS) - {"track"}


def _find_merged(properties: Any) -> str | None:
    """Return the first identifier of a ``merge``, which has no user; None if the merge has no identifier."""
    for each in properties if isinstance(properties, list) else ():
        value = each.get("value") if isinstance(each, dict) else None
        # True is an int in Python, and no identifier.
        if value and isinstance(value, str | int) and value is not True:
            return str(value)
    return None


def _correct_time(request: SegmentRequest, message: Message) -> int:
    """Return the event's time by Hermes's clock: arrival, less the client's own time from event to sending."""
    # `originalTimestamp` is the client's time before any server corrected it.
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
    # If a message says that it was sent before it happened, its times tell nothing about the client's clock.
    return check_timestamp(happened if passed is None or passed < 0 else request.now - passed)


def _since(happened: float, sent_at: Any) -> float | None:
    """Return the seconds until a message was sent, or None if ``sent_at`` is unreadable: then trust the clock."""
    try:
        return parse_time(sent_at) - happened if sent_at and isinstance(sent_at, str) else None
    except ValueError:
        return None


_cutter = Cutter(_PIECE, most_shared=_MOST_SHARED, most_element=MOST_MESSAGE)


def _cut(head: Head, body: bytes) -> Pieces:
    """Yield a large body in pieces, each with the members that its batch shares with all messages."""
    return _cut_message(body) if head.path in SINGLES else _cutter.cut_along(body, (("batch",),))


def _cut_message(body: bytes) -> Pieces:
    try:
        yield from cut_json(body, _PIECE)
    except BadValue as error:
        # A rejection, so that the library does not send the message again.
        yield Refused(str(error))
