"""The broker's panel of the dashboard, in a real browser."""

from __future__ import annotations

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.integration.broker.daemon import free_port
from tests.integration.browser import Watched
from tests.integration.program import Start

LONGEST = "t" * 256


@pytest.mark.parametrize("width", [1200, 360])
def test_topics_are_looked_at_groups_paused_and_messages_stored(browser: Browser, start: Start, width: int) -> None:
    program = start(PARTS="broker", HERMESMQ_CLIENT_ADDR=f"127.0.0.1:{free_port()}")
    topic = f"{program.url}/topics/orders"
    httpx.post(f"{topic}/messages", json=[{"payload": {"n": n}} for n in range(3)])
    httpx.post(f"{program.url}/topics/{LONGEST}/messages", json={"text": "<b>x</b>"})
    httpx.post(f"{topic}/groups/billing/poll", json={"max": 3})
    watched = Watched(browser, program.admin_url, viewport={"width": width, "height": 800})
    page = watched.page
    page.goto(program.admin_url)
    expect(page.locator("#broker-total")).to_have_text("2 topics")
    page.get_by_role("row").filter(has_text="orders").get_by_role("button", name="Show").click()
    group = page.locator("#broker-groups tbody tr")
    expect(group).to_contain_text("3 are leased to 127.0.0.1")
    group.get_by_role("button", name="Pause").click()
    expect(group).to_contain_text("The group billing is paused")
    shown = httpx.get(f"{program.admin_url}/topics/orders/groups/billing").json()
    assert shown["group"]["paused"] is True
    for message, lines in (('{"n": "new"}', 4), ("<script>alert(1)</script>", 5)):
        page.get_by_label("Message").fill(message)
        page.get_by_role("button", name="Store").click()
        expect(page.get_by_label("Message")).to_have_value("")
        page.get_by_role("button", name="Look at the oldest").click()
        expect(page.locator("#broker-peeked")).to_contain_text(f"{lines - 1}  ")
    expect(page.locator("#broker-peeked")).to_contain_text("4  <script>alert(1)</script>")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    watched.close()
    assert (watched.errors, watched.foreign) == ([], [])
