"""A log record on its way from either encoding of OTLP into the payload of an event. Pure.

Invariant: a member that has its default is not in the payload. Made by the readers of the two encodings.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite, isnan
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, ValidationError

NOTHING = Raw(b"{}")

MAX_PART = 2**20
"""The most bytes of one record, of a resource or of a scope; decoded, tiny values take fifty times as much."""

MAX_VALUES = 8192
"""The most values in one of these where it is larger than a piece: some 10 ms."""


class Record(msgspec.Struct, rename="camel", omit_defaults=True, gc=False):
    """A log record. Times are decimal nanoseconds since 1970, for JSON's numbers are too short; ids are hexadecimal."""

    time_unix_nano: str = ""
    observed_time_unix_nano: str = ""
    severity_number: int = 0
    severity_text: str = ""
    event_name: str = ""
    body: Any = None
    attributes: dict[str, Any] = {}  # msgspec makes a new one each time
    dropped_attributes_count: int = 0
    flags: int = 0
    trace_id: str = ""
    span_id: str = ""
    resource: Raw = NOTHING
    scope: Raw = NOTHING


class Group(NamedTuple):
    """Records of one resource and scope, which are JSON objects; an error stands for one that cannot be read."""

    resource: dict[str, Any]
    scope: dict[str, Any]
    records: Iterable[Record | ValidationError]


def number(value: float) -> float | str:
    """A double as JSON; what JSON has no number for is a string, as in protobuf's JSON mapping."""
    if isfinite(value):
        return value
    return "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity"


def present(**members: Any) -> dict[str, Any]:
    """The members that say something."""
    return {name: value for name, value in members.items() if value}
