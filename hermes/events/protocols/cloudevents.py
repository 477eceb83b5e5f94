"""Turns CloudEvents 1.0, in the three modes of their HTTP binding, into events. Pure.

Invariant: the payload is the whole CloudEvent in its JSON format, so no attribute is lost and any CloudEvents library
can read the payload. In the structured and batch modes the payload is the client's own bytes; in the binary mode it is
made of the headers and the body's own bytes.
Source: CloudEvents 1.0.2, its JSON format and HTTP protocol binding.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import unquote_to_bytes

import msgspec
from msgspec import Meta, Raw, ValidationError

from hermes.base.json.cut import Pieces
from hermes.base.json.missing_fields import advise, missing_fields
from hermes.base.json.rules import UNDECODABLE, BadBody, check_text, describe_error, is_deep, refuse_wide
from hermes.base.json.wrong_types import in_words
from hermes.events.decode import Decoded
from hermes.events.event import Event
from hermes.events.ingest.format import JSON_TYPES
from hermes.events.ingest.request import EventRequest
from hermes.events.protocols.cloudevents_pieces import cut_binary
from hermes.events.protocols.mapping import TypeNames, check_timestamp, fit, size_of
from hermes.events.protocols.messages import MessageDecoder
from hermes.net.http.head import Head
from hermes.net.http.rejection import Rejection

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
FAMILY = "application/cloudevents"
"""The beginning of the media type of every structured or batched CloudEvent, in any format."""

MARK = "ce-specversion"
"""The header that every CloudEvent in binary mode has."""

_PREFIX = "ce-"
# Members of the JSON format that are not attributes, so no header may set them.
_DATA = frozenset({"data", "data_base64", "datacontenttype"})
# Not t, f and n: a text such as "nothing" begins like null, and a text is taken as text.
_BEGIN_OF_JSON = re.compile(rb'\s*[{\["0-9-]')
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)
_SEVERAL = f"; several events? send them as an array, with Content-Type: {BATCH}"

# Of CloudEvents' required attributes each is a non-empty string.
_Text = Annotated[str, Meta(min_length=1)]


class ContextAttributes(msgspec.Struct, gc=False):
    """The context attributes that become fields of an event."""

    # Only major and minor: events of the releases 1.0.1 and 1.0.2 say 1.0 too.
    specversion: Literal["1.0"]
    id: _Text
    source: _Text
    type: _Text
    # null, as in the JSON format §2.2: a reader takes null for an attribute that is not set.
    subject: str | None = None
    time: Annotated[datetime, Meta(tz=True)] | None = None
    # An extension, which the specification gives no type: a value of another type is no error, and names no user.
    userid: Any = None


class CloudEventDecoder:
    """Reads CloudEvents whose types are in ``event_types``. ``clock`` gives the time of arrival, in Unix seconds.

    ::

        decoder = CloudEventDecoder(["*"], time.time)
        decoded = decoder.decode_structured(request, b'{"specversion": "1.0", "id": "1", "source": "/a", "type": "b"}')
    """

    def __init__(self, event_types: Sequence[str], clock: Callable[[], float]) -> None:
        self._type_of = TypeNames(event_types)
        self._clock = clock
        self._messages = MessageDecoder(ContextAttributes, self._convert, _SEVERAL)

    def decode_structured(self, _request: EventRequest, body: bytes) -> Decoded:
        """Return the event of a body that is one CloudEvent. Raises `BadBody`."""
        return self._messages.decode_one(body, self._clock())

    def decode_batch(self, _request: EventRequest, body: bytes) -> Decoded:
        """Return the events of an array of CloudEvents. Raises `BadBody`."""
        return self._messages.decode_list(body, self._clock())

    def decode_binary(self, request: EventRequest, body: bytes) -> Decoded:
        """Return the event with the attributes of the headers and the data of the body. Raises `BadBody`."""
        attributes: dict[str, Any] = {}
        try:
            # Within the try: a wrong attribute is the error of the event, as it is in the other two modes.
            attributes = _read_attributes(request.head.headers)
            payload = msgspec.json.encode(attributes | _read_data(request.head, body))
            event = self._convert(self._clock(), 0, msgspec.convert(attributes, ContextAttributes), Raw(payload))
            # `Raw` hides the data from msgspec, so a NUL in it would pass.
            check_text(payload)
        except ValidationError as error:
            advice = advise(missing_fields(error), attributes)
            return Decoded([], (Rejection(0, f"{in_words(str(error))}{advice}"),))
        except UNDECODABLE as error:
            raise BadBody(
                describe_error(error, body, "; in binary mode a CloudEvent has one value as its data")
            ) from None
        # `BadBody`, as in the structured mode: a body that cannot be read leaves no event to report.
        if is_deep(event.payload):
            raise BadBody(describe_error(RecursionError(), body))
        # Base64 and the headers make the payload larger than the body, and admission counts the larger one.
        return Decoded([event], (), size_of([event], len(body)))

    def _convert(self, now: float, _index: int, message: ContextAttributes, text: Raw) -> Event:
        source, time, user = message.source, message.time, message.userid
        # The id below joins source and id with a space, which is unique only if no source has a space.
        if " " in source:
            raise ValidationError("a source is a URI-reference, which has no space in it - at `$.source`")
        return Event(
            fit(f"{source} {message.id}"),
            fit((user if isinstance(user, str) else None) or message.subject or source),
            self._type_of(message.type, "cloudevent"),
            check_timestamp(now if time is None else time.timestamp()),
            text,
        )


def _read_attributes(headers: Mapping[str, str]) -> dict[str, Any]:
    """Return the context attributes of a request's headers, decoded (HTTP binding §3.1.3.2)."""
    attributes: dict[str, Any] = {}
    for header, value in headers.items():
        if not header.startswith(_PREFIX):
            continue
        name = header.removeprefix(_PREFIX)
        if name in _DATA:
            raise ValidationError(f"{header} is no attribute: the body is the data, and Content-Type says its kind")
        # Receivers must also take a quoted string with backslashes, though no sender should send one.
        # The head was decoded as latin-1, so this gives the header's own bytes.
        text = value.strip().encode("latin-1", "replace")
        # A single quotation mark is no quoted string, though it begins and ends with one.
        if text[:1] == text[-1:] == b'"' and len(text) > 1:
            text = _QUOTED_PAIR.sub(rb"\1", text[1:-1])
        try:
            # Once, as the binding says: a percent sign that is left is the client's.
            attributes[name] = unquote_to_bytes(text).decode()
        except UnicodeDecodeError as error:
            raise ValidationError(f"the header {header} is not percent-encoded UTF-8: {error.reason}") from None
    return attributes


def _read_data(head: Head, body: bytes) -> dict[str, Any]:
    """Return the members of the JSON format for a body: JSON as JSON, text as a string, other bytes in base64."""
    if not body:
        return {}
    # `curl -d` gives the label of a form by itself, which says nothing about the data.
    unlabelled, json, text = _kind_of(head)
    label = {"datacontenttype": given} if (given := head.headers.get("content-type", "")) else {}
    if json:
        if not unlabelled:
            # Bytes without a label may be of any kind, and may begin like UTF-16 by chance.
            refuse_wide(body)
        try:
            data = _decode_raw(body)
            check_text(bytes(data))
        except UNDECODABLE:
            # The JavaScript SDK labels plain text as JSON: a body that cannot be meant as JSON is a text.
            if not unlabelled and _BEGIN_OF_JSON.match(body):
                raise
        else:
            return {"data": data} if unlabelled else label | {"data": data}
    if text:
        try:
            return label | {"data": body.decode()}
        except UnicodeDecodeError:
            # Text in another encoding is kept as bytes.
            pass
    return label | {"data_base64": b64encode(body).decode()}


def _kind_of(head: Head) -> tuple[bool, bool, bool]:
    """Return whether a body is unlabelled, whether to try it as JSON, and whether to try it as text."""
    kind = head.media_type
    # Of the labels that are read as JSON elsewhere, these two name the kind of the data here, so they are kept as a
    # label.
    unlabelled = kind in JSON_TYPES and kind not in {"application/json", "text/plain"}
    json = unlabelled or kind.endswith(("/json", "+json"))
    return unlabelled, json, (json and not unlabelled) or kind.startswith("text/") or kind.endswith(("/xml", "+xml"))


def cut_data(head: Head, body: bytes) -> Pieces:
    """Yield a large body of the binary mode as one piece, after judging its data in slices. Raises `BadBody`.

    ::

        for piece in cut_data(head, body):
            ...  # None: let other tasks run; then the one piece
    """
    unlabelled, json, text = _kind_of(head)
    # The rule of `_read_data`: only a body that cannot be meant as JSON may be a text.
    # A pattern: lstrip would copy the large body for its first byte.
    begins = unlabelled or _BEGIN_OF_JSON.match(body) is not None
    return cut_binary(body, json=json, begins_as_json=begins, text=text)


_decode_raw = msgspec.json.Decoder(Raw).decode
