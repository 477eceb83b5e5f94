"""A real browser for tests of pages: Debian's Chromium, driven by Playwright.

Where it cannot be had the test is skipped, and says so; under CI=true that is a failure. Playwright's plain interface
has an event loop of its own, so such tests are plain functions, beside a service that runs in a process.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from tests.needs import lacks

ARGUMENTS = (
    "--no-sandbox",  # CI runs as root, where Chromium's own does not work; only pages of ours are opened
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_WAIT_MILLISECONDS = 10_000.0


@contextmanager
def open_browser() -> Iterator[Browser]:
    """A browser that is there for a whole module of tests."""
    executable = shutil.which("chromium")
    if executable is None:
        lacks("no chromium is installed: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(ARGUMENTS))
        yield browser
        browser.close()


class Watched:
    """A page of its own, and all that went wrong in it: errors of scripts, of the console and of the policy.

    ``foreign`` are the requests to any other place than ``url``.
    """

    def __init__(self, browser: Browser, url: str, **context: object) -> None:
        self.errors: list[str] = []
        self.foreign: list[str] = []
        self.page: Page = browser.new_context(**context).new_page()  # type: ignore[arg-type]
        self.page.set_default_timeout(_WAIT_MILLISECONDS)
        self._url = url
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._look)

    def open(self, state: str = "live") -> Page:
        """Go to the dashboard and wait until it is in this state."""
        self.page.goto(f"{self._url}/")
        self.page.wait_for_selector(f"#pulse[data-state={state}]")
        return self.page

    def close(self) -> None:
        self.page.context.close()

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.errors.append(message.text)

    def _look(self, request: Request) -> None:
        if not request.url.startswith((f"{self._url}/", "data:")):
            self.foreign.append(request.url)
