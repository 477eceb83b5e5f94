"""Cuts a large request of OTLP logs in protobuf into requests that are decoded in a few milliseconds each.

A message is cut where one field ends and the next begins. Every piece also has the other fields of the messages around
it: its resource and its scope. Invariants: the pieces hold every record, in order; the work between two yielded items
takes a few milliseconds at most, for any bytes. Pure.
Source: protobuf's wire format, and opentelemetry-proto's logs.proto.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

from hermes.cut import Pieces, Refused
from hermes.decode import BadBody
from hermes.protocols.otlp_protobuf import Walk
from hermes.protocols.otlp_record import MAX_PART
from hermes.varint import varint

_PATH = (1, 2, 2)  # resource_logs, scope_logs, log_records: the numbers of their fields
_FIELDS = 2048  # fields read in one step: one millisecond
_LEAST = 16  # bytes that a field counts as at least: an empty record takes as long to decode


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
        runs: list[_Run] = []
        others = _Run(0, 0, 0)
        position = 0
        while position < len(message):
            begin, key, value, position = self._walk.field(message, position)
            # The wire format lets other fields stand between the repeated ones, so they are collected from everywhere.
            if key != path[0] or value < 0:
                if not others.extend(begin, position, MAX_PART):
                    raise BadBody(f"a resource or a scope is larger than {MAX_PART} bytes")
            elif not runs or not runs[-1].extend(begin, position, self._size):
                runs.append(_Run(begin, value, position))
            self._since += 1
            if self._since % _FIELDS == 0:
                yield None
        around = (*around, (path[0], b"".join([message[begin:end] for begin, end in others.stretches()])))
        for run in runs:
            # A run that is too large is a single message: only its own records can divide it.
            if run.size > self._size and len(path) > 1:
                yield from self.cut(message[run.value : run.spans[-1]], path[1:], around)
            else:
                yield _wrap([message[begin:end] for begin, end in run.stretches()], around)
        # A message without records still makes a piece, so that an invalid resource is found.
        if not runs:
            yield _wrap([], around)


class _Run:
    """Fields that share a piece. ``spans`` holds the beginning and the end of each stretch, one after the other."""

    __slots__ = ("size", "spans", "value")

    def __init__(self, begin: int, value: int, end: int) -> None:
        self.spans = [begin, end]
        self.value = value
        self.size = max(end - begin, _LEAST)

    def extend(self, begin: int, end: int, most: int) -> bool:
        """Take one more field; return False if the field does not fit."""
        size = max(end - begin, _LEAST)
        if self.size + size > most:
            return False
        self.size += size
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
        body = others + bytes([number << 3 | 2]) + varint(len(body)) + body
    return body
