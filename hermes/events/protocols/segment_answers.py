"""Answers the libraries of Segment and RudderStack, also their requests for a configuration and for metrics. Pure.

Invariant: invalid messages get a success, since the libraries would repeat them for ever.
Source: Segment's HTTP API reference, and RudderStack's browser library.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from hermes.events.decode import Decoded
from hermes.net.http.head import Head, Route
from hermes.net.http.rejection import MAX_REJECTIONS
from hermes.net.http.response import Response

SOURCE_CONFIG = msgspec.json.encode(
    {
        "source": {
            "id": "hermes",
            "name": "hermes",
            "enabled": True,
            # Both off: the library would send errors and metrics of itself, which Hermes does not keep.
            "config": {"statsCollection": {"errors": {"enabled": False}, "metrics": {"enabled": False}}},
            # Empty lists: with destinations a library would load their scripts and send events to them directly.
            "destinations": [],
            "connections": [],
            "dataplanes": {},
        }
    }
)
"""The configuration that RudderStack's libraries request first: an enabled source without destinations."""

LIBRARY_METRICS = "/v1/m"
"""The path to which the browser library sends its own metrics."""

_MOST_METRICS = 64 * 2**10


class SegmentAnswers:
    """The answers: 200, the only status that these libraries take for success, or an error in Segment's form.

    >>> SegmentAnswers().refused(401, "the key is unknown").body
    b'{"success":false,"code":"unauthorized","message":"the key is unknown"}'
    """

    def taken(self, decoded: Decoded) -> Response:
        """Return 200, with the first rejections; ``more`` counts the rejections beyond that list."""
        # Also if every message is invalid: a library may repeat a failed request for ever, with its queue behind it.
        if not decoded.rejected:
            return _SUCCESS
        told = {
            "success": True,
            "accepted": len(decoded.events),
            "rejected": decoded.rejected[:MAX_REJECTIONS],
        }
        if len(decoded.rejected) > MAX_REJECTIONS:
            told["more"] = len(decoded.rejected) - MAX_REJECTIONS
        return Response(200, msgspec.json.encode(told))

    def nothing(self, decoded: Decoded) -> Response:
        """Return 200 with the rejections, as `taken` does."""
        return self.taken(decoded)

    def refused(self, status: int, detail: str, headers: Mapping[str, str] | None = None, **members: Any) -> Response:
        """Return an error in Segment's own form."""
        code = _CODES.get(status, "invalid_request" if status < 500 else "server_error")
        document = {"success": False, "code": code, "message": detail, **members}
        return Response(status, msgspec.json.encode(document), headers=headers, detail=detail)


_SUCCESS = Response(200, b'{"success":true}')
_CODES = {401: "unauthorized", 413: "payload_too_large", 415: "unsupported_media_type", 503: "service_unavailable"}


def library_metrics_route(response_lines: Callable[[Head], bytes]) -> Route:
    """Return the route that accepts and discards the browser library's metrics about itself: they are no events.

    >>> library_metrics_route(lambda _head: b"").name
    '/v1/m'
    """
    # A `check` that accepts everything: the browser library sends no key here.
    return Route(LIBRARY_METRICS, lambda _head: None, lambda _head, _body: _SUCCESS, response_lines, _MOST_METRICS)
