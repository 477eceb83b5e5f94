"""The endpoints of the OpenAPI document and of the page that shows it, on either address.

Invariant: the document is made at the first request, and only once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import trio

from hermes.net.control import dashboard
from hermes.net.control.endpoint import AddressName, Endpoint, Request
from hermes.net.control.files import CSS, HTML, JAVASCRIPT, SVG, file_endpoint, serve
from hermes.net.control.openapi.operation import HTML_TYPE, JSON, UNCHANGED, Answer, Content, Operation, Tag
from hermes.net.http.response import Response

_HERE = "hermes.net.control.openapi"

DOCUMENT = "/openapi.json"
PAGE = "/docs"

_TAG = Tag("Documentation", "This document, and the page that shows it.")

ASSETS = {
    # The dashboard's own file, so that both pages look alike.
    "/docs/base.css": (dashboard.__name__, "app.css", CSS),
    "/docs/dom.js": (dashboard.__name__, "dom.js", JAVASCRIPT),
    "/docs/favicon.svg": (dashboard.__name__, "favicon.svg", SVG),
    "/docs/docs.css": (_HERE, "page/docs.css", CSS),
    "/docs/docs.js": (_HERE, "page/docs.js", JAVASCRIPT),
    "/docs/copy.js": (_HERE, "page/copy.js", JAVASCRIPT),
    "/docs/curl.js": (_HERE, "page/curl.js", JAVASCRIPT),
    "/docs/prose.js": (_HERE, "page/prose.js", JAVASCRIPT),
    "/docs/schema.js": (_HERE, "page/schema.js", JAVASCRIPT),
}
"""The package, the file and the content type of each part of the page."""


def documented(
    address: AddressName, version: str, endpoints: Sequence[Endpoint], *, keyed: bool
) -> tuple[Endpoint, ...]:
    """The endpoints of an address, and the endpoints of its document and page. ``keyed``: the address has keys."""
    made: list[bytes] = []

    def make() -> bytes:
        # At the first request: the start must not wait for the import.
        from hermes.net.control.openapi.addresses import describe

        return describe(address, version, served, keyed=keyed)

    async def document(request: Request) -> Response:
        if not made:
            # On a thread: it imports modules and reads their sources, and the loop must not wait.
            made.append(await trio.to_thread.run_sync(make))
        # Two first readers at once both make the document. Both get the one that was ready first.
        return serve(request, made[0], "application/json")

    page = replace(file_endpoint(PAGE, _HERE, "page/docs.html", HTML, address), describe=_describe_page)
    assets = [file_endpoint(path, *asset, address) for path, asset in ASSETS.items()]
    # `make` reads this name when it is called: the document lists its own endpoint too.
    served = (*endpoints, Endpoint("GET", DOCUMENT, document, _describe_document, address), page, *assets)
    return served


def _describe_document() -> Iterable[Operation]:
    whole = Answer(200, "The document.", (Content(JSON, dict[str, Any]),))
    yield Operation(_TAG, "Describe this address in OpenAPI 3.1", answers=(whole, UNCHANGED))


def _describe_page() -> Iterable[Operation]:
    yield Operation(
        _TAG, "Show the document as a page", answers=(Answer(200, "The page.", (Content(HTML_TYPE, str),)), UNCHANGED)
    )
