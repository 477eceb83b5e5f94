"""Encodes the answers of OTLP/HTTP: ``ExportLogsServiceResponse`` and ``google.rpc.Status``, as JSON or protobuf. Pure.

Invariant: an answer has the encoding of its request, and needs no library: also the answer that a library is missing.
Source: OTLP 1.5, "OTLP/HTTP Response".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from hermes.base.varint import varint
from hermes.events.decode import Decoded
from hermes.net.http.response import Response

PROTOBUF = "application/x-protobuf"

# The codes of google.rpc.Code, by the status of HTTP.
# 3 INVALID_ARGUMENT, 16 UNAUTHENTICATED, 8 RESOURCE_EXHAUSTED, 14 UNAVAILABLE, 4 DEADLINE_EXCEEDED.
_CODES = {400: 3, 401: 16, 413: 8, 415: 3, 422: 3, 503: 14, 504: 4}
# google.rpc.Code.UNKNOWN.
_UNKNOWN = 2


class _Answers:
    """The part of the answers that both encodings share."""

    # Of the statuses that Hermes uses, exporters repeat a request only after 503 and 504, and obey Retry-After.

    def taken(self, decoded: Decoded) -> Response:
        """Return 200, with the number of rejected records, the reason of the first, and the note."""
        # OTLP lets a server tell advice as a partial success with 0 rejected records.
        if decoded.rejected or decoded.note:
            return self._partial(len(decoded.rejected), _sum_up(decoded))
        return self._success

    def nothing(self, decoded: Decoded) -> Response:
        """Return 400 if all records were rejected; 200 for a request without records."""
        # Exporters show a 400 to people.
        return self.refused(400, _sum_up(decoded)) if decoded.rejected else self.taken(decoded)

    def refused(self, status: int, detail: str, headers: Mapping[str, str] | None = None, **_members: Any) -> Response:
        """Return an error as a ``Status``."""
        return self._status(status, _CODES.get(status, _UNKNOWN), detail, headers)

    _success: Response

    def _partial(self, count: int, message: str) -> Response:
        raise NotImplementedError

    def _status(self, status: int, code: int, message: str, headers: Mapping[str, str] | None) -> Response:
        raise NotImplementedError


class JsonAnswers(_Answers):
    """The answers to requests in JSON.

    >>> JsonAnswers().refused(503, "the queue is full").body
    b'{"code":14,"message":"the queue is full"}'
    """

    # OTLP: a server must leave partialSuccess out of a full success.
    _success = Response(200, b"{}")

    def _partial(self, count: int, message: str) -> Response:
        # A 64-bit number is a string in protobuf's JSON mapping.
        partial = {"rejectedLogRecords": str(count), "errorMessage": message}
        return Response(200, msgspec.json.encode({"partialSuccess": partial}))

    def _status(self, status: int, code: int, message: str, headers: Mapping[str, str] | None) -> Response:
        document = {"code": code, "message": message}
        return Response(status, msgspec.json.encode(document), headers=headers, detail=message)


class ProtobufAnswers(_Answers):
    """The answers to requests in protobuf. The plain success is a message of no bytes.

    >>> ProtobufAnswers().refused(503, "full").body.endswith(b"full")
    True
    """

    _success = Response(200, b"", PROTOBUF)

    def _partial(self, count: int, message: str) -> Response:
        # 0x08: field 1 as a varint, the number of rejected records.
        return Response(200, _bytes_field(1, b"\x08" + varint(count) + _bytes_field(2, message.encode())), PROTOBUF)

    def _status(self, status: int, code: int, message: str, headers: Mapping[str, str] | None) -> Response:
        # 0x08: field 1 as a varint, here the code. Field 2 is the message.
        document = b"\x08" + varint(code) + _bytes_field(2, message.encode())
        return Response(status, document, PROTOBUF, headers, detail=message)


def _sum_up(decoded: Decoded) -> str:
    """Return one sentence about the rejected records, and the note."""
    # OTLP has one text for all records, and no list.
    if not decoded.rejected:
        return decoded.note
    first = decoded.rejected[0]
    count = len(decoded.rejected)
    told = f"{count} log record{'s were' if count > 1 else ' was'} rejected; record {first.index}: {first.error}"
    return f"{told}; {decoded.note}" if decoded.note else told


def _bytes_field(number: int, data: bytes) -> bytes:
    # Wire type 2, length-delimited. The fields of these answers have numbers below 16, so the key is one byte.
    return bytes([number << 3 | 2]) + varint(len(data)) + data
