"""The page of the API in a real browser: every operation is on it, its curl works as copied, and nothing foreign is."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.integration.browser import Watched
from tests.integration.program import Program

PHONE = {"width": 390, "height": 780}
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    program = Program(tmp_path_factory.mktemp("page"), SINKS="null", DURABILITY="memory", API_KEYS="YOUR_KEY")
    yield program
    program.kill()


@pytest.fixture
def look(browser: Browser) -> Iterator[Any]:
    """Open a page of an address; afterwards nothing may have gone wrong in it."""
    opened: list[Watched] = []

    def look(url: str, path: str, **context: Any) -> Page:
        opened.append(Watched(browser, url, **context))
        opened[-1].page.goto(f"{url}{path}")
        return opened[-1].page

    yield look
    for watched in opened:
        watched.close()
        assert watched.errors == []
        assert watched.foreign == []


def run(command: str) -> str:
    """What a person's shell prints who pastes the command."""
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=10, check=True).stdout


@pytest.mark.parametrize("address", ["url", "admin_url"])
def test_every_operation_is_on_the_page(program: Program, look: Any, address: str) -> None:
    url = getattr(program, address)
    page = look(url, "/docs")
    expect(page.locator("#intro")).to_be_visible()
    paths = httpx.get(f"{url}/openapi.json").json()["paths"]
    expected = [[method.upper(), path] for path, methods in paths.items() for method in methods]
    shown = page.locator(".operation h3 .route").all_inner_texts()
    assert sorted(text.split() for text in shown) == sorted(expected)


def test_each_curl_works_as_it_is_copied(program: Program, look: Any) -> None:
    page = look(program.url, "/docs", permissions=["clipboard-read", "clipboard-write"])
    operation = page.locator("#post_events")
    labels = operation.locator(".choice label")
    expect(labels).to_have_count(4)
    for place in range(4):
        labels.nth(place).click()
        operation.locator(".command .copy").click()
        expect(operation.locator(".command .copy")).to_have_text("Copied")
        command = page.evaluate("navigator.clipboard.readText()")
        assert re.match(r"HTTP/1.1 202 .*\{\"accepted\":[12]\}$", run(command), re.DOTALL), command


def test_answers_unfold_by_keyboard(program: Program, look: Any) -> None:
    page = look(program.admin_url, "/docs#get_dead_letters")
    answer = page.locator("#get_dead_letters .answer", has_text="A page of letters.")
    answer.locator("summary").first.focus()
    page.keyboard.press("Enter")
    expect(answer.get_by_text('"total": 1')).to_be_visible()
    expect(answer.locator(".members").first).to_contain_text("letters")
    expect(page.locator("#contents [aria-current]")).to_contain_text("/dead-letters")


@pytest.mark.parametrize("path", ["/docs", "/"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_fit_a_phone(program: Program, look: Any, path: str, scheme: str) -> None:
    page = look(program.url, path, viewport=PHONE, color_scheme=scheme)
    expect(page.locator("h1")).to_be_visible()
    assert page.evaluate(OVERFLOW) <= 0


def test_the_curl_of_the_first_page_works(program: Program, look: Any, tmp_path: Path) -> None:
    page = look(program.url, "/")
    assert "HTTP/1.1 202" in run(page.locator("pre").inner_text())
    page.get_by_role("link", name="The API").click()
    expect(page.locator("#intro")).to_be_visible()
