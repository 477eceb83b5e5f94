"""Cuts a large request of OTLP logs in protobuf into requests that are decoded in a few milliseconds each.

A message is cut where one field ends and the next begins. Every piece also has the other fields of the messages around
it: its resource and its scope. Invariants: the pieces hold every record, in order; the work between two yielded items
takes a few milliseconds at most, for any bytes. Pure.
Source: protobuf's wire format, and opentelemetry-proto's logs.proto.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

from hermes.base.json.cut import Pieces, Refused
from hermes.base.json.rules import BadBody
from hermes.base.varint import varint
from hermes.events.protocols.otlp_protobuf import Walk
from hermes.events.protocols.otlp_record import MAX_PART, MAX_SHARED, MAX_VALUES

# The numbers of the fields resource_logs, scope_logs, log_records.
_PATH = (1, 2, 2)
# Fields read in one step: one millisecond.
_FIELDS = 2048
# Of an attribute: itself, its key, its value, and the text in that.
_FIELDS_A_VALUE = 4
# Bytes of what the records of one piece share, once for each: an event holds all of it.
_MOST_REPEATED = 2**22
# Bytes of an empty record.
_SHORTEST = 2
# Bytes that a field counts as at least: an empty record takes as long to decode.
_LEAST = 16

# Where the values of a record are: a kind of message, the number of a field, and the kind that the field holds.
_INNER = {
    "record": {5: "value", 6: "pair"},
    "pair": {2: "value"},
    "value": {5: "array", 6: "object"},
    "array": {1: "value"},
    "object": {1: "pair"},
}
_COUNTED = {("record", "pair"), ("object", "pair"), ("array", "value")}
# The first bytes of the fields that hold the counted ones; the second two are the same in a longer form.
_MARKS = b"\x0a\x32\x8a\xb2"


def cut_messages(body: bytes, size: int) -> Pieces:
    """Cut an ``ExportLogsServiceRequest`` into requests of about ``size`` bytes each. Raises `BadBody`."""
    yield from _Cutter(body, size).cut(memoryview(body), _PATH, ())


class _Cutter:
    def __init__(self, body: bytes, size: int) -> None:
        self._walk = Walk(body)
        self._size = size
        self._since = 0

    def cut(
        self, message: memoryview, path: tuple[int, ...], around: tuple[tuple[int, bytes], ...]
    ) -> Generator[bytes | Refused | None, None, None]:
        """Cut a message whose repeated field ``path[0]`` leads to the records.

        ``around`` has, for each message around this one from the outermost on, the number of the field that leads to
        the next message, and the other fields.
        """
        shared = sum(len(others) for _, others in around)
        runs, others = yield from self._gather(message, path, shared)
        around = (*around, (path[0], others))
        if self._weigh(path, shared + len(others)) != self._weigh(path, shared):
            # They are cut by all that they share, of which some may come after them.
            runs, _ = yield from self._gather(message, path, shared + len(others))
        for run in runs:
            # A run that is too large is a single message: only its own records can divide it.
            if run.size > self._size and len(path) > 1:
                yield from self.cut(message[run.value : run.spans[-1]], path[1:], around)
            elif run.size > self._size and (error := (yield from self._find_fault(message[run.value : run.spans[-1]]))):
                yield Refused(error)
            else:
                yield _wrap([message[begin:end] for begin, end in run.stretches()], around)
        # A message without records still makes a piece, so that an invalid resource is found.
        if not runs:
            yield _wrap([], around)

    def _gather(
        self, message: memoryview, path: tuple[int, ...], shared: int
    ) -> Generator[None, None, tuple[list[_Run], bytes]]:
        """Return the repeated fields as runs that fit into a piece with their shared fields, and the other fields."""
        weight = self._weigh(path, shared)
        runs: list[_Run] = []
        # Weighed by their bytes alone: MAX_SHARED bounds bytes, and not the time of decoding.
        others = _Run(0, 0, 0, (0, 1))
        position = 0
        while position < len(message):
            begin, key, value, position = self._walk.field(message, position)
            # The wire format lets other fields stand between the repeated ones, so they are collected from everywhere.
            if key != path[0] or value < 0:
                if not others.extend(begin, position, MAX_SHARED):
                    raise BadBody(f"a resource or a scope of a large request has more than {MAX_SHARED} bytes")
            elif not runs or not runs[-1].extend(begin, position, self._size):
                runs.append(_Run(begin, value, position, weight))
            # Counted over all messages: many short messages take as long as one of many fields.
            self._since += 1
            if self._since % _FIELDS == 0:
                yield None
        return runs, b"".join([message[begin:end] for begin, end in others.stretches()])

    def _weigh(self, path: tuple[int, ...], shared: int) -> tuple[int, int]:
        """Return the weight of each field of a message: its least bytes, and the factor for its bytes."""
        # A record weighs so much that the records of one piece together repeat `_MOST_REPEATED` bytes at most. A
        # scope's bytes weigh as if they were the shortest records.
        record = self._size * shared // _MOST_REPEATED
        if len(path) == 1:
            return max(_LEAST, record), 1
        return _LEAST, max(1, record // _SHORTEST) if len(path) == 2 else 1

    def _find_fault(self, record: memoryview) -> Generator[None, None, str]:
        """Return the reason for not decoding a record that is larger than a piece; empty if it may be decoded."""
        # The decoder makes objects of all values at once, so they are counted before it is called.
        if len(record) > MAX_PART:
            return f"the record is larger than {MAX_PART} bytes"
        # A quick look, which counts too many and never too few: most records need no walk.
        if sum(map(bytes(record).count, _MARKS)) <= MAX_VALUES:
            return ""
        try:
            values = yield from _count_values(record)
        except BadBody:
            # The decoder tells what is wrong.
            return ""
        return f"it has more than {MAX_VALUES} values" if values > MAX_VALUES else ""


def _count_values(record: memoryview) -> Generator[None, None, int]:
    """Return how many values a record has, or a number above `MAX_VALUES`. Raises `BadBody`."""
    # Room for so many fields that the count reaches MAX_VALUES first: the reason names values, and not fields.
    walk = Walk(record, free=_FIELDS_A_VALUE * MAX_VALUES)
    values = fields = 0
    # A list and no recursion: the client chooses how deep its values are nested.
    left = [("record", record)]
    while left:
        kind, message = left.pop()
        position = 0
        while position < len(message):
            _, key, value, position = walk.field(message, position)
            inner = _INNER[kind].get(key) if value >= 0 else None
            if inner is not None:
                left.append((inner, message[value:position]))
                values += (kind, inner) in _COUNTED
                if values > MAX_VALUES:
                    return values
            fields += 1
            if fields % _FIELDS == 0:
                yield None
    return values


class _Run:
    """Fields that share a piece. ``spans`` holds the beginning and the end of each stretch, one after the other."""

    __slots__ = ("_weight", "size", "spans", "value")

    def __init__(self, begin: int, value: int, end: int, weight: tuple[int, int]) -> None:
        self.spans = [begin, end]
        self.value = value
        self._weight = weight
        self.size = max(end - begin, weight[0]) * weight[1]

    def extend(self, begin: int, end: int, most: int) -> bool:
        """Take one more field; return False if the field does not fit."""
        least, times = self._weight
        size = max(end - begin, least) * times
        if self.size + size > most:
            return False
        self.size += size
        # Neighbours become one stretch, so a run of thousands of records is mostly one slice.
        if begin == self.spans[-1]:
            self.spans[-1] = end
        else:
            self.spans += (begin, end)
        return True

    def stretches(self) -> Iterator[tuple[int, int]]:
        """Return the beginning and the end of each stretch."""
        return zip(self.spans[::2], self.spans[1::2], strict=True)


def _wrap(fields: list[memoryview], around: tuple[tuple[int, bytes], ...]) -> bytes:
    """Return a request with these fields of the innermost message, inside the messages around it."""
    body = around[-1][1] + b"".join(fields)
    for number, others in reversed(around[:-1]):
        # The other fields first: the wire format gives the fields of a message no order.
        # A key of one byte: the numbers in `_PATH` are below 16.
        body = others + bytes([number << 3 | 2]) + varint(len(body)) + body
    return body
