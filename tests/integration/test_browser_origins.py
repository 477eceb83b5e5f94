"""A page of another origin sends events, in a real browser, by each way that a page has."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page

from tests.integration.program import Program

PATIENCE = 20.0  # seconds

EVENT = "JSON.stringify({id: kind, user_id: 'u', type: kind, timestamp: 1700000000, payload: {}})"
WAYS = {
    "fetch_json": (
        f"fetch(url + '/events', {{method: 'POST', body: {EVENT}, headers: {{'Content-Type': 'application/json'}}}})"
    ),
    "fetch_credentials": (
        f"fetch(url + '/events', {{method: 'POST', body: {EVENT}, credentials: 'include', keepalive: true,"
        " headers: {'Content-Type': 'application/json', 'X-API-Key': 'any', 'X-Request-Id': 'mine'}})"
    ),
    "fetch_string": f"fetch(url + '/events', {{method: 'POST', body: {EVENT}, credentials: 'include'}})",
    "fetch_cloudevent": (
        "fetch(url + '/events', {method: 'POST', body: '{}', credentials: 'include', headers: {"
        "'Content-Type': 'application/json', 'ce-specversion': '1.0', 'ce-id': kind, 'ce-source': '/page',"
        " 'ce-type': kind, 'ce-anything': 'x'}})"
    ),
    "xhr_credentials": (
        "new Promise((done, fail) => { const request = new XMLHttpRequest(); request.open('POST', url + '/events');"
        " request.withCredentials = true; request.setRequestHeader('Content-Type', 'application/json');"
        f" request.onload = done; request.onerror = fail; request.send({EVENT}) }})"
    ),
    "beacon_string": f"navigator.sendBeacon(url + '/events', {EVENT})",
    "beacon_blob": f"navigator.sendBeacon(url + '/events', new Blob([{EVENT}]))",
    "beacon_json": f"navigator.sendBeacon(url + '/events', new Blob([{EVENT}], {{type: 'application/json'}}))",
    "beacon_segment": (
        "navigator.sendBeacon(url + '/v1/t', JSON.stringify({userId: 'u', event: kind, messageId: kind}))"
    ),
}  # fmt: skip
"""JavaScript that sends an event whose type is ``kind`` to ``url``."""


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        pass


@contextmanager
def serve_page(folder: Path) -> Iterator[str]:
    """An empty page at an origin of its own, which is returned."""
    folder.mkdir(exist_ok=True)
    (folder / "index.html").write_text("<!doctype html><title>shop</title>")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve_page(tmp_path_factory.mktemp("named")) as origin:
        yield origin


@pytest.fixture
def service(tmp_path: Path, named: str) -> Iterator[Program]:
    program = Program(tmp_path, SINKS="null", EVENT_TYPES="*", CORS_ORIGINS=named)
    yield program
    program.kill()


def received(service: Program) -> set[str]:
    """The types of the events that have come in."""
    text = httpx.get(f"{service.url}/metrics").text
    return set(re.findall(r'^hermes_events_received_total{type="(\w+)"} [1-9]', text, re.M))


def send(page: Page, service: Program, kind: str) -> None:
    page.evaluate(f"async ([url, kind]) => {{ await {WAYS[kind]} }}", [service.url, kind])


def test_a_page_of_a_named_origin_sends_by_each_way(browser: Browser, service: Program, named: str) -> None:
    page = browser.new_context().new_page()
    page.goto(named)
    for kind in WAYS:
        send(page, service, kind)  # a refusal of the browser is an error of `fetch`
    end = time.monotonic() + PATIENCE
    while (missing := set(WAYS) - received(service)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not missing
    settings = "async url => (await (await fetch(url, {headers: {Authorization: 'Basic azo='}})).json()).source.enabled"
    assert page.evaluate(settings, f"{service.url}/sourceConfig/?p=npm")  # what RudderStack's browser file asks first
    page.context.close()


def test_a_page_of_another_origin_does_not_get_a_request_through_that_needs_permission(
    browser: Browser, service: Program, tmp_path: Path
) -> None:
    page = browser.new_context().new_page()
    with serve_page(tmp_path / "other") as other:
        page.goto(other)
        for kind in ("fetch_json", "fetch_credentials", "fetch_cloudevent"):
            with pytest.raises(Exception, match="Failed to fetch"):
                send(page, service, kind)
        page.context.close()
    assert not received(service)
