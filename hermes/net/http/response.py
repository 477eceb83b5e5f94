"""Responses as ready bytes, errors as problem details (RFC 9457).

A `Response` renders once everything that is the same for each request. The rest (date, request id, connection, origin)
is joined in when the response is sent.

Invariant: a response holds bytes of a request only if they were checked to be printable, so no client can inject a
header.
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
    """The answer to a request: a status, a body, and their headers.

    ``close``: the connection ends after this answer, because the end of the request cannot be found. ``detail`` is the
    message of an error, for the log. ``traced`` is the answered request if it is traced; then the answer has the id of
    this request. ``rejected`` are the items of the request that were not taken, for the log. ``usual``: no line of the
    log and no end of the connection depends on this answer, so the connection can send the bytes as they are.

    >>> Response(202, b'{"accepted":1}').render(b"Thu, 01 Jan 1970 00:00:00 GMT", b"r-1").splitlines()[0]
    b'HTTP/1.1 202 Accepted'

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
        # An error has a line in the log, and a last answer ends the connection.
        self.usual = status < 400 and not close
        # Everything up to the date and everything behind the connection's lines is the same for each request.
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"content-length: {len(body)}"]
        # An empty body can be a message too: protobuf encodes the default values as no bytes.
        if body or content_type != _JSON:
            lines.append(f"content-type: {content_type}")
        lines.extend(f"{name}: {value}" for name, value in self.headers.items())
        self._prefix = "\r\n".join([*lines, "date: "]).encode("latin-1")
        self._tail = b"\r\n\r\n" + body
        self._dated = b""
        self._date = b""

    def about(self, rejected: Sequence[Rejection]) -> Response:
        """Return the same response to a request whose ``rejected`` items were not taken."""
        # A copy: most responses are made once and shared by all requests.
        if not rejected:
            return self
        own = copy(self)
        own.rejected = rejected
        own.usual = False
        return own

    def of(self, request: TracedRequest) -> Response:
        """Return the same response, under the id of this traced request."""
        own = copy(self)
        own.traced = request
        own.usual = False
        return own

    def render(self, date: bytes, request_id: bytes, lines: bytes = b"") -> bytes:
        """Return the bytes to send. ``date`` is an HTTP date; a line break begins each header line in ``lines``."""
        # The object and not its value: the lane makes a new date once a second, and all requests of the second share
        # it.
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
    # RFC 9457 §4.2.1: a problem without a type of its own has the status phrase as its title.
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
    """Return the 503 for a body that finds no room."""
    return problem(
        503, "too many large requests are arriving at once: send it again", {"Retry-After": "1"}, close=close
    )
