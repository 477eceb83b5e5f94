"""Reads a log record, resource or scope in OTLP's JSON encoding, in every form of protobuf's JSON mapping. Pure.

Names may be in lowerCamelCase or as in the .proto file; whole numbers may be numbers or strings, with a point or an
exponent; enums may be names or numbers; bytes may be in either base64, with padding or without; null is a default. Ids
are in hexadecimal, as OTLP demands. Invariant: no input raises anything but `msgspec.ValidationError` and the errors of
`hermes.events.decode.UNDECODABLE`. Source: protobuf's "ProtoJSON Format", and OTLP 1.5, "JSON Protobuf Encoding".
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Raw, ValidationError

from hermes.events.protocols.mapping import from_base64
from hermes.events.protocols.otlp_record import Record, number
from hermes.net.http.response import ECHOED

MAX_LEVELS = 100
"""The deepest nesting of a record's values, on every Python. Protobuf's own decoder takes half as many levels."""

# Bounds on digits and exponents, because the time to convert a number grows faster than its length.

_WHOLE = re.compile(r"-?[0-9]{1,20}")
_DECIMAL = re.compile(r"-?[0-9]{1,20}(?:\.[0-9]{1,20})?(?:[eE][+-]?[0-9]{1,2})?")
_DOUBLE = re.compile(r"-?[0-9]{1,400}(?:\.[0-9]{1,400})?(?:[eE][+-]?[0-9]{1,3})?")
_NOT_NUMBERS = frozenset({"NaN", "Infinity", "-Infinity"})
# Of the largest number of 64 bits.
_DIGITS = 20
_LEAST, _MOST = -(2**63), 2**64 - 1
_LEVELS_OF_SEVERITY = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
# logs.proto gives each level four numbers, from TRACE = 1 on, and no digit to the name of the first.
_SEVERITIES = {"SEVERITY_NUMBER_UNSPECIFIED": 0} | {
    f"SEVERITY_NUMBER_{name}{nth if nth > 1 else ''}": 4 * level + nth
    for level, name in enumerate(_LEVELS_OF_SEVERITY)
    for nth in (1, 2, 3, 4)
}

_decode_any = msgspec.json.Decoder().decode


class Notes:
    """Advice for a client about a request from which no record was rejected.

    ``old`` is the first name that was read although it is no name of OTLP's JSON. ``unread`` is the first unknown
    member of a message without log records.

    >>> notes = Notes()
    >>> read_record(Raw(b'{"severity_text": "WARN"}'), notes).severity_text, notes.old
    ('WARN', 'severity_text')
    """

    __slots__ = ("old", "unread")

    def __init__(self) -> None:
        self.old = ""
        self.unread = ""

    def __str__(self) -> str:
        told = []
        if self.old:
            told.append(f"{self.old!r} is no name of OTLP's JSON and was read all the same: write lowerCamelCase names")
        if self.unread:
            told.append(f"nothing was read of {self.unread!r}: log records are in resourceLogs, scopeLogs, logRecords")
        return "; ".join(told)


def read_record(text: Raw, notes: Notes) -> Record:
    """Return a log record."""
    return Record(**_read(text, _RECORD, notes))


def read_described(text: Raw, notes: Notes) -> dict[str, Any]:
    """Return the members of a resource or a scope, by their names in JSON.

    >>> text = b'{"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]}'
    >>> read_described(Raw(text), Notes())
    {'attributes': {'service.name': 'shop'}}
    """
    return _read(text, _DESCRIBED, notes) if len(text) else {}


def read_schema_url(text: Raw) -> str:
    """Return the schema URL, or an empty string.

    >>> read_schema_url(Raw(b'"https://opentelemetry.io/schemas/1.5.0"')), read_schema_url(Raw(b"null"))
    ('https://opentelemetry.io/schemas/1.5.0', '')
    """
    return "" if not len(text) or bytes(text) == b"null" else _text(_decode_any(text), "schemaUrl")


_Convert = Callable[[Any, str], Any]
_Members = dict[str, tuple[str, _Convert]]


def _read(text: Raw, members: _Members, notes: Notes) -> dict[str, Any]:
    # All of it at once and untyped: the mapping gives one member several types, and a struct cannot name them all.
    given = _decode_any(text)
    if type(given) is not dict:
        # null is a default of protobuf's: there is no resource, or no scope.
        if given is None and members is _DESCRIBED:
            return {}
        raise ValidationError(f"Expected `object`, got {_kind(given)}")
    told = {}
    for name, value in given.items():
        found = members.get(name)
        # OTLP asks receivers to ignore unknown members. null is a default of protobuf's.
        if found is not None and value is not None:
            told[found[0]] = found[1](value, name)
            # The first such name is enough for the note.
            if "_" in name and not notes.old:
                notes.old = name
    return told


def _text(value: Any, name: str) -> str:
    if type(value) is str:
        return value
    raise ValidationError(f"Expected `str`, got {_kind(value)} - at `{name}`")


def _flag(value: Any, name: str) -> bool:
    if type(value) is bool:
        return value
    raise ValidationError(f"Expected `bool`, got {_kind(value)} - at `{name}`")


def _whole(value: Any, name: str) -> int:
    # ``type`` and not isinstance: True and False are ints in Python, and no numbers in JSON.
    if type(value) is int and _LEAST <= value <= _MOST:
        return value
    found = None
    if type(value) is float:
        found = int(value) if value.is_integer() else None
    elif type(value) is str:
        if _WHOLE.fullmatch(value):
            found = int(value)
        # Decimal: a float would round whole numbers of more than 53 bits.
        elif _DECIMAL.fullmatch(value) and (exact := Decimal(value)) == exact.to_integral_value():
            found = int(exact)
    if found is None or not _LEAST <= found <= _MOST:
        raise ValidationError(f"{name} is no whole number of 64 bits")
    return found


def _small(value: Any, name: str) -> int:
    found = _whole(value, name)
    # As in protobuf, where these fields have 32 bits: both encodings refuse the same records.
    if not 0 <= found < 2**32:
        raise ValidationError(f"{name} is no whole number of 32 bits")
    return found


def _nanoseconds(value: Any, name: str) -> str:
    # 19 digits are always below 2**64. A leading 0 goes on: 0 means no time, and 01 is written as 1. isascii, because
    # isdecimal also takes the digits of other scripts.
    if type(value) is str and len(value) < _DIGITS and value.isdecimal() and value.isascii() and value[0] != "0":
        # The usual form, without a conversion.
        return value
    found = _whole(value, f"{name} in nanoseconds")
    if found < 0:
        raise ValidationError(f"{name} in nanoseconds is no whole number from 0")
    return str(found) if found else ""


def _severity(value: Any, name: str) -> int:
    found = _SEVERITIES.get(value) if type(value) is str else None
    return _small(value, name) if found is None else found


def _identifier(value: Any, name: str) -> str:
    """Return an id in hexadecimal. Any other text is kept: a wrong id is no reason to lose a record."""
    text = _text(value, name)
    # The beginning alone: the name may be spanId or span_id.
    size = 8 if name[:4] == "span" else 16
    # Some clients follow protobuf's JSON mapping and not OTLP, and send the bytes of an id in base64.
    if text and len(text) != 2 * size:
        raw = from_base64(text)
        if raw is not None and len(raw) == size:
            return raw.hex()
    # In lower case, as protobuf's bytes become it: both encodings of a record give the same event.
    return text.lower()


def _double(value: Any, name: str) -> float | str:
    if type(value) is float:
        return value
    if type(value) is int:
        return float(value)
    if type(value) is str:
        if value in _NOT_NUMBERS:
            return value
        if _DOUBLE.fullmatch(value):
            # An exponent beyond a double's makes an infinity, which JSON has no number for.
            return number(float(value))
    raise ValidationError(f"{name} is no number")


def _bytes(value: Any, name: str) -> str:
    raw = from_base64(_text(value, name))
    if raw is None:
        raise ValidationError(f"{name} is not in base64")
    # Anew, because the client may have left out the padding or used the other alphabet.
    return b64encode(raw).decode()


def _value(value: Any, name: str, levels: int = MAX_LEVELS) -> Any:
    """Return an ``AnyValue`` as plain JSON, with at most ``levels`` levels of arrays and objects."""
    if type(value) is not dict:
        raise ValidationError(
            f'Expected a value such as {{"stringValue": "..."}}, got {_kind(value)} - at `{name[:ECHOED]}`'
        )
    for kind, held in value.items():
        if type(held) is str and kind == "stringValue":
            # Most values are strings.
            return held
        # null is a default of protobuf's: another member may be the value.
        if held is None:
            continue
        convert = _VALUES.get(kind)
        if convert is not None:
            return convert(held, kind)
        if kind not in _NESTED:
            continue
        # A bound of our own: the depth at which Python gives up differs between its releases.
        if not levels:
            raise ValidationError(f"a value is nested too deeply: at most {MAX_LEVELS} levels are taken")
        values = held.get("values") if type(held) is dict else held
        if kind in _OBJECTS:
            return _object(values, kind, levels - 1)
        return [_value(each, kind, levels - 1) for each in _list(values, kind)]
    return None


def _object(pairs: Any, name: str, levels: int = MAX_LEVELS) -> dict[str, Any]:
    found = {}
    for pair in _list(pairs, name):
        if type(pair) is not dict:
            raise ValidationError(f"Expected objects with `key` and `value`, got {_kind(pair)} - at `{name}`")
        key = pair.get("key")
        if type(key) is not str:
            key = "" if key is None else _text(key, "key")
        held = pair.get("value")
        found[key] = None if held is None else _value(held, key, levels)
    return found


def _list(values: Any, name: str) -> list[Any]:
    if values is None:
        return []
    if type(values) is list:
        return values
    raise ValidationError(f"Expected `array`, got {_kind(values)} - at `{name}`")


def _kind(value: Any) -> str:
    names = {dict: "object", list: "array", type(None): "null"}
    return f"`{names.get(type(value), type(value).__name__)}`"


def _by_both_names(members: _Members) -> _Members:
    """Return the members also by their names in the .proto file."""
    return members | {re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", name): to for name, to in members.items()}


_VALUES: dict[str, _Convert] = {
    "stringValue": _text,
    "boolValue": _flag,
    "intValue": _whole,
    "doubleValue": _double,
    "bytesValue": _bytes,
}
_VALUES |= {name.replace("Value", "_value"): convert for name, convert in _VALUES.items()}
_OBJECTS = frozenset({"kvlistValue", "kvlist_value"})
_NESTED = _OBJECTS | {"arrayValue", "array_value"}

_RECORD = _by_both_names(
    {
        "timeUnixNano": ("time_unix_nano", _nanoseconds),
        "observedTimeUnixNano": ("observed_time_unix_nano", _nanoseconds),
        "severityNumber": ("severity_number", _severity),
        "severityText": ("severity_text", _text),
        "eventName": ("event_name", _text),
        "body": ("body", _value),
        "attributes": ("attributes", _object),
        "droppedAttributesCount": ("dropped_attributes_count", _small),
        "flags": ("flags", _small),
        "traceId": ("trace_id", _identifier),
        "spanId": ("span_id", _identifier),
    }
)
_DESCRIBED = _by_both_names(
    {
        # Under their names in JSON: a resource goes into the payload as a dict, while a struct renames the fields of a
        # record.
        "name": ("name", _text),
        "version": ("version", _text),
        "attributes": ("attributes", _object),
        "droppedAttributesCount": ("droppedAttributesCount", _small),
    }
)
