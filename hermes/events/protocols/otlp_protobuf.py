"""Reads the protobuf encoding of OTLP logs, with OpenTelemetry's messages, which only this file imports (an extra).

This module walks the three outer levels and decodes each record by itself: a body of millions of empty records is
refused before it fills the memory, an invalid record does not spoil the others, and an invalid resource spoils only its
own records. Invariant: no input raises anything but `BadBody`.
Source: protobuf's wire format, and opentelemetry-proto's logs.proto.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple

from msgspec import ValidationError

from hermes.base.json.elements import cut_off
from hermes.base.json.rules import BadBody
from hermes.events.protocols.otlp_record import MAX_PART, MAX_VALUES, Group, Record, number, present

# The bound on tiny fields: an empty record has two bytes in the body, and hundreds when decoded.
_FREE_FIELDS = 20_000
_BYTES_A_FIELD = 16
# Encoding a megabyte takes a millisecond, and twelve if all of its characters are control characters.
_ENCODED_AT_ONCE = 64 * 2**10
# A control character of one byte becomes six.
_GROWTH = 5
# The last five have an escape of two bytes in JSON, and not of six.
_NOT_CONTROL = bytes(range(0x20, 0x100)) + b"\b\t\n\f\r"
# 3 and 4 began and ended a group, which proto3 no longer has.
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


def _find_library() -> str:
    """Return the words of a 415 if the library is missing; empty if protobuf can be read."""
    try:
        # `find_spec` imports the package above, and raises if there is none.
        found = find_spec("opentelemetry.proto") is not None
    except ModuleNotFoundError:
        found = False
    if found:
        return ""
    return (
        "protobuf is not taken, for the service lacks an extra: install 'hermes-events[otlp]' there, or send JSON "
        "(OTEL_EXPORTER_OTLP_PROTOCOL=http/json)"
    )


MISSING = _find_library()


class _Messages(NamedTuple):
    """The message classes, and the error of their decoder."""

    record: Any
    resource: Any
    scope: Any
    error: type[Exception]


@cache
def load_messages() -> _Messages:
    """Import the message classes: some 15 ms, too long for the first request to do it beside others."""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource

    return _Messages(LogRecord, Resource, InstrumentationScope, DecodeError)


def read_protobuf(body: bytes) -> Iterator[Group]:
    """Yield the groups of records in an ``ExportLogsServiceRequest``. Each step may raise `BadBody`."""
    messages, walk = load_messages(), Walk(body)
    for resource_logs in walk.fields(body).get(1, ()):
        outer = walk.fields(resource_logs)
        resource, wrong = _describe(messages, messages.resource, outer)
        if wrong and 2 not in outer:
            # Without records, no rejection could tell the client.
            raise BadBody(str(wrong))
        for scope_logs in outer.get(2, ()):
            inner = walk.fields(scope_logs)
            scope, wrong_scope = _describe(messages, messages.scope, inner)
            yield Group(resource, scope, _read_records(messages, inner.get(2, ()), wrong or wrong_scope))


def _describe(
    messages: _Messages, kind: Any, fields: dict[int, list[bytes]]
) -> tuple[dict[str, Any], ValidationError | None]:
    """Return the members of a resource or a scope, and the error for its records if the message is invalid."""
    try:
        data = _part(fields, 1)
        if len(data) > MAX_PART:
            return {}, ValidationError(f"the resource or scope of this record is larger than {MAX_PART} bytes")
        said = kind.FromString(data)
        attributes = _Values().object(said.attributes)
        # Of a text that comes several times the last one counts, as in every decoder of protobuf.
        schema_url = fields[3][-1].decode() if 3 in fields else ""
    except (messages.error, UnicodeDecodeError, ValidationError) as error:
        return {}, ValidationError(f"the resource or scope of this record is no protobuf of OTLP logs: {error}")
    named = kind is messages.scope
    return present(
        name=said.name if named else "",
        version=said.version if named else "",
        attributes=attributes,
        droppedAttributesCount=said.dropped_attributes_count,
        schemaUrl=schema_url,
    ), None


def _read_records(
    messages: _Messages, records: Iterable[bytes], wrong: ValidationError | None
) -> Iterator[Record | ValidationError]:
    for each in records:
        # An invalid resource spoils its own records alone.
        yield wrong or _read_record(messages, each)


class Walk:
    """Finds the fields of messages that consist of messages and text, up to a plausible number for the body's size.

    A body of any size may have ``free`` fields.

    >>> Walk(b"").fields(b"\\x0a\\x02hi")
    {1: [b'hi']}
    """

    def __init__(self, body: bytes | memoryview, free: int = _FREE_FIELDS) -> None:
        self._size = len(body)
        # A body of millions of empty records is refused before it fills the memory.
        self._left = free + len(body) // _BYTES_A_FIELD

    def field(self, message: bytes | memoryview, position: int) -> tuple[int, int, int, int]:
        """Return the field at ``position``: its beginning, its number, the beginning of its value, and its end.

        The beginning of the value is -1 if the field is not length-delimited. Raises `BadBody`.
        """
        begin, end = position, len(message)
        self._left -= 1
        if self._left < 0:
            raise BadBody("the body has too many tiny fields for log records: send it in parts of 1 MiB")
        tag, position = _varint(message, position)
        if position > end:
            raise self._ends_early(end)
        kind = tag & 7
        value = -1
        if kind == _LENGTH:
            size, value = _varint(message, position)
            position = value + size
        elif kind == _VARINT:
            _, position = _varint(message, position)
        elif kind in {_FIXED64, _FIXED32}:
            position += 8 if kind == _FIXED64 else 4
        else:
            raise BadBody("the body is no protobuf of OTLP logs: it has a field of an unknown kind")
        if position > end:
            raise self._ends_early(end)
        return begin, tag >> 3, value, position

    def _ends_early(self, end: int) -> BadBody:
        # Inside another message nothing can be cut off, so a length in it is wrong.
        early = cut_off(end) if end == self._size else "a message in it ends too early"
        return BadBody(f"the body is no protobuf of OTLP logs: {early}")

    def fields(self, message: bytes) -> dict[int, list[bytes]]:
        """Return the length-delimited fields by their numbers. Raises `BadBody`."""
        found: dict[int, list[bytes]] = {}
        position = 0
        while position < len(message):
            _, key, value, position = self.field(message, position)
            if value >= 0:
                found.setdefault(key, []).append(message[value:position])
        return found


def _varint(data: bytes | memoryview, position: int) -> tuple[int, int]:
    """Return the number at ``position`` and its end. The end is past ``data`` if the number is cut off."""
    # Most numbers are tags and small lengths of one byte.
    if position < len(data) and data[position] < 0x80:
        return data[position], position + 1
    value = shift = 0
    # A number of 64 bits has ten bytes at most.
    for byte in data[position : position + 10]:
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
        shift += 7
    if position == len(data):
        return value, position + 1
    raise BadBody("the body is no protobuf of OTLP logs: a number in it does not end")


def _part(fields: dict[int, list[bytes]], key: int) -> bytes:
    """Return a message that is not repeated."""
    # The wire format lets a message come in several pieces, which a decoder merges when they are concatenated.
    return b"".join(fields.get(key, ()))


def _read_record(messages: _Messages, data: bytes) -> Record | ValidationError:
    # Judged before the decoding: tiny values take fifty times their bytes when they are decoded.
    if len(data) > MAX_PART:
        return ValidationError(f"the record is larger than {MAX_PART} bytes")
    try:
        record = messages.record.FromString(data)
    except messages.error as error:
        return ValidationError(f"the record is no protobuf of an OTLP log record: {error}")
    values = _Values()
    try:
        body, attributes = values.plain(record.body), values.object(record.attributes)
        # A quick look at all bytes, tags and lengths too: only a record that may grow too much is walked value by
        # value.
        if len(data) > _ENCODED_AT_ONCE and len(data.translate(None, _NOT_CONTROL)) * _GROWTH > len(data):
            _check_growth([body, attributes], len(data))
    except ValidationError as error:
        return error
    return Record(
        # 0 is protobuf's default, and means that there is no time.
        str(record.time_unix_nano or ""),
        str(record.observed_time_unix_nano or ""),
        record.severity_number,
        record.severity_text,
        record.event_name,
        body,
        attributes,
        record.dropped_attributes_count,
        record.flags,
        record.trace_id.hex(),
        record.span_id.hex(),
    )


def _check_growth(values: list[Any], size: int) -> None:
    """Raise `ValidationError` if the control characters in the texts of a record would make its JSON twice as long."""
    room = size
    while values:
        value = values.pop()
        if isinstance(value, str):
            room -= len(value.encode().translate(None, _NOT_CONTROL)) * _GROWTH
            if room < 0:
                raise ValidationError(
                    "a large record may grow to 2 times its size as JSON: send control characters as bytes"
                )
        # The names too: a client chooses them as freely as the values.
        elif isinstance(value, dict):
            values += value
            values += value.values()
        elif isinstance(value, list):
            values += value


class _Values:
    """Reads the values of one record, resource or scope, up to `MAX_VALUES` of them."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = MAX_VALUES

    def object(self, pairs: Any) -> dict[str, Any]:
        """Return attributes as a plain object. Raises `ValidationError` for too many."""
        return {pair.key: self.plain(pair.value) for pair in pairs}

    def plain(self, value: Any) -> Any:
        """Return an ``AnyValue`` as plain JSON. Raises `ValidationError` for too many."""
        self._left -= 1
        if self._left < 0:
            raise ValidationError(f"it has more than {MAX_VALUES} values")
        # Most values are strings, and `WhichOneof` is slower.
        if text := value.string_value:
            return text
        kind = value.WhichOneof("value")
        if kind is None:
            return None
        held = getattr(value, kind)
        if kind == "double_value":
            return number(held)
        if kind == "bytes_value":
            return b64encode(held).decode()
        if kind == "array_value":
            return [self.plain(each) for each in held.values]
        return self.object(held.values) if kind == "kvlist_value" else held
