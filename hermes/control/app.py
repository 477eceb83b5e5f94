"""The control lane's routes of the address where events come in, as a Quart-Trio app.

Invariant: a data route answers here (HTTP/2, odd spellings of the path) as it does in the fast lane, for both call the
same functions. The edge lends what is shown.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import trio
from quart import Response as QuartResponse
from quart import g, request
from quart_trio import QuartTrio

from hermes.config import Address
from hermes.control.answering import WHEN_CLIENT_ENDS
from hermes.control.files import HTML, serve
from hermes.control.frame import Frame, make_frame
from hermes.control.openapi.landing import render_landing
from hermes.control.openapi.pages import PAGE, add_docs
from hermes.control.origin import refuse_foreign
from hermes.control.reply import join_headers, keep_connection, to_quart
from hermes.control.segment import add_segment
from hermes.control.webhook import agree_to_webhook
from hermes.http.head import Head, Route, too_large
from hermes.http.lane import BodyBudget
from hermes.http.pending import Pending
from hermes.http.response import Response, crowded, problem
from hermes.protocols.events import PATH as EVENTS

_SLASHES = re.compile("/{2,}")

DebugAnswer = Callable[[str, Mapping[str, str]], Awaitable[tuple[int, str, bytes, Mapping[str, str]]]]


@dataclass(frozen=True)
class Views:
    """What the control lane shows, each a callable of whoever owns it. ``ready`` says why not, if so.

    ``routes`` are the data routes, for what does not come through the fast lane; ``keyed`` says that they want a key,
    ``event_types`` which events they take, and ``any_times`` that times are read in any form. ``admin`` is where
    operators are answered, for the page of this address to lead there. ``debug`` and ``accounting`` None: debugging
    answers 404.
    """

    version: str
    frame: Frame
    ready: Callable[[], str | None]
    aggregates: Callable[[], Mapping[str, int]]
    metrics: Callable[[str], tuple[bytes, str]]
    routes: Sequence[Route]
    body_budget: BodyBudget
    event_types: Sequence[str]
    any_times: bool = False
    keyed: bool = False
    admin: Address | None = None
    debug: DebugAnswer | None = None
    accounting: Callable[[], Mapping[str, object]] | None = None


def make_app(views: Views) -> QuartTrio:
    """The ASGI app over these views."""
    app = make_frame(views.frame)

    @app.get("/")
    async def index() -> QuartResponse | dict[str, Any]:
        if request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html":
            response = serve(_render_landing(views), HTML)
            response.vary.update(["Accept", "Host"])
            return response
        rules = {str(rule) for rule in app.url_map.iter_rules()}
        paths = sorted(rule for rule in rules if "<" not in rule and not rule.startswith(f"{PAGE}/"))
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

    @app.before_request
    async def judge_debugging() -> QuartResponse | None:
        refusal = refuse_foreign(join_headers(), page=False) if request.path.startswith("/debug/") else None
        return None if refusal is None else to_quart(refusal)

    for route in views.routes:
        _add_data_route(app, route, views.body_budget)
    add_segment(app, {route.name: route for route in views.routes}, _handle, _with_lines)
    app.asgi_app = _tidy_paths(app.asgi_app, {route.name for route in views.routes})  # type: ignore[method-assign]
    if views.accounting is not None:
        add_accounting(app, views.accounting)
    if views.debug is not None:
        add_debug(app, views.debug)
    add_docs(app, lambda: _describe(app, views))
    return app


def _describe(app: QuartTrio, views: Views) -> bytes:
    from hermes.control.openapi.addresses import describe_ingest

    return describe_ingest(app, views.version, views.event_types, keyed=views.keyed, any_times=views.any_times)


def _render_landing(views: Views) -> bytes:
    origin = f"{request.scheme}://{request.host}"
    return render_landing(origin, request.remote_addr, views.version, views.event_types, views.admin, keyed=views.keyed)


def add_accounting(app: QuartTrio, show: Callable[[], Mapping[str, object]]) -> None:
    """Add the books to an app."""

    @app.get("/debug/accounting")
    async def accounting() -> Mapping[str, object]:
        return dict(show())


def add_debug(app: QuartTrio, answer: DebugAnswer) -> None:
    """Add the profiles to an app."""

    @app.get("/debug/pprof/", defaults={"name": ""})
    @app.get("/debug/pprof/<path:name>")
    async def debug(name: str) -> QuartResponse:
        status, content_type, body, headers = await answer(f"/debug/pprof/{name}", request.args)
        return QuartResponse(body, status, content_type=content_type, headers=dict(headers))


def _add_data_route(app: QuartTrio, route: Route, budget: BodyBudget) -> None:
    @app.post(route.name, endpoint=f"POST {route.name}", provide_automatic_options=False)
    async def post() -> QuartResponse:
        head = Head(request.method, route.name, join_headers())
        head.query = request.query_string.decode("latin-1")
        head.request_id = g.request_id.encode("latin-1")
        refusal = route.check(head)
        response = refusal if refusal is not None else await _receive_and_handle(head, route, budget)
        return _with_lines(to_quart(response), route.response_lines(head))

    @app.route(route.name, methods=["OPTIONS"], endpoint=f"OPTIONS {route.name}", provide_automatic_options=False)
    async def preflight() -> QuartResponse:
        response = QuartResponse("", 204, headers={"Allow": "POST, OPTIONS"})
        if route.name == EVENTS and (sender := request.headers.get("WebHook-Request-Origin")):
            response = agree_to_webhook(sender)
        return _with_lines(response, route.response_lines(Head("OPTIONS", route.name, join_headers())))


def _tidy_paths(asgi_app: Any, names: Collection[str]) -> Any:
    """The same app, which finds a data route though its path has slashes too many.

    Configured by hand, an address is often joined of two parts, ``http://host:8080/`` and ``/events``, or ends in one.
    """

    async def tidied(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and (path := _SLASHES.sub("/", scope["path"]).rstrip("/")) in names:
            scope = {**scope, "path": path, "raw_path": path.encode()}
        await asgi_app(scope, receive, send)

    return tidied


async def _receive_and_handle(head: Head, route: Route, budget: BodyBudget) -> Response:
    """The body, within its bounds, and the route's answer to it."""
    room = budget if head.admit is None else budget.keyless
    parts: list[bytes] = []
    reserved = 0
    try:
        async for part in request.body:
            if not room.reserve(len(part)):
                return crowded()
            reserved += len(part)
            if reserved > route.max_body_bytes:
                return too_large(route.max_body_bytes)
            parts.append(part)
        keep_connection()
        result = route.handle(head, b"".join(parts))
    finally:
        # If the client leaves, Hypercorn keeps the error, and with it this frame, in a reference cycle, which the
        # collector finds long after: it is told to look seldom, for events are in no cycles.
        parts.clear()
        room.release(reserved)
    return result if isinstance(result, Response) else await _wait_for(result)


async def _handle(head: Head, route: Route, body: bytes) -> Response:
    result = route.handle(head, body)
    return result if isinstance(result, Response) else await _wait_for(result)


async def _wait_for(pending: Pending) -> Response:
    """The response to come. It is called off by a client that leaves, or sends no more, and by a drain."""
    arrived = trio.Event()
    pending.hear = lambda _pending, _response: arrived.set()
    state: Mapping[str, Any] = request.scope.get("state") or {}
    try:
        with state.get(WHEN_CLIENT_ENDS, nullcontext)(partial(_call_off, pending)):
            await arrived.wait()
    finally:
        _call_off(pending)
    assert pending.response is not None  # noqa: S101 - it has just been heard
    return pending.response


def _call_off(pending: Pending) -> None:
    call_off, pending.call_off = pending.call_off, None  # it holds the events, and an error may keep it: see above
    if pending.response is None and call_off is not None:
        call_off()


def _with_lines(response: QuartResponse, lines: bytes) -> QuartResponse:
    for line in lines.decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(": ")
        response.headers[name] = value
    return response
