"""Writes the pprof file format: gzip around one protobuf message ``perftools.profiles.Profile``.

``go tool pprof``, speedscope and most other viewers of profiles read it.

Invariant: string 0 is empty, and ids of functions and locations begin at 1.

Source of the field numbers: https://github.com/google/pprof/blob/main/proto/profile.proto.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from hermes.base.varint import varint
from hermes.observe.debug.stacks import Frame, Sample


@dataclass(frozen=True)
class ValueType:
    """The quantity and the unit of a sample's value.

    >>> ValueType("cpu", "nanoseconds").unit
    'nanoseconds'
    """

    kind: str
    unit: str


@dataclass(frozen=True)
class Header:
    """The facts of a profile that hold for all samples.

    ``sample_types`` has one entry for each value of a sample; viewers show the last one unless ``default`` names
    another. ``period`` is the sampling distance in ``period_type``'s unit. Times are nanoseconds.
    """

    sample_types: Sequence[ValueType]
    period_type: ValueType
    period: int
    started_ns: int
    duration_ns: int
    default: str
    comments: Sequence[str] = ()


def encode(header: Header, samples: Iterable[Sample]) -> bytes:
    """Return the gzipped profile. Every sample has as many values as the header has sample types.

    ::

        count = ValueType("samples", "count")
        header = Header((count,), count, 1, time.time_ns(), 0, default="samples")
        data = encode(header, [Sample((Frame("main", "main.py", 12),), (7,))])
    """
    tables = _Tables()
    text = tables.text
    body = bytearray()
    for sample_type in header.sample_types:
        body += _message(1, _value_type(sample_type, tables))
    for sample in samples:
        # pprof wants the innermost frame first; samples have the outermost first.
        locations = b"".join(varint(tables.location(frame)) for frame in reversed(sample.stack))
        values = b"".join(map(varint, sample.values))
        # Labels are strings by number too, so a task's name is written once.
        labels = b"".join(
            _message(3, _integer(1, text(key)) + _integer(2, text(value))) for key, value in sample.labels
        )
        body += _message(2, _message(1, locations) + _message(2, values) + labels)
    # One mapping that claims to have all names: without it viewers look for a binary to read the names from.
    symbolised = b"".join(_integer(flag, 1) for flag in (7, 8, 9))
    body += _message(3, _integer(1, 1) + _integer(5, text("hermes")) + symbolised)
    body += tables.locations + tables.functions
    body += _integer(9, header.started_ns) + _integer(10, header.duration_ns)
    body += _message(11, _value_type(header.period_type, tables)) + _integer(12, header.period)
    for comment in header.comments:
        body += _integer(13, text(comment))
    body += _integer(14, text(header.default))
    # The strings come last, because every line above may have added one. The order of fields in a message is free.
    # "replace": a task's name may hold half of a surrogate pair, and UTF-8 has no bytes for it.
    body += b"".join(_message(6, string.encode(errors="replace")) for string in tables.strings)
    # mtime=0 makes equal profiles equal files.
    return gzip.compress(bytes(body), compresslevel=6, mtime=0)


@dataclass
class _Tables:
    """The tables that samples refer to by number; each entry is written once."""

    strings: dict[str, int] = field(default_factory=lambda: {"": 0})
    functions: bytearray = field(default_factory=bytearray)
    locations: bytearray = field(default_factory=bytearray)
    _function_ids: dict[tuple[str, str, int], int] = field(default_factory=dict)
    _location_ids: dict[Frame, int] = field(default_factory=dict)

    def text(self, string: str) -> int:
        return self.strings.setdefault(string, len(self.strings))

    def location(self, frame: Frame) -> int:
        known = self._location_ids.get(frame)
        if known is not None:
            return known
        # From 1 on: 0 means "no location" in the format.
        number = self._location_ids[frame] = len(self._location_ids) + 1
        line = _integer(1, self._function(frame)) + _integer(2, frame.line)
        self.locations += _message(4, _integer(1, number) + _integer(2, 1) + _message(4, line))
        return number

    def _function(self, frame: Frame) -> int:
        key = (frame.function, frame.file, frame.first_line)
        known = self._function_ids.get(key)
        if known is not None:
            return known
        number = self._function_ids[key] = len(self._function_ids) + 1
        name, file = self.text(frame.function), self.text(frame.file)
        # Name and system name are the same, because Python does not mangle names.
        names = _integer(2, name) + _integer(3, name) + _integer(4, file)
        self.functions += _message(5, _integer(1, number) + names + _integer(5, frame.first_line))
        return number


def _value_type(value_type: ValueType, tables: _Tables) -> bytes:
    return _integer(1, tables.text(value_type.kind)) + _integer(2, tables.text(value_type.unit))


# The message is flat and only ever written, so these two functions replace a protobuf library and generated code.
def _integer(field_number: int, value: int) -> bytes:
    return varint(field_number << 3) + varint(value)


def _message(field_number: int, content: bytes) -> bytes:
    return varint(field_number << 3 | 2) + varint(len(content)) + content
