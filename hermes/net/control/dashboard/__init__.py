"""The dashboard: a shell of plain HTML, CSS and JavaScript, and a panel for each section.

Invariant: the page holds no data, so the page is served without a key; the page itself then asks for a key. The shell
names no panel: sections and links are made from the list that `dashboard_endpoints` gets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from string import Template

from hermes.net.control.endpoint import Endpoint, Request
from hermes.net.control.files import CSS, HTML, JAVASCRIPT, SVG, file_endpoint, read, serve
from hermes.net.control.openapi.operation import HTML_TYPE, STATUS, UNCHANGED, Answer, Content, Operation
from hermes.net.control.panel import Panel
from hermes.net.http.response import Response

ASSETS = {
    "/app.css": ("app.css", CSS),
    "/app.js": ("app.js", JAVASCRIPT),
    "/dom.js": ("dom.js", JAVASCRIPT),
    "/feed.js": ("feed.js", JAVASCRIPT),
    "/format.js": ("format.js", JAVASCRIPT),
    "/favicon.svg": ("favicon.svg", SVG),
}
"""The file and the content type of each part of the shell."""

SERVICE_PANEL = Panel("service", "Service", __name__, "service.js")

_LINK = Template('          <li><a href="#$id">$title <span class="count" id="nav-$id" hidden></span></a></li>\n')
_SECTION = Template('      <section id="$id" aria-labelledby="$id-title" data-module="$path"></section>\n')


def dashboard_endpoints(panels: Sequence[Panel]) -> tuple[Endpoint, ...]:
    """The page, the parts of its shell, and the module of each panel. Panels are shown in their order."""
    # Once: the panels do not change while the service runs.
    page = render_page(panels)

    async def show(request: Request) -> Response:
        return serve(request, page, HTML)

    return (
        Endpoint("GET", "/", show, _describe, "ADMIN_ADDR"),
        *(file_endpoint(path, __name__, name, kind, "ADMIN_ADDR") for path, (name, kind) in ASSETS.items()),
        *(file_endpoint(each.path, each.package, each.file, JAVASCRIPT, "ADMIN_ADDR") for each in panels),
    )


def render_page(panels: Sequence[Panel]) -> bytes:
    """The HTML of the page, with a link and an empty section for each panel.

    >>> b'href="#service"' in render_page([SERVICE_PANEL])
    True
    """
    # Escaped, because a part of another distribution may bring the panel.
    words = [{"id": escape(each.id), "title": escape(each.title), "path": escape(each.path)} for each in panels]
    shell = Template(read(__name__, "index.html").decode())
    links = "".join(_LINK.substitute(each) for each in words)
    return shell.substitute(links=links, sections="".join(_SECTION.substitute(each) for each in words)).encode()


def _describe() -> Iterable[Operation]:
    shown = Answer(200, "The page.", (Content(HTML_TYPE, str),))
    yield Operation(STATUS, "Show the dashboard", answers=(shown, UNCHANGED))
