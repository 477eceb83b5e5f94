"""The routes of the document and of the page that shows it, with the page's parts. The same for either app.

Invariants: the page asks nobody but the address that it came from, for its policy forbids the rest; the document is
made when it is first asked for, and once. Added to the app of each address.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from importlib.resources import files

import trio
from quart import Response as QuartResponse
from quart import request
from quart_trio import QuartTrio

from hermes.control import dashboard

_JAVASCRIPT = "text/javascript; charset=utf-8"
_CSS = "text/css; charset=utf-8"

HTML = "text/html; charset=utf-8"
DOCUMENT = "/openapi.json"
PAGE = "/docs"

ASSETS = {
    "/docs/base.css": (dashboard.__name__, "app.css", _CSS),  # the dashboard's, so that both look alike
    "/docs/dom.js": (dashboard.__name__, "dom.js", _JAVASCRIPT),
    "/docs/favicon.svg": (dashboard.__name__, "favicon.svg", "image/svg+xml"),
    "/docs/docs.css": (__package__, "page/docs.css", _CSS),
    "/docs/docs.js": (__package__, "page/docs.js", _JAVASCRIPT),
    "/docs/copy.js": (__package__, "page/copy.js", _JAVASCRIPT),
    "/docs/curl.js": (__package__, "page/curl.js", _JAVASCRIPT),
    "/docs/prose.js": (__package__, "page/prose.js", _JAVASCRIPT),
    "/docs/schema.js": (__package__, "page/schema.js", _JAVASCRIPT),
}
"""The package, the file and the content type of each part of the page."""

OPEN_PATHS = frozenset({DOCUMENT, PAGE, *ASSETS})
"""What needs no key: it tells what can be asked, and no answer."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-cache",  # asked for again each time, and then mostly answered with 304
}


def add_docs(app: QuartTrio, describe: Callable[[], bytes]) -> None:
    """Add the document that ``describe`` gives, as JSON, and its page to the app."""
    made: list[bytes] = []

    @app.get(DOCUMENT)
    async def document() -> QuartResponse:
        if not made:
            made.append(await trio.to_thread.run_sync(describe))  # it imports and reads sources for a while
        return serve(made[0], "application/json")

    _add_file(app, PAGE, read(__package__, "page/docs.html"), HTML)
    for path, (package, name, content_type) in ASSETS.items():
        _add_file(app, path, read(package, name), content_type)


def read(package: str | None, name: str) -> bytes:
    """The content of a file that the package brings."""
    return files(package or __name__).joinpath(name).read_bytes()


def serve(content: bytes, content_type: str, headers: dict[str, str] = HEADERS) -> QuartResponse:
    """The content, or 304 where the client has it."""
    etag = f'"{blake2b(content, digest_size=12).hexdigest()}"'
    headers = headers | {"ETag": etag}
    if request.headers.get("If-None-Match") == etag:
        return QuartResponse("", 304, headers=headers)
    return QuartResponse(content, 200, content_type=content_type, headers=headers)


def _add_file(app: QuartTrio, path: str, content: bytes, content_type: str) -> None:
    async def show() -> QuartResponse:
        return serve(content, content_type)

    app.add_url_rule(path, f"docs {path}", show, methods=["GET"])
