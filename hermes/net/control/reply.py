"""Turns Quart's requests into ours, and our answers into Quart's responses.

Invariant: no handler of ours sees Quart.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import nullcontext, suppress
from typing import Any, Self

import trio
from quart import Response as QuartResponse
from quart import g, request
from quart.wrappers.response import ResponseBody
from werkzeug.exceptions import RequestEntityTooLarge

from hermes.net.control.answering import WHEN_CLIENT_ENDS
from hermes.net.control.endpoint import Answer, Body, Request, Streaming

_MOST_READ_PAST = 64 * 2**10  # bytes
_READ_PAST_SECONDS = 0.1
_JSON = "application/json"


def join_headers() -> dict[str, str]:
    """The headers of the request, their names in lower case, repeated ones joined."""
    joined: dict[str, str] = {}
    for name, value in request.headers:
        key = name.lower()
        # RFC 9110 §5.3: a repeated header means the same as one with all values, joined by commas.
        joined[key] = f"{joined[key]}, {value}" if key in joined else value
    return joined


def from_quart(parameters: Mapping[str, Any]) -> Request:
    """The request that Quart serves now; ``parameters`` are the ones in its path."""
    state: Mapping[str, Any] = request.scope.get("state") or {}
    return Request(
        request.method,
        request.path,
        join_headers(),
        request.args.to_dict(flat=False),
        parameters,
        _RequestBody(aiter(request.body)),
        # latin-1 keeps each byte as one character.
        request.query_string.decode("latin-1"),
        f"{request.scheme}://{request.host}",
        request.remote_addr or "",
        g.request_id.encode("latin-1"),
        # Without `Answering`, as under Quart's own client for tests, nobody tells the end.
        state.get(WHEN_CLIENT_ENDS, lambda _call: nullcontext()),
    )


class _RequestBody:
    """The parts of a body. After the last part, the next request can follow on the connection."""

    # A class, and no generator: Trio warns of a generator that a handler leaves unfinished, as one does that refuses.

    def __init__(self, parts: AsyncIterator[bytes]) -> None:
        self._parts = parts

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._parts)
        except StopAsyncIteration:
            g.body_read = True
            raise


async def read_past_body() -> bool:
    """Read the rest of the request's body if the rest is short and comes at once. False: the connection has to end."""
    # Over HTTP/1.1 the next request begins where the body ends: bytes that are left would be read as a request. HTTP/2
    # has a stream for each request.
    sent = request.content_length or "Transfer-Encoding" in request.headers
    if not sent or g.get("body_read", False) or request.http_version == "2":
        return True
    left = _MOST_READ_PAST
    # After a small body the connection can go on. A large one is not worth the wait, and ends it.
    # Quart refuses to read beyond MAX_CONTENT_LENGTH: then the connection ends too.
    with trio.move_on_after(_READ_PAST_SECONDS), suppress(RequestEntityTooLarge):
        async for part in request.body:
            left -= len(part)
            if left < 0:
                return False
        return True
    return False


def to_quart(answer: Answer) -> QuartResponse:
    """The answer for Quart to send, and an error for the log to quote."""
    if isinstance(answer, Streaming):
        return _stream(answer)
    g.told = answer
    response = QuartResponse(answer.body, answer.status, content_type=answer.content_type, headers=dict(answer.headers))
    if not answer.body and answer.content_type == _JSON:
        # As in the fast lane: no body has no type, but an empty message of protobuf has one.
        del response.headers["Content-Type"]
    return response


def with_lines(response: QuartResponse, lines: bytes) -> QuartResponse:
    """The response with ready header lines, each begun by a line break."""
    # The fast lane has them ready as bytes, and both lanes shall send the same.
    for line in lines.decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(": ")
        response.headers[name] = value
    return response


def _stream(answer: Streaming) -> QuartResponse:
    if request.method == "HEAD":
        # Without entering the body: a stream takes a place among the followers.
        return QuartResponse("", content_type=answer.content_type)
    response = QuartResponse(
        _StreamBody(answer.body),
        200,
        content_type=answer.content_type,
        # Proxies on the way neither keep the stream nor wait for more of it; the second header is nginx's.
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )
    # With Quart's own time-out the stream would end after a minute.
    response.timeout = None
    return response


class _StreamBody(ResponseBody):
    """A body of ours as Quart sends it."""

    def __init__(self, body: Body) -> None:
        self._body = body

    async def __aenter__(self) -> Body:
        return await self._body.__aenter__()

    async def __aexit__(self, *caught: object) -> None:
        await self._body.__aexit__(*caught)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._body)
