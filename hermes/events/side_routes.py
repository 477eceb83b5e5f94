"""The endpoints beside the data routes: pixels with a message, RudderStack's settings, and CloudEvents' handshake.

Invariant: the message of a pixel goes the same way as a posted message, through the same route, key and room.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from hermes.events.protocols.mapping import from_base64
from hermes.events.protocols.post_events import PATH as EVENTS
from hermes.events.protocols.segment import KINDS
from hermes.events.protocols.segment_answers import SOURCE_CONFIG
from hermes.events.protocols.webhook_handshake import agree_to_webhook
from hermes.net.control.data_routes import answer_body
from hermes.net.control.endpoint import Answer, Endpoint, Request
from hermes.net.http.head import Head, Route, too_large
from hermes.net.http.response import ECHOED, Response, problem

# For type checkers alone: the types of OpenAPI are loaded with the first document.
if TYPE_CHECKING:
    from hermes.net.control.openapi.operation import Operation

PIXEL = "/v1/pixel/{kind}"
QUERY_PIXEL = "/pixel/v1/{kind}"
"""RudderStack's pixel: each parameter of the query is a member of the message."""

SETTINGS = "/sourceConfig"

GIF = b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
"""One transparent pixel."""

# Headers of a GET that would describe its body: the message comes from the address.
_OF_A_BODY = frozenset({"content-type", "content-encoding", "content-length", "transfer-encoding"})

# Levels of a parameter's name, each an object inside of another.
# An address has room for thousands of dots, and to encode so many levels raises `RecursionError`.
_MOST_LEVELS = 32


def endpoints_beside(routes: Mapping[str, Route]) -> tuple[Endpoint, ...]:
    """The endpoints; ``routes`` are the data routes by their paths."""
    singles = {kind: routes[f"/v1/{kind}"] for kind in KINDS}
    track = singles["track"]

    async def pixel(request: Request) -> Answer:
        # A plus that was not escaped has become a space.
        data = request.query.get("data", [""])[0].replace(" ", "+")
        # Data that is no base64 becomes an empty body: the route has the error for that, in Segment's form.
        return await take(request, from_base64(data) or b"")

    async def query_pixel(request: Request) -> Answer:
        return await take(request, msgspec.json.encode(nest({n: values[0] for n, values in request.query.items()})))

    async def take(request: Request, body: bytes) -> Answer:
        kind: str = request.parameters["kind"]
        route = singles.get(kind.removesuffix(".gif"))
        if route is None:
            return problem(404, f"no message is a {kind[:ECHOED]!r}: expected one of {', '.join(KINDS)}")
        head = Head("POST", route.name, {n: value for n, value in request.headers.items() if n not in _OF_A_BODY})
        head.request_id = request.id
        # The head first, as in both lanes: a wrong key gets 401, whatever the size of the message.
        response = route.judge(head)
        if response is None:
            # A lane counts a body while the body arrives. This one came in the address, and no lane has counted its
            # bytes.
            response = too_large(route.max_body_bytes) if len(body) > route.max_body_bytes else None
        if response is None:
            response = await answer_body(request, head, route, body)
        # A browser that keeps the pixel would send the next message nowhere.
        own = {"Cache-Control": "no-store", **_headers(route.response_lines(head))}
        if response.status == 200:
            # The log still hears of a message that was rejected: a mail cannot show the reason, so a pixel answers it.
            return Response(200, GIF, "image/gif", own).about(response.rejected)
        headers = {**response.headers, **own}
        return Response(response.status, response.body, response.content_type, headers, detail=response.detail)

    # RudderStack's libraries want their source's settings before they send the first event.
    async def settings(request: Request) -> Answer:
        # The browser library asks from a page of another origin: the lines of a data route have the headers of CORS.
        return Response(200, SOURCE_CONFIG, headers=_lines_of(track, request))

    async def ask_settings(request: Request) -> Answer:
        # The browser library sends its key here as Authorization, which browsers ask about beforehand.
        return Response(204, headers={"Allow": "GET, HEAD, OPTIONS", **_lines_of(track, request)})

    async def ask_events(request: Request) -> Answer:
        lines = _lines_of(routes[EVENTS], request)
        # CloudEvents' handshake and a browser's preflight come by the same method, to the same path.
        if sender := request.headers.get("webhook-request-origin"):
            return Response(200, headers={**agree_to_webhook(sender), **lines})
        return Response(204, headers={"Allow": "POST, OPTIONS", **lines})

    return (
        # Without a key: a browser sends no credentials with a preflight request (Fetch standard).
        Endpoint("OPTIONS", EVENTS, ask_events),
        Endpoint("GET", PIXEL, pixel, _describe_pixel, key="handler"),
        Endpoint("GET", QUERY_PIXEL, query_pixel, _describe_query_pixel, key="handler"),
        # Without a key: the answer is the same for everybody, and holds no secret.
        Endpoint("GET", SETTINGS, settings, _describe_settings),
        Endpoint("OPTIONS", SETTINGS, ask_settings),
    )


def nest(parameters: Mapping[str, str]) -> dict[str, Any]:
    """The message that a query writes with dots. If a name is given as text and as an object, the later one counts.

    >>> nest({"event": "played", "properties.of": "may"})
    {'event': 'played', 'properties': {'of': 'may'}}
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


def _lines_of(route: Route, request: Request) -> dict[str, str]:
    return _headers(route.response_lines(Head(request.method, request.path, request.headers)))


def _headers(lines: bytes) -> dict[str, str]:
    """Ready header lines, each begun by a line break, as headers."""
    pairs = [line.partition(": ") for line in lines.decode("latin-1").split("\r\n")[1:]]
    return {name: value for name, _, value in pairs}


def _describe_pixel() -> Iterable[Operation]:
    # Here, as in the next two functions: the types are imported when a document is first asked for.
    from hermes.events.protocols.openapi.segment import declare_pixel

    yield declare_pixel()


def _describe_query_pixel() -> Iterable[Operation]:
    from hermes.events.protocols.openapi.segment import declare_query_pixel

    yield declare_query_pixel()


def _describe_settings() -> Iterable[Operation]:
    from hermes.events.protocols.openapi.segment import declare_settings

    yield declare_settings()
