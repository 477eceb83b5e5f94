"""The head of one request: parsed strictly by httptools, judged once, and remembered for the next equal head.

A client on a keep-alive connection sends the same head again and again, at most with another Content-Length. So the
parsed head is kept by its exact bytes, and a request whose head is known costs one dictionary lookup.

Invariant: a remembered head came through the whole strict path, has a length and nothing of its own (no request id, no
expectation, no refusal, no attributes of one event), and the memory is bounded. httptools stops here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from sys import getsizeof
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote, urlsplit

import httptools

from hermes.net.http.pending import Pending
from hermes.net.http.response import Response, problem
from hermes.observe.traced_request import TracedRequest

MAX_HEAD_BYTES = 64 * 2**10
MAX_REMEMBERED_BYTES = 8 * 2**20
"""The most memory of all remembered heads, with the objects that were made of them."""

# Bytes of one remembered head; a larger head is parsed each time. A connection keeps its last head too, so the bound is
# also one on the memory of a connection. A browser's head with a dozen headers takes 4 KiB.
_MOST_KEPT = 6 * 2**10

KEEP_ALIVE = b"\r\nconnection: keep-alive"
"""The last of a head's ``response_lines``, if the client asked for such a line."""

_REQUEST_LINE = re.compile(rb"[!-~]+ [!-~]+ HTTP/\d\.\d\r\n")
_REQUEST_ID = re.compile(rb"[!-~]{1,128}")


_NO_PARAMETERS: Mapping[str, str] = MappingProxyType({})
_PARAMETER = re.compile(r"\{(\w+)(?::(\w+))?\}")
# The kinds of a parameter. The control lane has the same names, so that a path means the same in both lanes.
_KINDS = {None: "[^/]+", "int": "[0-9]+", "path": ".+"}
# A request of these methods without a length has no body. With another method its length is missing.
_WITHOUT_BODY = frozenset({"GET", "DELETE"})


class BadHead(Exception):
    """The head breaks HTTP/1.1. ``response`` says how; the connection ends after this answer."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.response = problem(status, detail, close=True)


class Head:
    """A request's head. Header names are in lower case; the values of a repeated header are joined with commas.

    ``content_length`` is -1 without a length. ``route`` is None if the fast lane has no route for the request: then the
    connection is for the control lane. ``parameters`` are the values in the path, decoded. ``query`` is the part of the
    target after the question mark. ``refusal`` answers the request whatever its body says. ``response_lines`` go with
    every response.

    The route's ``check`` decides ``state``, which is the route's own; ``unique``: no other request has this head, so
    the lane does not remember the head; and ``keyless``: the client has shown no key yet, so its body takes room of the
    keyless clients' share. ``traced`` is set in the copy of a head that stands for one traced request.

    Attributes: 21, because each is one fact about a request, and the connection reads them for every request.
    """

    __slots__ = (
        "chunked",
        "coding",
        "content_length",
        "expect_continue",
        "handle",
        "headers",
        "keep_alive",
        "keyless",
        "media_type",
        "method",
        "parameters",
        "path",
        "query",
        "refusal",
        "request_id",
        "response_lines",
        "route",
        "route_name",
        "state",
        "traced",
        "unique",
    )

    def __init__(self, method: str, path: str, headers: Mapping[str, str], *, keep_alive: bool = True) -> None:
        self.method = method
        self.path = path
        self.parameters: Mapping[str, str] = _NO_PARAMETERS
        self.query = ""
        self.headers = headers
        self.keep_alive = keep_alive
        self.media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        self.coding = headers.get("content-encoding", "").strip().lower()
        self.state: Any = None
        self.unique = False
        self.keyless = False
        self.traced: TracedRequest | None = None
        self.content_length = -1
        self.chunked = False
        self.expect_continue = False
        self.request_id = b""
        self.response_lines = b""
        self.route: Route | None = None
        self.handle: Handler = _unrouted
        self.route_name = "unreadable"
        self.refusal: Response | None = None


class Route:
    """A data route: plain functions from a parsed request to a response.

    ``name`` is the path, which may have parameters: ``/jobs/{id}``, ``/toys/{number:int}``, ``/files/{name:path}``.
    ``check(head)`` decides by the head alone, and returns the response that refuses the request, or any other value,
    which `judge` keeps as ``head.state``. ``handle(head, body)`` returns the response, or a ticket. The body is in the
    client's own bytes: the transfer coding is undone, a content coding is not, so that a signature over the body
    can be verified. ``response_lines(head)`` is ready header lines for every response, each begun by a line break. ::

        def echo(head: Head, body: bytes) -> Response:
            return Response(200, body, head.media_type)

        route = Route("/echo/{name}", lambda head: None, echo, lambda head: b"", max_body_bytes=2**20)
    """

    __slots__ = ("check", "handle", "max_body_bytes", "name", "response_lines")

    def __init__(
        self,
        name: str,
        check: Callable[[Head], object],
        handle: Handler,
        response_lines: Callable[[Head], bytes],
        max_body_bytes: int,
    ) -> None:
        self.name = name
        self.check = check
        self.handle = handle
        self.response_lines = response_lines
        self.max_body_bytes = max_body_bytes

    def judge(self, head: Head) -> Response | None:
        """Return the response that refuses the request, or None, and keep the route's state in the head."""
        # The lane keeps the state, so that both lanes treat a route alike and no route writes into a shared head.
        judged = self.check(head)
        if isinstance(judged, Response):
            return judged
        head.state = judged
        return None


Handler = Callable[[Head, bytes], Response | Pending]


def _unrouted(head: Head, _body: bytes) -> Response | Pending:
    return problem(404, f"the fast lane has no {head.method} {head.path}")


BAD_TARGET = "the request target is malformed: expected a path that begins with /, or http://host/path"


def is_target(method: str, target: str) -> bool:
    """Whether a request target has one of the four forms of RFC 9112 §3.2."""
    if target.startswith("/") or target == "*":
        return True
    try:
        parts = urlsplit(f"//{target}" if method == "CONNECT" else target)
        # Read for its error only: urlsplit parses the port when it is asked for.
        _ = parts.port
    except ValueError:
        return False
    if method == "CONNECT":
        return bool(parts.hostname) and parts.netloc == target
    return bool(parts.hostname and parts.scheme)


def compile_path(path: str) -> re.Pattern[str]:
    """Return a pattern of a route's path, in which each parameter is a group of its name.

    >>> compile_path("/jobs/{id}").fullmatch("/jobs/17")["id"]
    '17'
    """
    pieces, end = [], 0
    for found in _PARAMETER.finditer(path):
        pieces += [re.escape(path[end : found.start()]), f"(?P<{found[1]}>{_KINDS[found[2]]})"]
        end = found.end()
    return re.compile("".join([*pieces, re.escape(path[end:])]))


class Heads:
    """Parses heads for a table of routes, ``(method, path)`` to route, and remembers them by their bytes.

    A path without parameters goes before one that has some; of these the first goes before the others.
    """

    def __init__(self, routes: Mapping[tuple[str, str], Route]) -> None:
        self._routes = routes
        self._patterns = [
            (method, compile_path(path), route) for (method, path), route in routes.items() if _PARAMETER.search(path)
        ]
        self._known: dict[bytes, Head] = {}
        self._kept = 0
        self.forgotten = 0
        """The number of times that `forget` was called. A head that was kept under a smaller number must be parsed
        again."""
        self.recall: Callable[[bytes], Head | None] = self._known.get

    def parse(self, data: bytes) -> Head:
        """Return the head in ``data``, which ends in an empty line. Raises `BadHead`."""
        head = self._parse(data)
        # Paths with parameters differ from request to request: to remember them would push out heads that come again.
        own = head.request_id or head.expect_continue or head.refusal or head.unique or head.parameters
        usual = not own and head.content_length >= 0
        if head.route is not None and usual and (kept := _kept_bytes(data, head)) <= _MOST_KEPT:
            self._kept += kept
            if self._kept > MAX_REMEMBERED_BYTES:
                # All at once: the heads that clients still send are back after one request each, and no list of the
                # oldest has to be kept up for each request.
                self._known.clear()
                self._kept = kept
            self._known[data] = head
        return head

    def forget(self) -> None:
        """Parse every head again from now on, because the keys that judged them have changed."""
        self.forgotten += 1
        self._known.clear()
        self._kept = 0

    def _parse(self, data: bytes) -> Head:
        if not _REQUEST_LINE.match(data):
            raise BadHead(400, "the request line is malformed: expected METHOD SP target SP HTTP/1.1 CR LF")
        collected = _Collector()
        parser = httptools.HttpRequestParser(collected)
        upgrade = False
        try:
            parser.feed_data(data)
        # No fault: httptools ends so at a whole head that asks for another protocol.
        except httptools.HttpParserUpgrade:
            upgrade = True
        except httptools.HttpParserError as error:
            raise BadHead(400, f"the request is malformed: {error}") from None
        headers = collected.headers
        target = collected.url.decode("latin-1")
        method = parser.get_method().decode("latin-1")
        if not is_target(method, target):
            raise BadHead(400, BAD_TARGET)
        # A target in absolute form matches no route, so it is left to the control lane.
        path, _, query = target.partition("?")
        head = Head(method, path, headers, keep_alive=parser.should_keep_alive())
        head.query = query
        # No data route upgrades a connection, and the preface of HTTP/2 has a version of its own: for the control lane.
        if upgrade or parser.should_upgrade() or parser.get_http_version() not in {"1.0", "1.1"}:
            return head
        route = self._routes.get((method, path)) or self._find(head)
        if route is None:
            return head
        # RFC 9112 §3.2: exactly one Host; a request of HTTP/1.0 may have none.
        if collected.hosts != 1 and (collected.hosts or parser.get_http_version() == "1.1"):
            raise BadHead(400, "the request is malformed: expected exactly one Host header")
        # Copied from the route: each request with this head reads them, and a look through the route would cost it
        # time.
        head.route = route
        head.route_name = route.name
        head.handle = route.handle
        head.response_lines = route.response_lines(head)
        if head.keep_alive and "connection" in headers:
            # A client of HTTP/1.0 that asked to keep the connection waits for this line.
            head.response_lines += KEEP_ALIVE
        self._read_framing(head, parser.get_http_version())
        head.refusal = route.judge(head) or self._check_framing(head)
        return head

    def _find(self, head: Head) -> Route | None:
        for method, pattern, route in self._patterns:
            if method == head.method and (found := pattern.fullmatch(head.path)) is not None:
                # Decoded after the match: an encoded slash belongs to the value, and not to the path.
                head.parameters = {name: unquote(value) for name, value in found.groupdict().items()}
                return route
        return None

    def _read_framing(self, head: Head, version: str) -> None:
        headers = head.headers
        if "transfer-encoding" in headers:
            # Any other coding, or one in HTTP/1.0, is read differently by a proxy, so a request could be smuggled.
            if version == "1.0" or headers["transfer-encoding"].strip().lower() != "chunked":
                raise BadHead(400, "the request is malformed: the only Transfer-Encoding taken is chunked, in HTTP/1.1")
            head.chunked = True
        elif "content-length" in headers:
            # httptools has refused a length that is no number, and a second length.
            head.content_length = int(headers["content-length"])
        elif head.method in _WITHOUT_BODY:
            head.content_length = 0
        # The client's own id, so that its log and ours name the request alike. Printable only, because the answer has
        # the id in a header.
        given = headers.get("x-request-id", "").encode("latin-1")
        if _REQUEST_ID.fullmatch(given):
            head.request_id = given
        # RFC 9110 §10.1.1: a client of HTTP/1.0 must not get a 100.
        head.expect_continue = version == "1.1" and headers.get("expect", "").lower() == "100-continue"

    @staticmethod
    def _check_framing(head: Head) -> Response | None:
        route = head.route
        assert route is not None  # noqa: S101 - only called with one
        if head.content_length < 0 and not head.chunked:
            # Without a length nobody can tell where the next request begins, so the connection ends.
            return problem(411, "the request needs a Content-Length, or Transfer-Encoding: chunked", close=True)
        # By the head: a client that waits for a 100 is refused before it sends a byte of the body.
        if head.content_length > route.max_body_bytes:
            return too_large(route.max_body_bytes)
        return None


def _kept_bytes(data: bytes, head: Head) -> int:
    """Return the memory of a remembered head: a short header costs ten times its own bytes."""
    headers = head.headers
    texts = sum([getsizeof(name) + getsizeof(value) for name, value in headers.items()])
    own = (
        getsizeof(head)
        + getsizeof(head.path)
        + getsizeof(head.query)
        + getsizeof(head.method)
        + getsizeof(head.media_type)
    )
    return getsizeof(data) + own + getsizeof(head.coding) + getsizeof(headers) + texts + len(head.response_lines)


def too_large(limit: int) -> Response:
    """Return a 413 that names the limit."""
    return problem(413, too_large_detail(limit), close=True)


def too_large_detail(limit: int) -> str:
    """Return the detail of a 413."""
    return f"the body is larger than MAX_BODY_BYTES, {limit} bytes: send fewer events a request"


class _Collector:
    """Gathers the parts of a head, which httptools passes to these methods."""

    def __init__(self) -> None:
        self.url = b""
        self.hosts = 0
        self.headers: dict[str, str] = {}

    # httptools may pass a long URL in several parts, so they are added up.
    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # latin-1 maps each byte to one character, so a header comes back unchanged when it is encoded again.
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        self.hosts += key == "host"
        self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text
