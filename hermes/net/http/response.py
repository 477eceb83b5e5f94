"""Responses as ready bytes, errors as problem details (RFC 9457).

A `Response` renders everything that does not change from request to request once; what does (date, request id,
connection, origin) is joined in when it is sent. Invariant: a response never holds bytes of a request unless they were
checked to be printable, so no header can be injected. Made by routes and by the connection; sent by both lanes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from http import HTTPStatus
from typing import Any

import msgspec

from hermes.net.http.rejection import Rejection
from hermes.observe.traced_request import TracedRequest

_JSON = "application/json"

ECHOED = 100
"""Characters of a client's own value that an answer shows."""


class Response:
    """What answers a request: a status, a body, and the headers that belong to them.

    ``close`` ends the connection after it, for a request whose rest cannot be told from the next one's beginning.
    ``detail`` is the words of an error, for the log. ``traced`` is the one request that it answers, if that is traced;
    then it is sent under that one's id. ``rejected`` are the events of its request that were not taken, for the log.
    ``usual``: nothing about it needs attention, and it may be sent right away.

    Parameters: 6, because an answer has no more and no fewer parts, and nearly all callers give the first two.
    """

    __slots__ = (
        "_date",
        "_dated",
        "_prefix",
        "_tail",
        "body",
        "close",
        "content_type",
        "detail",
        "headers",
        "rejected",
        "status",
        "traced",
        "usual",
    )

    def __init__(
        self,
        status: int,
        body: bytes = b"",
        content_type: str = _JSON,
        headers: Mapping[str, str] | None = None,
        *,
        close: bool = False,
        detail: str = "",
    ) -> None:
        self.status = status
        self.body = body
        self.content_type = content_type
        self.headers = dict(headers or {})
        self.close = close
        self.detail = detail
        self.rejected: Sequence[Rejection] = ()
        self.traced: TracedRequest | None = None
        self.usual = status < 400 and not close
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"content-length: {len(body)}"]
        if body or content_type != _JSON:  # an empty message of protobuf is one as well
            lines.append(f"content-type: {content_type}")
        lines.extend(f"{name}: {value}" for name, value in self.headers.items())
        self._prefix = "\r\n".join([*lines, "date: "]).encode("latin-1")
        self._tail = b"\r\n\r\n" + body
        self._dated = b""
        self._date = b""

    def about(self, rejected: Sequence[Rejection]) -> Response:
        """The same response, which leaves these events of its request out."""
        if not rejected:
            return self
        own = copy(self)
        own.rejected = rejected
        own.usual = False
        return own

    def of(self, request: TracedRequest) -> Response:
        """The same response, for this one request."""
        own = copy(self)
        own.traced = request
        own.usual = False
        return own

    def render(self, date: bytes, request_id: bytes, lines: bytes = b"") -> bytes:
        """The bytes to send. ``date`` is an HTTP date; ``lines`` is ready header lines, each begun by a line break."""
        if date is not self._date:
            self._date = date
            self._dated = b"%b%b\r\nx-request-id: " % (self._prefix, date)
        return self._dated + request_id + lines + self._tail


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def problem(
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
    *,
    close: bool = False,
    **members: Any,
) -> Response:
    """Problem details (RFC 9457) of type ``about:blank``: the title is the status's own; ``members`` are extensions."""
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        **members,
    }
    return Response(
        status, msgspec.json.encode(document), "application/problem+json", headers, close=close, detail=detail
    )


def crowded(*, close: bool = False) -> Response:
    """503: there is no room for a body that is arriving."""
    return problem(
        503, "too many large requests are arriving at once: send it again", {"Retry-After": "1"}, close=close
    )
