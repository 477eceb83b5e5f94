"""Makes the app that both addresses start from: request ids, problem details, requests in flight.

Invariant: every answer carries a request id and is observed, and every error is problem details. The app of each
address adds its own routes.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import structlog
from quart import Response as QuartResponse
from quart import g, has_request_context, request
from quart.routing import QuartRule
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from hermes.base.errors import is_shortage
from hermes.base.quoting import clean
from hermes.base.spelling import close_words
from hermes.net.control.guard import guard
from hermes.net.control.reply import read_past_body, to_quart
from hermes.net.http.head import too_large
from hermes.net.http.refusal_log import RefusalLog
from hermes.net.http.response import ECHOED, Response, problem
from hermes.observe.throttled_log import ThrottledLog

_log = structlog.get_logger("hermes.http")
# A suggested path is at most this many letters longer or shorter than the path of the request.
_SLIPS = 2
_REQUEST_ID = re.compile(r"[!-~]{1,128}")

_VARIABLE = re.compile(r"<[^<>]*?(\w+)>")  # of a path in werkzeug's notation


@dataclass(frozen=True)
class Frame:
    """The functions that are told about the requests of an app, and the largest body in bytes.

    ``observe(route, status, seconds)`` is called after each request, ``track`` with 1 when a request begins and with -1
    when it ends. ``refusals`` logs requests that were answered with 4xx or 5xx, and ``trouble`` our own failures.
    """

    observe: Callable[[str, int, float], None]
    track: Callable[[int], None]
    request_id: Callable[[], bytes]
    max_body_bytes: int
    refusals: RefusalLog = field(default_factory=RefusalLog)
    trouble: ThrottledLog = field(default_factory=lambda: ThrottledLog("hermes.net.http"))


class _Rule(QuartRule):
    """A rule that matches paths. Werkzeug would also compile code that builds paths, in half the time of a start."""

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:  # noqa: ARG002
        return _build_nothing


def _build_nothing(rule: QuartRule, **_values: Any) -> tuple[str, str]:
    raise NotImplementedError(f"{rule}: no path is built of a rule")


class _App(QuartTrio):
    """Quart with our log lines about errors."""

    url_rule_class = _Rule  # type: ignore[assignment]

    def __init__(self, trouble: ThrottledLog) -> None:
        # With a folder, by default `static`, Quart would add a route that no endpoint declares.
        super().__init__("hermes", static_folder=None)
        self._trouble = trouble

    # Quart would write lines without limit, in a form of its own.
    def log_exception(self, exception_info: Any) -> None:
        route = _route()
        self._trouble.report_bug("a request failed", exception_info[1], method=request.method, route=route)


def make_frame(frame: Frame) -> QuartTrio:
    """An app without routes."""
    app = _App(frame.trouble)
    # Quart's own bound of 16 MB would refuse what MAX_BODY_BYTES allows.
    app.config["MAX_CONTENT_LENGTH"] = frame.max_body_bytes
    app.json.sort_keys = False  # type: ignore[attr-defined]

    @app.before_request
    async def begin() -> QuartResponse | None:
        # A client's id goes into the log and into an answer's header, so only printable characters without a space
        # pass.
        given = request.headers.get("X-Request-Id", "")
        g.request_id = given if _REQUEST_ID.fullmatch(given) else frame.request_id().decode()
        g.began = time.perf_counter()
        # Hypercorn answers each request in a task of its own, so the binding ends with the request.
        structlog.contextvars.bind_contextvars(request_id=g.request_id)
        if "Transfer-Encoding" in request.headers and "Content-Length" in request.headers:
            # What follows may be a request that somebody before us has taken for a part of this one (RFC 9112 §6.1).
            detail = "the request is malformed: it has both a Content-Length and a Transfer-Encoding"
            return to_quart(problem(400, detail, {"Connection": "close"}))
        return None

    @app.after_request
    async def finish(response: QuartResponse) -> QuartResponse:
        # The exception's traceback has the request: a reference cycle.
        request.routing_exception = None
        response.headers["X-Request-Id"] = g.request_id
        # An answer before the end of the body: the rest of the body would be read as the next request.
        if not await read_past_body():
            response.headers["Connection"] = "close"
        route = _route()
        seconds = time.perf_counter() - g.began
        frame.observe(route, response.status_code, seconds)
        told: Response | None = g.get("told")
        # An error that no answer of ours made: nothing but its status is known.
        if told is None and response.status_code >= 400:
            told = Response(response.status_code)
        if told is not None and (told.rejected or told.status >= 400):
            frame.refusals.tell(route, told, g.request_id.encode("latin-1"), _client)
        _log.debug(
            "request",
            method=request.method,
            path=request.path,
            route=route,
            status=response.status_code,
            seconds=round(seconds, 6),
            client=_client(),
        )
        return response

    @app.errorhandler(HTTPException)
    async def explain(error: HTTPException) -> QuartResponse:
        # Werkzeug's description does not name the limit.
        if error.code == 413:
            return to_quart(too_large(frame.max_body_bytes))
        # The other headers are about Werkzeug's page in HTML, which problem details replace.
        headers = {name: value for name, value in error.get_headers() if name in {"Allow", "Location"}}
        # werkzeug gives the methods in any order.
        if "Allow" in headers:
            headers["Allow"] = ", ".join(sorted(headers["Allow"].split(", ")))
        # A WebSocket's request has no such context.
        if error.code in {404, 405} and has_request_context():
            # A rule with parameters is a text such as `/jobs/<int:number>`, which no client could mean.
            known = {str(rule) for rule in app.url_map.iter_rules() if not rule.arguments}
            words = _explain_path(request.method, request.path, known, headers.get("Allow", ""))
        else:
            words = error.description or ""
        return to_quart(problem(error.code or 500, words, headers))

    # A lack of descriptors is no bug: the client may try again.
    @app.errorhandler(OSError)
    @app.errorhandler(RuntimeError)
    async def wait_for_the_machine(error: Exception) -> QuartResponse:
        if not is_shortage(error):
            # Quart then treats the error as any bug: a 500, and a line with the traceback.
            raise error
        frame.trouble.warn("the machine lacks something that a request needs", error=str(error))
        return to_quart(problem(503, f"the machine lacks something: {error}", {"Retry-After": "1"}))

    app.asgi_app = guard(app.asgi_app, frame.track, frame.observe, frame.request_id)  # type: ignore[method-assign]
    return app


def _route() -> str:
    """The path of the request's route as documents write it: ``/dead-letters/{number}``."""
    # One label for all requests without a route: a label for each path would let clients fill the metrics.
    return _VARIABLE.sub(r"{\1}", str(request.url_rule)) if request.url_rule is not None else "unmatched"


def _explain_path(method: str, path: str, known: Collection[str], allowed: str) -> str:
    """Say what to do about a path that does not exist here, or that takes the ``allowed`` methods and not this one."""
    if allowed:
        # HEAD and OPTIONS are answered everywhere, so to name them would help nobody.
        takes = [each for each in allowed.split(", ") if each not in {"HEAD", "OPTIONS"}]
        return f"this path does not take {clean(method, ECHOED)}: send {' or '.join(takes) or allowed}"
    # A comparison takes time with both lengths, and any path of two letters is two slips from `/`.
    close = close_words(path, [other for other in known if abs(len(other) - len(path)) <= _SLIPS < len(other)])
    meant = f"did you mean {' or '.join(close)}? " if close else ""
    return f"there is no such path here: {meant}see / or /openapi.json for the paths of this address"


def _client() -> str:
    # A socket that takes IPv4 and IPv6 alike shows an IPv4 client so.
    return (request.remote_addr or "").removeprefix("::ffff:")
