"""Files of web pages over HTTP, out of the packages that bring them, each with headers that let a page do little.

Invariant: a page can ask nobody but the address that it came from. Called by whoever adds pages to an app.
"""

from __future__ import annotations

from hashlib import blake2b
from importlib.resources import files

from quart import Response as QuartResponse
from quart import request
from quart_trio import QuartTrio

HTML = "text/html; charset=utf-8"
CSS = "text/css; charset=utf-8"
JAVASCRIPT = "text/javascript; charset=utf-8"
SVG = "image/svg+xml"

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # by which `origin` knows our own pages in a browser without Fetch Metadata
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-cache",  # asked for again each time, and then mostly answered with 304
}


def add_file(app: QuartTrio, path: str, package: str, name: str, content_type: str) -> None:
    """Serve a file of a package at ``path``; it is read now, once."""
    content = read(package, name)

    async def show() -> QuartResponse:
        return serve(content, content_type)

    app.add_url_rule(path, f"file {path}", show, methods=["GET"])


def read(package: str, name: str) -> bytes:
    """The content of a file that a package brings."""
    return files(package).joinpath(name).read_bytes()


def serve(content: bytes, content_type: str, headers: dict[str, str] = HEADERS) -> QuartResponse:
    """The content, or 304 where the client has it."""
    etag = f'"{blake2b(content, digest_size=12).hexdigest()}"'
    headers = headers | {"ETag": etag}
    if request.headers.get("If-None-Match") == etag:
        return QuartResponse("", 304, headers=headers)
    return QuartResponse(content, 200, content_type=content_type, headers=headers)
