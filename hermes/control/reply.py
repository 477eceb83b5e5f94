"""Between Quart's requests and responses and ours. Called by the routes of the control lane."""

from __future__ import annotations

from quart import Response as QuartResponse
from quart import g, request
from quart.wrappers.response import ResponseBody

from hermes.http.response import Response


def join_headers() -> dict[str, str]:
    """The headers of the request, their names in lower case, repeated ones joined."""
    joined: dict[str, str] = {}
    for name, value in request.headers:
        key = name.lower()
        joined[key] = f"{joined[key]}, {value}" if key in joined else value
    return joined


def keep_connection() -> None:
    """The body of the request has been read to its end: what follows on the connection is the next request."""
    g.body_read = True


def leaves_body() -> bool:
    """Whether a part of the request's body is unread, so that the next request cannot be told from it (HTTP/1.1)."""
    sent = request.content_length or "Transfer-Encoding" in request.headers
    return bool(sent) and not g.get("body_read", False) and request.http_version != "2"


def to_quart(response: Response) -> QuartResponse:
    """The response for Quart to send."""
    return QuartResponse(
        response.body, response.status, content_type=response.content_type, headers=dict(response.headers)
    )


def stream_to_quart(body: ResponseBody, content_type: str) -> QuartResponse:
    """A response that goes on as long as its body does, and that nobody on the way keeps."""
    response = QuartResponse(
        body, 200, content_type=content_type, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )
    response.timeout = None
    return response
