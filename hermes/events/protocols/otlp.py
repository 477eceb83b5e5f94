"""Turns OpenTelemetry logs over OTLP/HTTP (``POST /v1/logs``) into events, one for each log record. Pure.

The payload is the record with its resource and scope, in the names of OTLP's own JSON encoding, but with attributes as
one JSON object and values as plain JSON. Invariants: both encodings of the same records give the same events; the size
of a request's events is bounded, although each of them holds its resource.
Source: OTLP 1.5 and the logs data model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
from msgspec import Raw, ValidationError

from hermes.base.json.rules import MAX_NESTING, check_text, is_deep
from hermes.base.json.wrong_types import in_words
from hermes.events.decode import Decoded
from hermes.events.event import EVENT_BYTES, Event
from hermes.events.ingest.format import JSON_TYPES, Format
from hermes.events.ingest.ids import RequestIds
from hermes.events.ingest.request import EventRequest
from hermes.events.protocols.mapping import TypeNames, check_timestamp, fit
from hermes.events.protocols.otlp_answers import JsonAnswers, ProtobufAnswers
from hermes.events.protocols.otlp_json import cut_requests, read_json
from hermes.events.protocols.otlp_json_record import Notes
from hermes.events.protocols.otlp_pieces import cut_messages
from hermes.events.protocols.otlp_protobuf import MISSING, load_messages, read_protobuf
from hermes.events.protocols.otlp_record import NOTHING, Group, Record
from hermes.net.http.content import ContentTooLarge
from hermes.net.http.head import Head
from hermes.net.http.rejection import MAX_REJECTIONS, Rejection
from hermes.net.http.response import ECHOED

PATH = "/v1/logs"

PROTOBUF_TYPES = frozenset({"application/x-protobuf", "application/protobuf"})

PIECE = 8 * 2**10
"""Bytes of a piece of a large body. A piece is decoded in 3 ms, and in 8 ms if all of its records are empty."""

# Less than in JSON: an empty record has two bytes, and takes 5 µs.
_PROTOBUF_AT_ONCE = 4 * 2**10

_SECOND = 10**9
_USERS = ("enduser.id", "user.id")

_encode = msgspec.json.Encoder().encode


class OtlpLogs:
    """The protocol of OTLP logs. The events of a request hold ``limit`` bytes at most.

    ``clock`` gives the time of arrival, in Unix seconds. ::

        protocol = OtlpLogs(["*"], limit=128 * 2**20, clock=time.time)
        request = EventRequest(head, protocol.choose(head))
        decoded = request.format.decode(request, body)
    """

    paths = (PATH,)
    key_in_body = False

    def __init__(self, event_types: Sequence[str], limit: int, clock: Callable[[], float]) -> None:
        self._type_of = TypeNames(event_types)
        self._limit = limit
        self._clock = clock
        self._answers = JsonAnswers()
        if not MISSING:
            # At the start: the import takes some 15 ms, for which other clients would wait at the first request.
            load_messages()
        self._json = Format(
            self._answers,
            self._decode_json,
            cut=lambda _head, body: cut_requests(body, PIECE),
            at_once=PIECE,
            most=limit,
            partial=True,
        )
        self._protobuf = Format(
            ProtobufAnswers(),
            lambda request, body: self.gather(request, read_protobuf(body), len(body)),
            MISSING,
            cut=lambda _head, body: cut_messages(body, PIECE),
            at_once=_PROTOBUF_AT_ONCE,
            most=limit,
            partial=True,
        )

    def choose(self, head: Head) -> Format:
        """Return the format of the encoding that the media type names."""
        kind = head.media_type
        if kind in PROTOBUF_TYPES:
            return self._protobuf
        if kind in JSON_TYPES:
            return self._json
        return Format(
            self._answers,
            self._json.decode,
            f"Content-Type {kind[:ECHOED]!r} is not taken: send application/x-protobuf or application/json",
        )

    def _decode_json(self, request: EventRequest, body: bytes) -> Decoded:
        notes = Notes()
        decoded = self.gather(request, read_json(body, notes), len(body))
        # Only now: `read_json` is a generator, and the notes are whole once `gather` has read every group.
        return replace(decoded, note=str(notes))

    def gather(self, request: EventRequest, groups: Iterable[Group], size: int) -> Decoded:
        """Return the events of groups of records; ``size`` is the body's. Raises `BadBody` or `ContentTooLarge`."""
        now, index, held = self._clock(), -1, 0
        ids = RequestIds(request, now)
        events: list[Event] = []
        rejected: list[Rejection] = []
        for group in groups:
            # Encoded once for each group, and not again for each of its records.
            resource, scope = (Raw(_encode(each)) if each else NOTHING for each in (group.resource, group.scope))
            user = _find_user(group.resource.get("attributes", {}))
            for record in group.records:
                index += 1
                # Also for a rejected record: the limit bounds the time too.
                held += EVENT_BYTES
                try:
                    if isinstance(record, ValidationError):
                        # A new one: the error would hold this frame, and the frame the error.
                        raise ValidationError(str(record))
                    record.resource, record.scope = resource, scope
                    event = self._convert(ids(index), record, user, now)
                except ValidationError as error:
                    # The answer needs only the count and the first error, and many errors would fill the memory.
                    few = len(rejected) < MAX_REJECTIONS
                    rejected.append(Rejection(index, in_words(str(error))) if few else rejected[0])
                else:
                    events.append(event)
                    held += len(event.payload)
                if held > self._limit:
                    raise ContentTooLarge(
                        f"the events of this request, each with its resource, hold more than {self._limit} bytes: send "
                        "fewer log records a request"
                    )
        return Decoded(events, rejected, max(size, held))

    def _convert(self, id_: str, record: Record, user: str, now: float) -> Event:
        payload = _encode(record)
        # A string of either encoding may hold U+0000, which cannot be stored.
        check_text(payload)
        text = Raw(payload)
        if is_deep(text):
            raise ValidationError(f"a value is nested too deeply: at most {MAX_NESTING} levels are taken")
        attributes = record.attributes
        name = record.event_name
        if not name:
            # OpenTelemetry's earlier place of the name: the attribute is deprecated since records have the field
            # event_name.
            given = attributes.get("event.name")
            name = given if given and isinstance(given, str) else "log"
        # A record without a time of its own has the time at which the exporter saw the record.
        nanoseconds = record.time_unix_nano or record.observed_time_unix_nano
        return Event(
            id_,
            _find_user(attributes, user),
            self._type_of(name, "log"),
            # In whole numbers: a float has 53 bits, and could round the last nanoseconds of a second up to the next
            # one.
            check_timestamp(int(nanoseconds) // _SECOND if nanoseconds else now),
            text,
        )


def _find_user(attributes: dict[str, Any], otherwise: str = "") -> str:
    """Return the user in the attributes, or ``otherwise``, or the name of the service, or "unknown"."""
    for name in _USERS:
        value = attributes.get(name)
        # True is an int in Python, and no user.
        if value and isinstance(value, str | int) and value is not True:
            return fit(str(value))
    if otherwise:
        return otherwise
    service = attributes.get("service.name")
    return fit(service) if service and isinstance(service, str) else "unknown"
