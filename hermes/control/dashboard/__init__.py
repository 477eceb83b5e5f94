"""The dashboard: one page of plain HTML, CSS and JavaScript, which shows what ``/live`` and ``/dead-letters`` tell.

Invariant: it holds no data, so that it can be had without a key, for which it then asks. Added to the admin app.
"""

from __future__ import annotations

from quart_trio import QuartTrio

from hermes.control.files import CSS, HTML, JAVASCRIPT, SVG, add_file

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


def add_dashboard(app: QuartTrio) -> None:
    """Add the page and its parts to the app."""
    for path, (name, content_type) in PAGES.items():
        add_file(app, path, __name__, name, content_type)
