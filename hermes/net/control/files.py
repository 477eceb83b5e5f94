"""Serves the files of web pages from the packages that bring them, under headers that let a page do little.

Invariant: a page can send requests to no address but its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from importlib.resources import files

from hermes.net.control.endpoint import AddressName, Endpoint, Request
from hermes.net.http.response import Response

HTML = "text/html; charset=utf-8"
CSS = "text/css; charset=utf-8"
JAVASCRIPT = "text/javascript; charset=utf-8"
SVG = "image/svg+xml"

HEADERS = {
    # A page can send requests to no address but its own, and no other page can frame it.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    # A page of another origin that opens this one gets no handle on its window.
    "Cross-Origin-Opener-Policy": "same-origin",
    # No other site can embed a file, not even as an image or a script.
    "Cross-Origin-Resource-Policy": "same-origin",
    # `origin` recognizes our own pages by their Referer in a browser without Fetch Metadata.
    "Referrer-Policy": "same-origin",
    # A browser must not guess another type than the one that is sent.
    "X-Content-Type-Options": "nosniff",
    # Says to old browsers what frame-ancestors says to newer ones.
    "X-Frame-Options": "DENY",
    # The browser asks again each time, and mostly gets a 304.
    "Cache-Control": "no-cache",
}


def file_endpoint(path: str, package: str, name: str, content_type: str, address: AddressName) -> Endpoint:
    """Serve a file of a package at ``path``. The file is read when the endpoint is made, and once.

    >>> file_endpoint("/app.css", "hermes.net.control.dashboard", "app.css", CSS, "ADMIN_ADDR").path
    '/app.css'
    """
    content = read(package, name)

    async def show(request: Request) -> Response:
        return serve(request, content, content_type)

    return Endpoint("GET", path, show, address=address)


def read(package: str, name: str) -> bytes:
    """The content of a file that a package brings."""
    # By the package's name: a part of another distribution brings the files of its panel.
    return files(package).joinpath(name).read_bytes()


def serve(request: Request, content: bytes, content_type: str, headers: Mapping[str, str] = HEADERS) -> Response:
    """The content, or 304 if the client has the content already."""
    # Of the content alone, so that a browser's copy is still good after a restart.
    etag = f'"{blake2b(content, digest_size=12).hexdigest()}"'
    headers = {**headers, "ETag": etag}
    # A browser repeats the one tag that it got. A list or a weak tag costs a 200 and nothing more.
    if request.headers.get("if-none-match") == etag:
        return Response(304, b"", content_type, headers)
    return Response(200, content, content_type, headers)
