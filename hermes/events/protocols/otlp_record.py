"""Declares the log record that the readers of both OTLP encodings make, and that becomes the payload of an event. Pure.

Invariant: a member with its default value is not in the payload.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite, isnan
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, ValidationError

NOTHING = Raw(b"{}")

MAX_PART = 2**20
"""The most bytes of one record, one resource or one scope. Tiny values take fifty times as much when decoded."""

MAX_SHARED = 64 * 2**10
"""The most bytes of a resource or scope in a large request, which each of its pieces repeats."""

MAX_VALUES = 8192
"""The most values in a record, resource or scope that is larger than a piece: some 5 ms of decoding."""


class Record(msgspec.Struct, rename="camel", omit_defaults=True, gc=False):
    """A log record. Times are decimal nanoseconds since 1970; ids are hexadecimal.

    >>> msgspec.json.encode(Record(severity_text="WARN", body="disk full"))
    b'{"severityText":"WARN","body":"disk full"}'
    """

    # Strings: JSON numbers are doubles in most readers, and 53 bits cannot hold nanoseconds.
    time_unix_nano: str = ""
    observed_time_unix_nano: str = ""
    severity_number: int = 0
    severity_text: str = ""
    event_name: str = ""
    body: Any = None
    # msgspec makes a new one each time.
    attributes: dict[str, Any] = {}
    dropped_attributes_count: int = 0
    flags: int = 0
    trace_id: str = ""
    span_id: str = ""
    # Always this one object: msgspec knows a default by identity, and would write an equal `Raw`.
    resource: Raw = NOTHING
    scope: Raw = NOTHING


class Group(NamedTuple):
    """Records of one resource and scope, as JSON objects. An error stands in the place of an unreadable record."""

    resource: dict[str, Any]
    scope: dict[str, Any]
    records: Iterable[Record | ValidationError]


def number(value: float) -> float | str:
    """Return a double as JSON; NaN and the infinities are strings, as in protobuf's JSON mapping.

    >>> number(1.5), number(float("-inf"))
    (1.5, '-Infinity')
    """
    if isfinite(value):
        return value
    return "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity"


def present(**members: Any) -> dict[str, Any]:
    """Return the members that are not empty.

    >>> present(name="app", version="")
    {'name': 'app'}
    """
    return {name: value for name, value in members.items() if value}
