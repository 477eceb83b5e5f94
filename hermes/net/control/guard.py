"""Counts the requests in flight, and refuses the requests that Quart cannot read.

Invariant: a request that reaches Quart has a path, a Host that IDNA can encode, and a query in ASCII.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from hermes.net.http.head import BAD_TARGET, is_target
from hermes.net.http.response import Response, problem

_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[\w.~!$&'()*+,;=%-]*)(?::\d{0,5})?", re.ASCII)  # RFC 9110 §7.2

_BAD_TARGET = problem(400, BAD_TARGET)
_BAD_HOST = problem(400, "the Host header is malformed: expected a name or an address, and a port if need be")
_BAD_QUERY = problem(400, "the query is malformed: write characters beyond ASCII as %XX")


def guard(
    app: Any,
    track: Callable[[int], None],
    observe: Callable[[str, int, float], None],
    request_id: Callable[[], bytes],
) -> Any:
    """The ASGI app behind the guard; the functions are those of a `Frame`.

    A request is in flight up to the last byte of its answer, or to the client's leaving.
    """

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        # ASGI's message at the start of a server, and no request.
        if scope["type"] == "lifespan":
            await app(scope, receive, send)
        # Judged here, because Quart routes before any function of ours runs: it answered 500, with a traceback in the
        # log for each such request.
        elif (refusal := find_fault(scope)) is None:
            track(1)
            try:
                await app({**scope, "path": path_of(scope)}, receive, send)
            finally:
                track(-1)
        elif scope["type"] == "websocket":
            # A protocol error (RFC 6455 §7.4.1).
            await send({"type": "websocket.close", "code": 1002})
        else:
            headers = [
                (b"content-type", refusal.content_type.encode()),
                (b"content-length", b"%d" % len(refusal.body)),
                (b"x-request-id", request_id()),
            ]
            # These requests never reach `Frame`'s functions, which count all others.
            observe("unmatched", refusal.status, 0.0)
            await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
            await send({"type": "http.response.body", "body": refusal.body})

    return guarded


def find_fault(scope: Any) -> Response | None:
    """The answer to a request that Quart could not read."""
    # The scope of a WebSocket has no method: its request is always a GET (RFC 6455 §4.1).
    if not is_target(scope.get("method", "GET"), scope["path"]):
        return _BAD_TARGET
    # HTTP/2 lets such bytes through.
    if not scope["query_string"].isascii():
        return _BAD_QUERY
    if not all(_is_host(value.decode("latin-1")) for name, value in scope["headers"] if name.lower() == b"host"):
        return _BAD_HOST
    return None


def path_of(scope: Any) -> str:
    """The path of a valid target. CONNECT names a host and no path."""
    target: str = scope["path"]
    if target.startswith("/") or target == "*":
        return target
    # A server has to accept a whole URL as the target (RFC 9112 §3.2.2).
    return "/" if scope.get("method") == "CONNECT" else urlsplit(target).path or "/"


def _is_host(value: str) -> bool:
    if not _HOST.fullmatch(value):
        return False
    try:
        # Quart's routing does the same: a label is neither empty nor longer than 63 characters.
        value.partition(":")[0].encode("idna")
    except UnicodeError:
        return False
    return True
