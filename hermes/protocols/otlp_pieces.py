"""Cuts a large request of OTLP logs in protobuf into requests that are decoded in a few milliseconds each.

A message is cut where one of its fields ends and the next begins; every piece has the other fields of the messages
around it, which are its resource and its scope. Invariants: the pieces hold every record, in order; what happens
between two items that are yielded takes some milliseconds at most, whatever the bytes are. Pure. Source: protobuf's
wire format, and opentelemetry-proto's logs.proto.
"""

from __future__ import annotations

from collections.abc import Generator

from hermes.cut import Pieces, Refused
from hermes.decode import BadBody
from hermes.protocols.otlp_protobuf import Walk
from hermes.protocols.otlp_record import MAX_PART

_PATH = (1, 2, 2)  # resource_logs, scope_logs, log_records: the numbers of their fields
_FIELDS = 2048  # of one step of walking: one millisecond


def cut_messages(body: bytes, size: int) -> Pieces:
    """Cut an ``ExportLogsServiceRequest`` into some of about ``size`` bytes each. Raises `BadBody`."""
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

        ``around`` are the messages around it, from the outermost on: the number of the field that leads on, and the
        other fields.
        """
        inner: list[tuple[int, int, int]] = []  # where a field begins, its value begins, and it ends
        others: list[memoryview] = []
        shared = position = 0
        while position < len(message):
            begin, key, value, position = self._walk.field(message, position)
            if key == path[0] and value >= 0:
                inner.append((begin, value, position))
            else:
                others.append(message[begin:position])
                shared += position - begin
            self._since += 1
            if self._since % _FIELDS == 0:
                yield None
        if shared > MAX_PART:
            raise BadBody(f"a resource or a scope is larger than {MAX_PART} bytes")
        around = (*around, (path[0], b"".join(others)))
        first = 0  # of the fields that are together in the next piece
        for index, (begin, value, end) in enumerate(inner):
            if end - begin > self._size and len(path) > 1:
                if first < index:
                    yield _wrap(inner[first:index], message, around)
                yield from self.cut(message[value:end], path[1:], around)
                first = index + 1
            elif end - inner[first][0] > self._size and first < index:
                yield _wrap(inner[first:index], message, around)
                first = index
        if first < len(inner) or not inner:
            yield _wrap(inner[first:], message, around)


def _wrap(fields: list[tuple[int, int, int]], message: memoryview, around: tuple[tuple[int, bytes], ...]) -> bytes:
    """A request that has these fields of a message, in the messages around it."""
    body = around[-1][1] + b"".join([message[begin:end] for begin, _, end in fields])
    for number, others in reversed(around[:-1]):
        body = others + bytes([number << 3 | 2]) + _length(len(body)) + body
    return body


def _length(size: int) -> bytes:
    out = bytearray()
    while size > 0x7F:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    out.append(size)
    return bytes(out)
