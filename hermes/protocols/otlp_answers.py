"""The answers of OTLP/HTTP, in the encoding of the request: ``ExportLogsServiceResponse``, and ``google.rpc.Status``.

They are two messages of two members, so they are written here: an answer needs no library, not even the one that says
which library is missing. Pure. Called by the ingest route. Source: OTLP 1.5, "OTLP/HTTP Response".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from hermes.decode import Decoded
from hermes.http.response import Response
from hermes.varint import varint

PROTOBUF = "application/x-protobuf"

_CODES = {400: 3, 401: 16, 413: 8, 415: 3, 422: 3, 503: 14, 504: 4}  # google.rpc.Code
_UNKNOWN = 2


class _Answers:
    """What both encodings share. Exporters send again after 503 and 504 alone, and then after Retry-After."""

    def taken(self, decoded: Decoded) -> Response:
        """200, with how many records were rejected and why, if any were, and with what else there is to tell."""
        if decoded.rejected or decoded.note:
            return self._partial(len(decoded.rejected), _sum_up(decoded))
        return self._success

    def nothing(self, decoded: Decoded) -> Response:
        """400 where all records were rejected, which exporters show to people; 200 for a request without any."""
        return self.refused(400, _sum_up(decoded)) if decoded.rejected else self.taken(decoded)

    def refused(self, status: int, detail: str, headers: Mapping[str, str] | None = None, **_members: Any) -> Response:
        """An error as a ``Status``."""
        return self._status(status, _CODES.get(status, _UNKNOWN), detail, headers)

    _success: Response

    def _partial(self, count: int, message: str) -> Response:
        raise NotImplementedError

    def _status(self, status: int, code: int, message: str, headers: Mapping[str, str] | None) -> Response:
        raise NotImplementedError


class JsonAnswers(_Answers):
    """Those to requests in JSON."""

    _success = Response(200, b"{}")

    def _partial(self, count: int, message: str) -> Response:
        partial = {"rejectedLogRecords": str(count), "errorMessage": message}
        return Response(200, msgspec.json.encode({"partialSuccess": partial}))

    def _status(self, status: int, code: int, message: str, headers: Mapping[str, str] | None) -> Response:
        document = {"code": code, "message": message}
        return Response(status, msgspec.json.encode(document), headers=headers, detail=message)


class ProtobufAnswers(_Answers):
    """Those to requests in protobuf. A success without more to say is a message without a byte."""

    _success = Response(200, b"", PROTOBUF)

    def _partial(self, count: int, message: str) -> Response:
        return Response(200, _bytes_field(1, b"\x08" + varint(count) + _bytes_field(2, message.encode())), PROTOBUF)

    def _status(self, status: int, code: int, message: str, headers: Mapping[str, str] | None) -> Response:
        document = b"\x08" + varint(code) + _bytes_field(2, message.encode())
        return Response(status, document, PROTOBUF, headers, detail=message)


def _sum_up(decoded: Decoded) -> str:
    """One sentence about what was rejected, for there is room for no list, and the note."""
    if not decoded.rejected:
        return decoded.note
    first = decoded.rejected[0]
    count = len(decoded.rejected)
    told = f"{count} log record{'s were' if count > 1 else ' was'} rejected; record {first.index}: {first.error}"
    return f"{told}; {decoded.note}" if decoded.note else told


def _bytes_field(number: int, data: bytes) -> bytes:
    return bytes([number << 3 | 2]) + varint(len(data)) + data
