"""What Segment's and RudderStack's libraries are answered, and what they ask for beside sending messages. Pure.

Called by the ingest route and by the routes of the address where events come in. Source: Segment's HTTP API reference,
and RudderStack's browser library.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from hermes.decode import MAX_REJECTIONS, Decoded
from hermes.http.head import Head, Route
from hermes.http.response import Response

SOURCE_CONFIG = msgspec.json.encode(
    {
        "source": {
            "id": "hermes",
            "name": "hermes",
            "enabled": True,
            "config": {"statsCollection": {"errors": {"enabled": False}, "metrics": {"enabled": False}}},
            "destinations": [],
            "connections": [],
            "dataplanes": {},
        }
    }
)
"""What RudderStack's libraries ask for before they send: an enabled source without destinations of its own."""

LIBRARY_METRICS = "/v1/m"
"""Where the browser library sends numbers about itself."""

_MOST_METRICS = 64 * 2**10


class SegmentAnswers:
    """200, the only code that these libraries take for success; errors have the code and message that they show.

    A request with invalid messages is a success too: the messages get no better by being sent again, and a library
    that hears anything else may repeat them for ever, with the others of its queue behind them.
    """

    def taken(self, decoded: Decoded) -> Response:
        """200; what was rejected is told beside the success, and ``more`` is how many are not in that list."""
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
        """The same."""
        return self.taken(decoded)

    def refused(self, status: int, detail: str, headers: Mapping[str, str] | None = None, **members: Any) -> Response:
        """An error in Segment's own form."""
        code = _CODES.get(status, "invalid_request" if status < 500 else "server_error")
        document = {"success": False, "code": code, "message": detail, **members}
        return Response(status, msgspec.json.encode(document), headers=headers, detail=detail)


_SUCCESS = Response(200, b'{"success":true}')
_CODES = {401: "unauthorized", 413: "payload_too_large", 415: "unsupported_media_type", 503: "service_unavailable"}


def library_metrics_route(response_lines: Callable[[Head], bytes]) -> Route:
    """Takes what the browser library says about itself, and keeps none of it: they are no events."""
    return Route(LIBRARY_METRICS, lambda _head: None, lambda _head, _body: _SUCCESS, response_lines, _MOST_METRICS)
