"""A small reader of pprof files, independent of the writer: what the tests check the format with.

Field numbers: https://github.com/google/pprof/blob/main/proto/profile.proto.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from typing import Any, NamedTuple


class DecodedSample(NamedTuple):
    stack: list[tuple[str, str, int]]  # function, file, line; innermost first, as in the file
    values: list[int]
    labels: dict[str, str]


class DecodedProfile(NamedTuple):
    sample_types: list[tuple[str, str]]
    samples: list[DecodedSample]
    period_type: tuple[str, str]
    period: int
    time_nanos: int
    duration_nanos: int
    default_sample_type: str
    comments: list[str]

    def totals(self, value: int) -> dict[str, int]:
        """The value by innermost function, the largest first: what ``go tool pprof -top`` calls flat."""
        sums: dict[str, int] = {}
        for sample in self.samples:
            sums[sample.stack[0][0]] = sums.get(sample.stack[0][0], 0) + sample.values[value]
        return dict(sorted(sums.items(), key=lambda item: -item[1]))


def decode(data: bytes) -> DecodedProfile:
    message = _fields(gzip.decompress(data))
    strings = [content.decode() for content in message.get(6, [])]
    assert strings[0] == ""

    def value_type(content: bytes) -> tuple[str, str]:
        fields = _fields(content)
        return strings[fields[1][0]], strings[fields[2][0]]

    functions = {}
    for content in message.get(5, []):
        fields = _fields(content)
        functions[fields[1][0]] = (strings[fields[2][0]], strings[fields[4][0]])
    locations = {}
    for content in message.get(4, []):
        fields = _fields(content)
        line = _fields(fields[4][0])
        locations[fields[1][0]] = (*functions[line[1][0]], line[2][0])
    samples = []
    for content in message.get(2, []):
        fields = _fields(content)
        labels = [_fields(label) for label in fields.get(3, [])]
        samples.append(
            DecodedSample(
                [locations[number] for number in _varints(fields[1][0])],
                list(_varints(fields[2][0])),
                {strings[label[1][0]]: strings[label[2][0]] for label in labels},
            )
        )
    return DecodedProfile(
        sample_types=[value_type(content) for content in message[1]],
        samples=samples,
        period_type=value_type(message[11][0]),
        period=message[12][0],
        time_nanos=message[9][0],
        duration_nanos=message[10][0],
        default_sample_type=strings[message[14][0]],
        comments=[strings[number] for number in message.get(13, [])],
    )


def _fields(data: bytes) -> dict[int, list[Any]]:
    """Field number to its values in order: integers, or bytes."""
    fields: dict[int, list[Any]] = {}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        value: int | bytes
        if tag & 7 == 0:
            value, at = _varint(data, at)
        else:
            assert tag & 7 == 2, f"wire type {tag & 7} is in no pprof message"
            length, at = _varint(data, at)
            assert at + length <= len(data)
            value, at = data[at : at + length], at + length
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at


def _varints(data: bytes) -> Iterator[int]:
    at = 0
    while at < len(data):
        number, at = _varint(data, at)
        yield number
