"""Between Quart's requests and responses and ours. Called by the routes of the control lane."""

from __future__ import annotations

from contextlib import suppress

import trio
from quart import Response as QuartResponse
from quart import g, request
from quart.wrappers.response import ResponseBody
from werkzeug.exceptions import RequestEntityTooLarge

from hermes.http.response import Response

_MOST_READ_PAST = 64 * 2**10  # bytes
_READ_PAST_SECONDS = 0.1


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


async def read_past_body() -> bool:
    """Read what is left of the request's body, if that is little and comes at once. False: the connection has to end.

    Else its end could not be told from the beginning of the next request (HTTP/1.1).
    """
    sent = request.content_length or "Transfer-Encoding" in request.headers
    if not sent or g.get("body_read", False) or request.http_version == "2":
        return True
    left = _MOST_READ_PAST
    with trio.move_on_after(_READ_PAST_SECONDS), suppress(RequestEntityTooLarge):
        async for part in request.body:
            left -= len(part)
            if left < 0:
                return False
        return True
    return False


def to_quart(response: Response) -> QuartResponse:
    """The response for Quart to send, and for the log to quote."""
    g.told = response
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
