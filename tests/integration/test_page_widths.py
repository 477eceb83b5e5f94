"""Every value that a client or an operator chooses, at its longest, on every page: nothing is wider than the page.

On phones, on a desktop and in print. With SCREENSHOTS set to a folder, each page is photographed there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.integration.browser import Watched
from tests.integration.moody import Mood
from tests.integration.program import Program
from tests.integration.test_dashboard import make_event, refused

TYPE = "t" * 64
OTHER_TYPE = "W" * 64
ID = "i" * 256
USER = "U" * 256
REASON = "r" * 400
TITLE = "w" * 500
REQUEST_ID = "q" * 128
SINK = "s" * 63
HOST = "h" * 60 + "." + "h" * 60 + ".localhost"
# Paper comes last: a page that was laid out for it stays so.
WIDTHS = {"320": 320, "360": 360, "narrowest table": 961, "desktop": 1280, "print": 794}

TOO_WIDE = """() => {
  const page = document.documentElement;
  const scrolls = (element) => {
    for (let each = element; each; each = each.parentElement) {
      if (/auto|scroll|hidden|clip/.test(getComputedStyle(each).overflowX) && each !== page && each !== document.body)
        return true;
    }
    return false;
  };
  const wide = [...document.querySelectorAll("body *")].filter((element) => {
    const box = element.getBoundingClientRect();
    return box.width && (box.right > page.clientWidth + 1 || box.left < -1) && !scrolls(element);
  });
  const over = page.scrollWidth - page.clientWidth;
  return { over, wide: wide.slice(0, 5).map((e) => `${e.tagName} ${e.id} ${e.className.baseVal ?? e.className}`) };
}"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A service that has shown everything once: dead letters, rejected events, a sink that is down."""
    folder = tmp_path_factory.mktemp("widths")
    mood = Mood(folder, SINK)
    program = Program(
        folder,
        **mood.environ,
        EVENT_TYPES=f"{TYPE},{OTHER_TYPE}",
        **{f"SINK_{SINK.upper()}_BREAKER_OPEN": "45s"},
    )
    bad = refused(ID, REASON, title=TITLE) | {"user_id": USER, "type": TYPE}
    unlisted = make_event("rejected", type="u" * 256)
    found = [bad, make_event("b", type=OTHER_TYPE), unlisted]
    httpx.post(f"{program.url}/events", json=found, headers={"Hermes-Ack": "delivered", "X-Request-Id": REQUEST_ID})
    mood.go_down("d" * 500)
    httpx.post(f"{program.url}/events", json=[make_event("late", type=TYPE)]).raise_for_status()
    yield program
    program.kill()


def assert_fits(page: Page, name: str, width: str) -> None:
    if width == "print":
        page.emulate_media(media="print")
    if "SCREENSHOTS" in os.environ:
        page.screenshot(
            path=Path(os.environ["SCREENSHOTS"]) / f"{name}-{width}.png", full_page=not name.startswith("docs")
        )
    assert page.evaluate(TOO_WIDE) == {"over": 0, "wide": []}


def open_page(browser: Browser, url: str, width: str) -> Watched:
    return Watched(browser, url, viewport={"width": WIDTHS[width], "height": 780})


@pytest.mark.parametrize("width", WIDTHS)
def test_the_dashboard(browser: Browser, program: Program, width: str) -> None:
    watched = open_page(browser, program.admin_url, width)
    page = watched.open()
    expect(page.locator("#letters .reason")).to_have_text(REASON)
    page.get_by_role("button", name="Payload").click()
    expect(page.locator("#letters pre")).to_contain_text(TITLE)
    page.get_by_text("The same as a table").click()
    expect(page.locator(".note")).to_contain_text("ddd")
    expect(page.locator("#rejections-table .reason")).to_contain_text("not in EVENT_TYPES")
    assert_fits(page, "dashboard", width)
    if width == "print":
        watched.close()
        return
    page.get_by_label("Select dead letter").check()
    page.get_by_role("button", name="Purge selected…").click()
    assert_fits(page, "dialog", width)
    watched.close()


def assert_fits_at_every_width(page: Page, name: str) -> None:
    """A page without a script of its own: the browser lays it out anew, as if it were opened so."""
    for width in WIDTHS:
        page.set_viewport_size({"width": WIDTHS[width], "height": 780})
        assert_fits(page, name, width)


@pytest.mark.parametrize("address", ["events", "admin"])
def test_the_pages_of_the_documents(browser: Browser, program: Program, address: str) -> None:
    url = program.admin_url if address == "admin" else program.url
    watched = open_page(browser, url, "320")
    watched.page.goto(f"{url}/docs")
    expect(watched.page.locator("body")).to_contain_text("/health")
    watched.page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert_fits_at_every_width(watched.page, f"docs-{address}")
    watched.close()


def test_the_landing_page(browser: Browser, program: Program) -> None:
    watched = open_page(browser, program.url, "320")
    watched.page.goto(program.url.replace("127.0.0.1", HOST))
    expect(watched.page.locator("body")).to_contain_text(HOST)
    expect(watched.page.locator("body")).to_contain_text(TYPE)
    assert_fits_at_every_width(watched.page, "landing")
    watched.close()
