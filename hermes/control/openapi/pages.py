"""The routes of the document and of the page that shows it, with the page's parts. The same for either app.

Invariant: the document is made when it is first asked for, and once. Added to the app of each address.
"""

from __future__ import annotations

from collections.abc import Callable

import trio
from quart import Response as QuartResponse
from quart_trio import QuartTrio

from hermes.control import dashboard
from hermes.control.files import CSS, HTML, JAVASCRIPT, SVG, add_file, serve

_HERE = "hermes.control.openapi"

DOCUMENT = "/openapi.json"
PAGE = "/docs"

ASSETS = {
    "/docs/base.css": (dashboard.__name__, "app.css", CSS),  # the dashboard's, so that both look alike
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

OPEN_PATHS = frozenset({DOCUMENT, PAGE, *ASSETS})
"""What needs no key: it tells what can be asked, and no answer."""


def add_docs(app: QuartTrio, describe: Callable[[], bytes]) -> None:
    """Add the document that ``describe`` gives, as JSON, and its page to the app."""
    made: list[bytes] = []

    @app.get(DOCUMENT)
    async def document() -> QuartResponse:
        if not made:
            made.append(await trio.to_thread.run_sync(describe))  # it imports and reads sources for a while
        return serve(made[0], "application/json")

    add_file(app, PAGE, _HERE, "page/docs.html", HTML)
    for path, (package, name, content_type) in ASSETS.items():
        add_file(app, path, package, name, content_type)
