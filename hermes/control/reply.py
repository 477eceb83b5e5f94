"""Between Quart's requests and responses and ours. Called by the routes of the control lane."""

from __future__ import annotations

from quart import Response as QuartResponse
from quart import request
from quart.wrappers.response import ResponseBody

from hermes.http.response import Response


def join_headers() -> dict[str, str]:
    """The headers of the request, their names in lower case, repeated ones joined."""
    joined: dict[str, str] = {}
    for name, value in request.headers:
        key = name.lower()
        joined[key] = f"{joined[key]}, {value}" if key in joined else value
    return joined


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
