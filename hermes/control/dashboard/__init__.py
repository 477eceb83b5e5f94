"""The dashboard: one page of plain HTML, CSS and JavaScript, which shows what ``/live`` and ``/dead-letters`` tell.

Invariants: the page asks nobody but the address that it came from (its policy forbids the rest); it holds no data, so
that it can be had without a key, for which it then asks. The files are in this package, read once. Added to the admin
app.
"""

from __future__ import annotations

from hashlib import blake2b
from importlib.resources import files

from quart import Response as QuartResponse
from quart import request
from quart_trio import QuartTrio

PAGES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/app.css": ("app.css", "text/css; charset=utf-8"),
    "/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/chart.js": ("chart.js", "text/javascript; charset=utf-8"),
    "/dead_letters.js": ("dead_letters.js", "text/javascript; charset=utf-8"),
    "/dom.js": ("dom.js", "text/javascript; charset=utf-8"),
    "/feed.js": ("feed.js", "text/javascript; charset=utf-8"),
    "/format.js": ("format.js", "text/javascript; charset=utf-8"),
    "/sinks.js": ("sinks.js", "text/javascript; charset=utf-8"),
    "/favicon.svg": ("favicon.svg", "image/svg+xml"),
}
"""The file and the content type of each path."""

_HEADERS = {
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


def add_dashboard(app: QuartTrio) -> None:
    """Add the page and its parts to the app."""
    for path, (name, content_type) in PAGES.items():
        _add_file(app, path, files(__name__).joinpath(name).read_bytes(), content_type)


def _add_file(app: QuartTrio, path: str, content: bytes, content_type: str) -> None:
    etag = f'"{blake2b(content, digest_size=12).hexdigest()}"'
    headers = _HEADERS | {"ETag": etag}

    async def show() -> QuartResponse:
        if request.headers.get("If-None-Match") == etag:
            return QuartResponse("", 304, headers=headers)
        return QuartResponse(content, 200, content_type=content_type, headers=headers)

    app.add_url_rule(path, f"dashboard {path}", show, methods=["GET"])
