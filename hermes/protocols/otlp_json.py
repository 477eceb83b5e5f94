"""The JSON encoding of OTLP logs. Pure.

It is protobuf's JSON mapping with hexadecimal ids: names in lowerCamelCase, 64-bit numbers as strings or numbers, enums
as numbers, unknown members ignored, null for a default. Invariant: no input raises anything but `BadBody`, and a body
whose objects are too small to be log records is not decoded. Called by `hermes.protocols.otlp`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec
from msgspec import ValidationError

from hermes.decode import UNDECODABLE, BadBody, describe_error
from hermes.protocols.otlp_record import Group, Record, number, present

MAX_LEVELS = 100
"""The deepest that the values of a record may be nested, on every Python; protobuf's own decoder takes half of that."""

_WHOLE = re.compile(r"-?[0-9]{1,20}")
_NANOSECONDS = re.compile(r"[0-9]{1,20}")
_FREE_BYTES = 2**20
_BYTES_AN_OBJECT = 8
_NOT_NUMBERS = {"NaN", "Infinity", "-Infinity"}

_T = TypeVar("_T")


class _Shape(msgspec.Struct, rename="camel", gc=False):
    """A message of the encoding."""


class _Value(_Shape):
    string_value: str | None = None
    bool_value: bool | None = None
    int_value: int | str | None = None
    double_value: float | str | None = None
    bytes_value: str | None = None
    array_value: _Array | None = None
    kvlist_value: _Attributes | None = None


class _Array(_Shape):
    values: list[_Value] | None = None


class _KeyValue(_Shape):
    key: str = ""
    value: _Value | None = None


class _Attributes(_Shape):
    values: list[_KeyValue] | None = None


class _Resource(_Shape):
    attributes: list[_KeyValue] | None = None
    dropped_attributes_count: int | None = None


class _Scope(_Shape):
    name: str | None = None
    version: str | None = None
    attributes: list[_KeyValue] | None = None
    dropped_attributes_count: int | None = None


class _LogRecord(_Shape):
    time_unix_nano: int | str | None = None
    observed_time_unix_nano: int | str | None = None
    severity_number: int | None = None
    severity_text: str | None = None
    event_name: str | None = None
    body: _Value | None = None
    attributes: list[_KeyValue] | None = None
    dropped_attributes_count: int | None = None
    flags: int | None = None
    trace_id: str | None = None
    span_id: str | None = None


class _ScopeLogs(_Shape):
    scope: _Scope | None = None
    log_records: list[_LogRecord] | None = None
    schema_url: str | None = None


class _ResourceLogs(_Shape):
    resource: _Resource | None = None
    scope_logs: list[_ScopeLogs] | None = None
    schema_url: str | None = None


class ExportRequest(_Shape):
    """What is read of an ``ExportLogsServiceRequest``."""

    resource_logs: list[_ResourceLogs] | None = None


_decode = msgspec.json.Decoder(ExportRequest).decode
_NO_RESOURCE, _NO_SCOPE = _Resource(), _Scope()


def read_json(body: bytes) -> Iterator[Group]:
    """The groups of records in an ``ExportLogsServiceRequest``. Raises `BadBody`, maybe when a group is asked for."""
    if len(body) > _FREE_BYTES and body.count(b"{") * _BYTES_AN_OBJECT > len(body):
        raise BadBody("the body has too many tiny objects for log records: send it in parts of 1 MiB")
    try:
        request = _decode(body)
        if not body.isascii():
            body.decode()
        for resource_logs in request.resource_logs or ():
            resource = resource_logs.resource or _NO_RESOURCE
            told = present(
                attributes=_object(resource.attributes),
                droppedAttributesCount=resource.dropped_attributes_count,
                schemaUrl=resource_logs.schema_url,
            )
            for scope_logs in resource_logs.scope_logs or ():
                scope = scope_logs.scope or _NO_SCOPE
                told_scope = present(
                    name=scope.name,
                    version=scope.version,
                    attributes=_object(scope.attributes),
                    droppedAttributesCount=scope.dropped_attributes_count,
                    schemaUrl=scope_logs.schema_url,
                )
                yield Group(told, told_scope, map(_read_record, scope_logs.log_records or ()))
    except UNDECODABLE as error:
        raise BadBody(describe_error(error, body, "")) from None


def _read_record(record: _LogRecord) -> Record | ValidationError:
    try:
        return Record(
            _nanoseconds(record.time_unix_nano),
            _nanoseconds(record.observed_time_unix_nano),
            record.severity_number or 0,
            record.severity_text or "",
            record.event_name or "",
            None if record.body is None else _plain(record.body),
            _object(record.attributes),
            record.dropped_attributes_count or 0,
            record.flags or 0,
            (record.trace_id or "").lower(),
            (record.span_id or "").lower(),
        )
    except ValidationError as error:
        return error.with_traceback(None)  # by it the error would hold the frame of the caller, which holds the error


def _object(pairs: list[_KeyValue] | None, levels: int = MAX_LEVELS) -> dict[str, Any]:
    if not pairs:
        return {}
    return {pair.key: None if pair.value is None else _plain(pair.value, levels) for pair in pairs}


def _plain(value: _Value, levels: int = MAX_LEVELS) -> Any:
    """An ``AnyValue`` as plain JSON, which may have so many ``levels`` of arrays and objects."""
    if value.string_value is not None:
        return value.string_value
    if value.int_value is not None:
        return value.int_value if isinstance(value.int_value, int) else int(_match(_WHOLE, value.int_value, "intValue"))
    if value.bool_value is not None:
        return value.bool_value
    if value.double_value is not None:
        return _double(value.double_value)
    if value.array_value is None and value.kvlist_value is None:
        return value.bytes_value
    if not levels:
        raise ValidationError(f"a value is nested too deeply: at most {MAX_LEVELS} levels are taken")
    if value.array_value is not None:
        return [_plain(each, levels - 1) for each in value.array_value.values or ()]
    return None if value.kvlist_value is None else _object(value.kvlist_value.values, levels - 1)


def _double(value: float | str) -> float | str:
    if isinstance(value, float) or value in _NOT_NUMBERS:
        return value
    try:
        return number(float(value))
    except ValueError:
        raise ValidationError("doubleValue is no number") from None


def _nanoseconds(value: int | str | None) -> str:
    text = str(value or "")
    return "" if text.strip("0") == "" else _match(_NANOSECONDS, text, "a time in nanoseconds")


def _match(form: re.Pattern[str], text: str, what: str) -> str:
    if form.fullmatch(text) is None:
        raise ValidationError(f"{what} is no whole number of 64 bits")
    return text
