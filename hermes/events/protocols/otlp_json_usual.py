"""Reads a log record in the JSON form that exporters usually send, by msgspec's decoder in C. Pure.

Invariant: each record that this module returns is equal to the record of `hermes.events.protocols.otlp_json_record`,
which also reads every other form, more slowly.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw

from hermes.base.json.rules import UNDECODABLE
from hermes.events.protocols.otlp_record import Record

# Deeper values take the slow way, which has its own bound.
_LEVELS = 20
# 18 digits always fit into 63 bits, so no range check is needed; longer numbers take the slow way.
_WHOLE = re.compile(r"-?[0-9]{1,18}").fullmatch
# 19 digits always fit into the 64 bits of a time.
_TIME = re.compile(r"[1-9][0-9]{0,18}").fullmatch
_Small = Annotated[int, Meta(ge=0, le=2**32 - 1)]
_MOST = 2**63
# An id of another length is in base64 or wrong, which the slow way finds out.
_ID_LENGTHS = frozenset({0, 32}), frozenset({0, 16})


class _Shape(msgspec.Struct, rename="camel", gc=False, forbid_unknown_fields=True):
    """A message of the encoding."""

    # An unknown member may be a known one by its other name, so such a message takes the slow way.


class _Value(_Shape):
    string_value: str | None = None
    bool_value: bool | None = None
    int_value: int | str | None = None
    # NaN and the infinities are strings, and bytes may be in either base64: both take the slow way.
    double_value: float | None = None
    array_value: _Array | None = None
    kvlist_value: _Attributes | None = None


class _Array(_Shape):
    values: list[_Value]


class _KeyValue(_Shape):
    key: str
    value: _Value


class _Attributes(_Shape):
    values: list[_KeyValue]


class _LogRecord(_Shape):
    time_unix_nano: str | None = None
    observed_time_unix_nano: str | None = None
    severity_number: _Small | None = None
    severity_text: str | None = None
    event_name: str | None = None
    body: _Value | None = None
    attributes: list[_KeyValue] | None = None
    dropped_attributes_count: _Small | None = None
    flags: _Small | None = None
    trace_id: str | None = None
    span_id: str | None = None


class _UnusualError(Exception):
    """The record has another form."""


_decode = msgspec.json.Decoder(_LogRecord).decode


def read_usual(text: Raw) -> Record | None:
    """Return the record, or None if the text has another form, valid or not.

    >>> read_usual(Raw(b'{"severityText": "WARN"}')).severity_text
    'WARN'
    >>> read_usual(Raw(b'{"severity_text": "WARN"}')) is None
    True
    """
    try:
        record = _decode(text)
        trace_id, span_id = record.trace_id or "", record.span_id or ""
        if len(trace_id) not in _ID_LENGTHS[0] or len(span_id) not in _ID_LENGTHS[1]:
            return None
        return Record(
            _time(record.time_unix_nano),
            _time(record.observed_time_unix_nano),
            record.severity_number or 0,
            record.severity_text or "",
            record.event_name or "",
            None if record.body is None else _plain(record.body),
            _object(record.attributes, _LEVELS) if record.attributes else {},
            record.dropped_attributes_count or 0,
            record.flags or 0,
            trace_id.lower(),
            span_id.lower(),
        )
    except (*UNDECODABLE, _UnusualError):
        return None


def _time(text: str | None) -> str:
    # 0 is protobuf's default, and means that there is no time.
    if text is None or text == "0":
        return ""
    if _TIME(text) is None:
        raise _UnusualError
    return text


def _object(pairs: list[_KeyValue], levels: int) -> dict[str, Any]:
    return {pair.key: _plain(pair.value, levels) for pair in pairs}


def _plain(value: _Value, levels: int = _LEVELS) -> Any:
    # First, because most values are strings.
    if value.string_value is not None:
        return value.string_value
    number = value.int_value
    if number is not None:
        if type(number) is int and -_MOST <= number < _MOST:
            return number
        if type(number) is str and _WHOLE(number) is not None:
            return int(number)
        raise _UnusualError
    if value.bool_value is not None:
        return value.bool_value
    if value.double_value is not None:
        return value.double_value
    if not levels:
        raise _UnusualError
    if value.array_value is not None:
        return [_plain(each, levels - 1) for each in value.array_value.values]
    return None if value.kvlist_value is None else _object(value.kvlist_value.values, levels - 1)
