"""What browsers and libraries of Segment and RudderStack ask for by GET: a pixel that is a message, and settings.

Invariant: a pixel's message goes the way of one that was posted, through the same route, key and room. Wired by the
app of the address where events come in.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Awaitable, Callable, Mapping

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
SETTINGS = "/sourceConfig"

GIF = b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
"""One transparent pixel."""

_OF_A_BODY = frozenset({"content-type", "content-encoding", "content-length", "transfer-encoding"})

Handle = Callable[[Head, Route, bytes], Awaitable[Response]]
WithLines = Callable[[QuartResponse, bytes], QuartResponse]


def add_segment(app: QuartTrio, routes: Mapping[str, Route], handle: Handle, with_lines: WithLines) -> None:
    """Add the routes. ``handle`` has a data route answer a body; ``with_lines`` adds its header lines."""
    singles = {kind: routes[f"/v1/{kind}"] for kind in KINDS}

    @app.get(PIXEL)
    async def pixel(kind: str) -> QuartResponse:
        route = singles.get(kind.removesuffix(".gif"))
        if route is None:
            return to_quart(problem(404, f"no message is a {kind[:ECHOED]!r}: expected one of {', '.join(KINDS)}"))
        headers = {name: value for name, value in join_headers().items() if name not in _OF_A_BODY}
        head = Head("POST", route.name, headers)
        head.request_id = g.request_id.encode("latin-1")
        # A plus that was not escaped has become a space.
        body = from_base64(request.args.get("data", "").replace(" ", "+")) or b""
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
