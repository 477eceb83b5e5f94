"""The routes of the control lane, as a Quart-Trio app. Quart stops here.

Invariant: every answer carries a request id, every error is problem details, and ``POST /events`` answers here (HTTP/2,
odd spellings of the path) as it does in the fast lane, for both call the same route. The app lends what is shown.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import trio
from quart import Response as QuartResponse
from quart import g, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from hermes.control.dead_letters import DeadLetterDesk, add_dead_letters
from hermes.control.reply import join_headers, to_quart
from hermes.http.head import BAD_TARGET, Head, Route, is_target, too_large
from hermes.http.lane import BodyBudget
from hermes.http.pending import Pending
from hermes.http.response import Response, problem

_REQUEST_ID = re.compile(r"[!-~]{1,128}")
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "POST",
    "Access-Control-Allow-Headers": "Authorization, Content-Encoding, Content-Type, X-API-Key, X-Request-Id",
    "Access-Control-Max-Age": "86400",
}

DebugAnswer = Callable[[str, Mapping[str, str]], Awaitable[tuple[int, str, bytes, Mapping[str, str]]]]


@dataclass(frozen=True)
class Views:
    """What the control lane shows, each a callable of whoever owns it. ``ready`` says why not, if so.

    ``debug`` and ``accounting`` None: debugging answers 404; ``dead_letters`` None: so do the dead letters.
    """

    version: str
    ready: Callable[[], str | None]
    aggregates: Callable[[], Mapping[str, int]]
    metrics: Callable[[str], tuple[bytes, str]]
    observe: Callable[[str, int, float], None]
    track: Callable[[int], None]
    request_id: Callable[[], bytes]
    ingest: Route
    body_budget: BodyBudget
    debug: DebugAnswer | None = None
    accounting: Callable[[], Mapping[str, object]] | None = None
    dead_letters: DeadLetterDesk | None = None


def make_app(views: Views) -> QuartTrio:
    """The ASGI app over these views."""
    app = QuartTrio("hermes", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = views.ingest.max_body_bytes
    app.json.sort_keys = False  # type: ignore[attr-defined]

    @app.before_request
    async def begin() -> QuartResponse | None:
        given = request.headers.get("X-Request-Id", "")
        g.request_id = given if _REQUEST_ID.fullmatch(given) else views.request_id().decode()
        g.began = time.perf_counter()
        if "Transfer-Encoding" in request.headers and "Content-Length" in request.headers:
            # What follows may be a request that somebody before us has taken for a part of this one (RFC 9112 §6.1).
            detail = "the request is malformed: it has both a Content-Length and a Transfer-Encoding"
            return to_quart(problem(400, detail, {"Connection": "close"}))
        return None

    @app.after_request
    async def finish(response: QuartResponse) -> QuartResponse:
        response.headers["X-Request-Id"] = g.request_id
        route = str(request.url_rule) if request.url_rule is not None else "unmatched"
        views.observe(route, response.status_code, time.perf_counter() - g.began)
        return response

    @app.errorhandler(HTTPException)
    async def explain(error: HTTPException) -> QuartResponse:
        if error.code == 413:
            return to_quart(too_large(views.ingest.max_body_bytes))
        headers = {name: value for name, value in error.get_headers() if name in {"Allow", "Location"}}
        return to_quart(problem(error.code or 500, error.description or "", headers))

    @app.get("/")
    async def index() -> dict[str, Any]:
        paths = sorted({str(rule) for rule in app.url_map.iter_rules() if "<" not in str(rule)})
        return {"service": "hermes", "version": views.version, "paths": paths}

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ready")
    async def ready() -> QuartResponse | dict[str, str]:
        why_not = views.ready()
        if why_not is None:
            return {"status": "ready"}
        return to_quart(problem(503, why_not, {"Retry-After": "1"}))

    @app.get("/aggregates")
    async def aggregates() -> Mapping[str, int]:
        return dict(views.aggregates())

    @app.get("/metrics")
    async def metrics() -> QuartResponse:
        body, content_type = views.metrics(request.headers.get("Accept", ""))
        return QuartResponse(body, content_type=content_type)

    _add_ingest(app, views)
    if (accounting := views.accounting) is not None:

        @app.get("/debug/accounting")
        async def show_accounts() -> Mapping[str, object]:
            return dict(accounting())

    if views.debug is not None:
        _add_debug(app, views.debug)
    if views.dead_letters is not None:
        add_dead_letters(app, views.dead_letters)
    app.asgi_app = _guard(app.asgi_app, views)  # type: ignore[method-assign]
    return app


def _guard(app: Any, views: Views) -> Any:
    """Count what is in flight, up to the last byte of its answer or the client's leaving, and refuse bad targets.

    At one, Quart would fail before it runs any function of ours.
    """
    refusal = problem(400, BAD_TARGET)

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await app(scope, receive, send)
        elif is_target(scope.get("method", "GET"), scope["path"]):
            views.track(1)
            try:
                await app(scope, receive, send)
            finally:
                views.track(-1)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1002})
        else:
            headers = [
                (b"content-type", refusal.content_type.encode()),
                (b"content-length", b"%d" % len(refusal.body)),
                (b"x-request-id", views.request_id()),
            ]
            views.observe("unmatched", refusal.status, 0.0)
            await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
            await send({"type": "http.response.body", "body": refusal.body})

    return guarded


def _add_ingest(app: QuartTrio, views: Views) -> None:
    route = views.ingest

    @app.post(route.name)
    async def events() -> QuartResponse:
        head = Head(request.method, request.path, join_headers())
        refusal = route.check(head)
        response = refusal if refusal is not None else await _receive_and_handle(head, views)
        return _with_lines(to_quart(response), route.response_lines(head))

    @app.route(route.name, methods=["OPTIONS"], provide_automatic_options=False)
    async def preflight() -> QuartResponse:
        response = QuartResponse("", 204, headers={"Allow": "POST, OPTIONS"})
        lines = route.response_lines(Head("OPTIONS", route.name, join_headers()))
        if b"access-control-allow-origin" in lines:
            response.headers.update(_PREFLIGHT)
        return _with_lines(response, lines)


def _add_debug(app: QuartTrio, answer: DebugAnswer) -> None:
    @app.get("/debug/pprof/", defaults={"name": ""})
    @app.get("/debug/pprof/<path:name>")
    async def debug(name: str) -> QuartResponse:
        status, content_type, body, headers = await answer(f"/debug/pprof/{name}", request.args)
        return QuartResponse(body, status, content_type=content_type, headers=dict(headers))


async def _receive_and_handle(head: Head, views: Views) -> Response:
    """The body, within its bounds, and the route's answer to it."""
    route, budget = views.ingest, views.body_budget
    parts: list[bytes] = []
    reserved = 0
    try:
        async for part in request.body:
            if not budget.reserve(len(part)):
                return problem(503, "too many large requests are arriving at once: send it again", {"Retry-After": "1"})
            reserved += len(part)
            if reserved > route.max_body_bytes:
                return too_large(route.max_body_bytes)
            parts.append(part)
    finally:
        budget.release(reserved)
    result = route.handle(head, b"".join(parts))
    return result if isinstance(result, Response) else await _wait_for(result)


async def _wait_for(pending: Pending) -> Response:
    """The response to come. It is called off by a client that leaves, who cancels us, and by a drain."""
    arrived = trio.Event()
    pending.hear = lambda _pending, _response: arrived.set()
    try:
        await arrived.wait()
    finally:
        if pending.response is None and pending.call_off is not None:
            pending.call_off()
    assert pending.response is not None  # noqa: S101 - it has just been heard
    return pending.response


def _with_lines(response: QuartResponse, lines: bytes) -> QuartResponse:
    for line in lines.decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(": ")
        response.headers[name] = value
    return response
