"""The files of the dashboard: where they are, what they allow a browser to do, and that they belong together."""

from __future__ import annotations

import re
from importlib.resources import files
from os.path import normpath
from pathlib import PurePosixPath

import pytest

from hermes.net.control import dashboard
from hermes.net.control.dashboard import ASSETS, render_page
from hermes.net.control.files import JAVASCRIPT
from hermes.net.control.panel import Panel
from hermes.net.http.keys import Keys
from tests.net.control.kit import PANELS, admin_app


def markup(script: str) -> str:
    """The HTML of a panel, as it stands in its module."""
    (html,) = re.findall(r"markup`\n(.*?)`;", script, re.DOTALL)
    return str(html)


PAGE = render_page(PANELS).decode()
PARTS = {path: (dashboard.__name__, name, kind) for path, (name, kind) in ASSETS.items()} | {
    panel.path: (panel.package, panel.file, JAVASCRIPT) for panel in PANELS
}
TEXTS = {path: files(package).joinpath(name).read_text() for path, (package, name, _kind) in PARTS.items()}
SCRIPTS = {path: text for path, text in TEXTS.items() if path.endswith(".js")}
HTML_OF_PANELS = {panel.id: markup(TEXTS[panel.path]) for panel in PANELS}


@pytest.mark.parametrize("path", PARTS)
async def test_every_part_is_served_without_a_key_under_a_strict_policy(path: str) -> None:
    client = admin_app(keys=Keys(["secret"])).test_client()
    answer = await client.get(path)
    _package, _name, kind = PARTS[path]
    assert (answer.status_code, answer.content_type) == (200, kind)
    assert await answer.get_data(as_text=True) == TEXTS[path]
    policy = dict(rule.split(" ", 1) for rule in answer.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == policy["form-action"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_what_the_browser_has_already_is_not_sent_again() -> None:
    client = admin_app().test_client()
    etag = (await client.get("/app.js")).headers["ETag"]
    again = await client.get("/app.js", headers={"If-None-Match": etag})
    assert (again.status_code, await again.get_data()) == (304, b"")


async def test_the_data_wants_a_key() -> None:
    client = admin_app(keys=Keys(["secret"])).test_client()
    assert (await client.get("/docs")).status_code == 200
    for path in ("/status", "/live", "/tap", "/dead-letters"):
        assert (await client.get(path)).status_code == 401


def test_the_parts_name_each_other_and_nobody_else() -> None:
    named = set(re.findall(r'(?:href|src|data-module)="(/[^"#]*)"', PAGE))
    for path, text in SCRIPTS.items():
        folder = PurePosixPath(path).parent
        named |= {normpath(folder / other) for other in re.findall(r'from "(\.[^"]+)"', text)}
    assert named - {"/status", "/docs"} == set(PARTS)
    for name, text in {**TEXTS, "page": PAGE}.items():
        foreign = set(re.findall(r"https?://[^\s\"'`]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not foreign, name


def test_what_the_service_tells_is_never_markup() -> None:
    for name, text in SCRIPTS.items():
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text), name
    for html in (PAGE, *HTML_OF_PANELS.values()):
        assert not re.search(r"\son\w+=|<script(?! type=\"module\" src)|\sstyle=|javascript:|\$\{", html)


def test_every_id_that_a_script_looks_for_is_in_the_page() -> None:
    ids = [each for html in (PAGE, *HTML_OF_PANELS.values()) for each in re.findall(r'\bid="([^"]+)"', html)]
    assert len(ids) == len(set(ids))
    wanted = {name for text in SCRIPTS.values() for name in re.findall(r'find\("([^"]+)"\)', text)}
    assert wanted <= set(ids)
    links = set(re.findall(r'href="#([^"]+)"', PAGE))
    labels = {f"{panel.id}-title" for panel in PANELS}
    assert links | labels <= set(ids)


def test_the_page_has_a_link_and_a_section_for_each_panel_in_the_order_of_the_list() -> None:
    added = Panel("jobs", "Jobs & more", "package", "panel.js")
    page = render_page((*PANELS, added)).decode()
    order = [panel.id for panel in (*PANELS, added)]
    assert re.findall(r'<li><a href="#([^"]+)">', page) == order
    assert re.findall(r'<section id="([^"]+)"', page) == order
    assert "Jobs &amp; more" in page
    assert 'data-module="/panels/jobs.js"' in page
