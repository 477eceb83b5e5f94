"""The dashboard: one page of plain HTML, CSS and JavaScript, which shows what ``/live`` and ``/dead-letters`` tell.

Invariant: it holds no data, so that it can be had without a key, for which it then asks. Added to the admin app.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from hermes.control.endpoint import Endpoint
from hermes.control.files import CSS, HTML, JAVASCRIPT, SVG, file_endpoint
from hermes.control.openapi.operation import HTML_TYPE, STATUS, UNCHANGED, Answer, Content, Operation

PAGES = {
    "/": ("index.html", HTML),
    "/app.css": ("app.css", CSS),
    "/app.js": ("app.js", JAVASCRIPT),
    "/chart.js": ("chart.js", JAVASCRIPT),
    "/dead_letters.js": ("dead_letters.js", JAVASCRIPT),
    "/dom.js": ("dom.js", JAVASCRIPT),
    "/feed.js": ("feed.js", JAVASCRIPT),
    "/format.js": ("format.js", JAVASCRIPT),
    "/rejections.js": ("rejections.js", JAVASCRIPT),
    "/sinks.js": ("sinks.js", JAVASCRIPT),
    "/favicon.svg": ("favicon.svg", SVG),
}
"""The file and the content type of each path."""


def dashboard_endpoints() -> tuple[Endpoint, ...]:
    """The page and its parts."""
    page, *parts = [file_endpoint(path, __name__, name, kind, "ADMIN_ADDR") for path, (name, kind) in PAGES.items()]
    return replace(page, describe=_describe), *parts


def _describe() -> Iterable[Operation]:
    shown = Answer(200, "The page.", (Content(HTML_TYPE, str),))
    yield Operation(STATUS, "Show the dashboard", answers=(shown, UNCHANGED))
