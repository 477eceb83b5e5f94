"""What browsers and libraries of Segment and RudderStack ask for by GET: a pixel that is a message, and settings.

Invariant: a pixel's message goes the way of one that was posted, through the same route, key and room. Wired by the
app of the address where events come in.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from quart import Response as QuartResponse
from quart import g, request
from quart_trio import QuartTrio

from hermes.control.reply import join_headers, to_quart
from hermes.http.head import Head, Route, too_large
from hermes.http.ingest import ECHOED
from hermes.http.response import Response, problem
from hermes.protocols.mapping import from_base64
from hermes.protocols.segment import KINDS
from hermes.protocols.segment_answers import SOURCE_CONFIG

PIXEL = "/v1/pixel/<kind>"
QUERY_PIXEL = "/pixel/v1/<kind>"
"""RudderStack's pixel: each parameter of the query is a member of the message."""

SETTINGS = "/sourceConfig"

GIF = b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
"""One transparent pixel."""

_OF_A_BODY = frozenset({"content-type", "content-encoding", "content-length", "transfer-encoding"})

_MOST_LEVELS = 32  # of a parameter's name, which lie in one another as objects

Handle = Callable[[Head, Route, bytes], Awaitable[Response]]
WithLines = Callable[[QuartResponse, bytes], QuartResponse]


def add_segment(app: QuartTrio, routes: Mapping[str, Route], handle: Handle, with_lines: WithLines) -> None:
    """Add the routes. ``handle`` has a data route answer a body; ``with_lines`` adds its header lines."""
    singles = {kind: routes[f"/v1/{kind}"] for kind in KINDS}

    @app.get(PIXEL)
    async def pixel(kind: str) -> QuartResponse:
        # A plus that was not escaped has become a space.
        return await take(kind, from_base64(request.args.get("data", "").replace(" ", "+")) or b"")

    @app.get(QUERY_PIXEL)
    async def query_pixel(kind: str) -> QuartResponse:
        return await take(kind, msgspec.json.encode(nest(request.args.to_dict())))

    async def take(kind: str, body: bytes) -> QuartResponse:
        route = singles.get(kind.removesuffix(".gif"))
        if route is None:
            return to_quart(problem(404, f"no message is a {kind[:ECHOED]!r}: expected one of {', '.join(KINDS)}"))
        headers = {name: value for name, value in join_headers().items() if name not in _OF_A_BODY}
        head = Head("POST", route.name, headers)
        head.request_id = g.request_id.encode("latin-1")
        response = route.check(head)
        if response is None:
            response = too_large(route.max_body_bytes) if len(body) > route.max_body_bytes else None
        if response is None:
            response = await handle(head, route, body)
        answer = to_quart(response)
        if response.status == 200:
            answer = QuartResponse(GIF, 200, content_type="image/gif")
        answer.headers["Cache-Control"] = "no-store"
        return with_lines(answer, route.response_lines(head))

    @app.get(SETTINGS, strict_slashes=False, provide_automatic_options=False)
    async def settings() -> QuartResponse:
        lines = singles["track"].response_lines(Head("GET", SETTINGS, join_headers()))
        return with_lines(QuartResponse(SOURCE_CONFIG, 200, content_type="application/json"), lines)

    @app.route(SETTINGS, methods=["OPTIONS"], strict_slashes=False, provide_automatic_options=False)
    async def preflight() -> QuartResponse:
        # The browser library sends its key here as Authorization, which browsers ask about beforehand.
        lines = singles["track"].response_lines(Head("OPTIONS", SETTINGS, join_headers()))
        return with_lines(QuartResponse("", 204, headers={"Allow": "GET, HEAD, OPTIONS"}), lines)


def nest(parameters: Mapping[str, str]) -> dict[str, Any]:
    """The message that a query writes with dots: ``{"properties.of": "may"}`` is ``{"properties": {"of": "may"}}``.

    A name stands for one thing: where it is given as a text and as an object, the later one counts.
    """
    message: dict[str, Any] = {}
    for name, value in parameters.items():
        *path, last = name.split(".", _MOST_LEVELS - 1)
        place = message
        for step in path:
            inner = place.get(step)
            if not isinstance(inner, dict):
                inner = place[step] = {}
            place = inner
        place[last] = value
    return message
