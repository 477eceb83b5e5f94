"""The files of the dashboard: where they are, what they allow a browser to do, and that they belong together."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from hermes.control import dashboard
from hermes.control.dashboard import PAGES
from hermes.http.keys import Keys
from tests.control.kit import admin_app

TEXTS = {name: files(dashboard).joinpath(name).read_text() for name, _ in PAGES.values()}
SCRIPTS = {name: text for name, text in TEXTS.items() if name.endswith(".js")}


@pytest.mark.parametrize("path", PAGES)
async def test_every_part_is_served_without_a_key_under_a_strict_policy(path: str) -> None:
    client = admin_app(keys=Keys(["secret"])).test_client()
    answer = await client.get(path)
    name, kind = PAGES[path]
    assert (answer.status_code, answer.content_type) == (200, kind)
    assert await answer.get_data(as_text=True) == TEXTS[name]
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
    named = set(re.findall(r'(?:href|src)="(/[^"#]*)"', TEXTS["index.html"]))
    for text in SCRIPTS.values():
        named |= {path.removeprefix(".") for path in re.findall(r'from "(\./[^"]+)"', text)}
    assert named - {"/status", "/docs"} == set(PAGES) - {"/"}
    for name, text in TEXTS.items():
        foreign = set(re.findall(r"https?://[^\s\"'`]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not foreign, name


def test_what_the_service_tells_is_never_markup() -> None:
    for name, text in SCRIPTS.items():
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text), name
    assert not re.search(r"\son\w+=|<script(?! type=\"module\" src)|\sstyle=|javascript:", TEXTS["index.html"])


def test_every_id_that_a_script_looks_for_is_in_the_page() -> None:
    ids = re.findall(r'\bid="([^"]+)"', TEXTS["index.html"])
    assert len(ids) == len(set(ids))
    wanted = {name for text in SCRIPTS.values() for name in re.findall(r'find\("([^"]+)"\)', text)}
    assert wanted <= set(ids)
    links = set(re.findall(r'href="#([^"]+)"', TEXTS["index.html"]))
    assert links <= set(ids)


def luminance(colour: str) -> float:
    """The relative luminance of WCAG 2.2."""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_every_word_and_every_mark_stands_out(dark: bool) -> None:
    light_rules, dark_rules = re.findall(r":root \{(.*?)\}", TEXTS["app.css"], re.S)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", light_rules))
    if dark:
        colours |= dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", dark_rules))
    for ground in ("paper", "surface"):
        for words in ("ink", "muted", "accent", "good", "warn", "bad"):
            assert contrast(colours[words], colours[ground]) >= 4.5, (words, ground)
        for mark in ("edge", "other", *(f"c{n}" for n in range(10))):
            assert contrast(colours[mark], colours[ground]) >= 3, (mark, ground)
    assert contrast(colours["on-solid"], colours["bad"]) >= 4.5
    assert contrast(colours["paper"], colours["accent"]) >= 4.5
