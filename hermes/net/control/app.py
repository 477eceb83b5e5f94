"""The Quart-Trio app of an address, built from its endpoints.

Invariant: a data route answers here (HTTP/2, odd spellings of the path) as in the fast lane, for both lanes
call the same functions. This module names no path: the edges give it their endpoints.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quart import Response as QuartResponse
from quart import g, request
from quart_trio import QuartTrio

from hermes.net.control.data_routes import serve_data_route
from hermes.net.control.endpoint import Endpoint, Handler
from hermes.net.control.frame import Frame, make_frame
from hermes.net.control.reply import from_quart, join_headers, to_quart, with_lines
from hermes.net.http.head import Head, Route
from hermes.net.http.keys import Keys, refuse_key
from hermes.net.http.lane import BodyBudget
from hermes.net.http.response import Response

_SLASHES = re.compile("/{2,}")
_PARAMETER = re.compile(r"\{(\w+)(?::(\w+))?\}")


def _pass(_path: str, _headers: Mapping[str, str]) -> Response | None:
    return None


@dataclass(frozen=True)
class Site:
    """The endpoints of an address and their guards. ``judge(path, headers)`` answers a request that must not pass.

    Endpoints whose ``key`` is ``before`` require one of ``keys``. ``body_budget`` bounds the bodies of data routes that
    are read here. ::

        app = make_app(Site(frame, endpoints, budget, keys))
    """

    frame: Frame
    endpoints: Sequence[Endpoint]
    body_budget: BodyBudget
    keys: Keys
    judge: Callable[[str, Mapping[str, str]], Response | None] = _pass


def make_app(site: Site) -> QuartTrio:
    """The ASGI app of an address."""
    app = make_frame(site.frame)
    asked = {endpoint.path for endpoint in site.endpoints if endpoint.method == "OPTIONS"}
    # These paths stand in the settings of other programs, typed by people, and come with slashes too many.
    typed_by_hand = {endpoint.path for endpoint in site.endpoints if endpoint.lane == "fast"} | asked

    @app.before_request
    async def judge() -> QuartResponse | None:
        # For every path, also one that does not exist: a stranger does not learn which paths there are.
        refusal = site.judge(request.path, join_headers())
        return None if refusal is None else to_quart(refusal)

    for endpoint in site.endpoints:
        handler = endpoint.handler
        if isinstance(handler, Route):
            _add_data_route(app, endpoint, handler, site)
            methods = [each.method for each in site.endpoints if each.lane == "fast" and each.path == endpoint.path]
            # One preflight for all methods of a path, unless an endpoint of the path answers OPTIONS itself.
            if endpoint.path not in asked and endpoint.method == methods[0]:
                _add_preflight(app, handler, methods)
        else:
            _add(app, endpoint, _answer_by(handler, site.keys if endpoint.key == "before" else None), asked)
    app.asgi_app = _tidy_paths(app.asgi_app, typed_by_hand)  # type: ignore[method-assign]
    return app


def _answer_by(handler: Handler, keys: Keys | None) -> Callable[..., Any]:
    async def answer(**parameters: Any) -> QuartResponse:
        asked = from_quart(parameters)
        # Before the handler, which may read the body: a client without a key must not make the service read.
        if keys is not None and not keys.admit(asked.headers):
            return to_quart(refuse_key(asked.headers))
        return to_quart(await handler(asked))

    return answer


def _add(app: QuartTrio, endpoint: Endpoint, view: Callable[..., Any], asked: Collection[str]) -> None:
    # Quart answers OPTIONS by itself, but where an endpoint does; and there a slash at the end makes no difference.
    own = endpoint.path in asked
    app.add_url_rule(
        _PARAMETER.sub(_to_rule, endpoint.path),
        f"{endpoint.method} {endpoint.path}",
        view,
        methods=[endpoint.method],
        provide_automatic_options=False if own else None,
    )


def _to_rule(found: re.Match[str]) -> str:
    """A parameter of a path in werkzeug's notation."""
    name, kind = found.groups()
    return f"<{kind}:{name}>" if kind else f"<{name}>"


def _add_data_route(app: QuartTrio, endpoint: Endpoint, route: Route, site: Site) -> None:
    async def serve(**parameters: Any) -> QuartResponse:
        head = Head(request.method, request.path, join_headers())
        # Werkzeug makes a number of an `int` parameter. In the fast lane every parameter is text.
        head.parameters = {name: str(value) for name, value in parameters.items()}
        # As the fast lane has it: the bytes of the query, one character each.
        head.query = request.query_string.decode("latin-1")
        head.request_id = g.request_id.encode("latin-1")
        response = await serve_data_route(from_quart({}), head, route, site.body_budget)
        return with_lines(to_quart(response), route.response_lines(head))

    _add(app, endpoint, serve, {endpoint.path})


def _add_preflight(app: QuartTrio, route: Route, methods: Sequence[str]) -> None:
    async def preflight(**_parameters: Any) -> QuartResponse:
        response = to_quart(Response(204, headers={"Allow": ", ".join([*methods, "OPTIONS"])}))
        return with_lines(response, route.response_lines(Head("OPTIONS", route.name, join_headers())))

    _add(app, Endpoint("OPTIONS", route.name, route), preflight, {route.name})


def _tidy_paths(asgi_app: Any, names: Collection[str]) -> Any:
    """Return the app, which then finds these paths even with slashes too many."""

    async def tidied(scope: Any, receive: Any, send: Any) -> None:
        # Configured by hand, an address is often joined of two parts, `http://host:8080/` and `/events`, or ends in a
        # slash.
        if scope["type"] == "http" and (path := _SLASHES.sub("/", scope["path"]).rstrip("/")) in names:
            scope = {**scope, "path": path, "raw_path": path.encode()}
        await asgi_app(scope, receive, send)

    return tidied
