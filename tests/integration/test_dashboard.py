"""The dashboard in a real browser, over a service in a process: what a person sees and does there.

With SCREENSHOTS set to a folder, the pictures of the documents are taken on the way.
"""

from __future__ import annotations

import math
import os
import random as randomness
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.integration.browser import Watched
from tests.integration.moody import Mood
from tests.integration.program import Program, Start, events

SCRIPT = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title = 'owned'\">"
DESKTOP = {"width": 1280, "height": 860}
PHONE = {"width": 390, "height": 780}

Open = Callable[..., Watched]


@pytest.fixture
def mood(tmp_path: Path) -> Mood:
    return Mood(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Program, Mood]]:
    folder = tmp_path_factory.mktemp("dashboard")
    mood = Mood(folder)
    program = Program(
        folder, **mood.environ, EVENT_TYPES="*", SINK_MOODY_BACKOFF="10ms", SINK_MOODY_BREAKER_OPEN="100ms"
    )
    yield program, mood
    program.kill()


@pytest.fixture
def service(shared: tuple[Program, Mood]) -> Program:
    """A service that other tests have used too. It has no dead letters, and its sink's mood is good."""
    program, mood = shared
    mood.reset()
    httpx.delete(f"{program.admin_url}/dead-letters?all=true").raise_for_status()
    return program


@pytest.fixture
def look(browser: Browser) -> Iterator[Open]:
    """Open the dashboard of a program; afterwards nothing may have gone wrong in it."""
    opened: list[Watched] = []

    def look(program: Program, **context: Any) -> Watched:
        opened.append(Watched(browser, program.admin_url, **context))
        return opened[-1]

    yield look
    for watched in opened:
        watched.close()
        assert watched.errors == []
        assert watched.foreign == []


def send(program: Program, *found: dict[str, Any]) -> None:
    answer = httpx.post(f"{program.url}/events", json=list(found), headers={"Hermes-Ack": "delivered"}, timeout=10)
    assert answer.status_code in {200, 202, 422}, answer.text


def make_event(name: str, **fields: Any) -> dict[str, Any]:
    plain = {"id": name, "user_id": "me", "type": "song_played", "timestamp": int(time.time()), "payload": {}}
    return plain | fields


def refused(name: str, reason: str = "22003: numeric field overflow", **payload: Any) -> dict[str, Any]:
    """An event that the sink refuses until it is mended."""
    return make_event(name, payload={"refuse": reason, **payload})


def letter(page: Page, event_id: str) -> Any:
    """The rows of the letter of this event."""
    return page.locator("#letters tbody").filter(has=page.locator(".id").get_by_text(event_id, exact=True))


def test_the_page_shows_an_event_within_two_seconds(service: Program, look: Open) -> None:
    page = look(service).open()
    expect(page.locator("#letters-empty")).to_have_text(re.compile("^No dead letter"))
    before = int(page.locator("#received").inner_text())
    kind = f"kind-{before}"
    send(service, *(make_event(str(n), type=kind) for n in range(3)))
    expect(page.locator("#received")).to_have_text(str(before + 3), timeout=2000)
    row = page.get_by_role("row", name="moody")
    expect(row.locator("[data-label=Breaker]")).to_have_text("closed")
    expect(row.locator("[data-label=Backlog]")).to_have_text("0")
    expect(page.locator("#legend")).to_contain_text(f"{kind}3")
    expect(page.locator("#by-type")).to_contain_text(f"{kind}3")


def test_a_dead_letter_is_looked_at_replayed_and_gone(
    service: Program, shared: tuple[Program, Mood], look: Open
) -> None:
    page = look(service).open()
    body = '[{"id":"a","user_id":"me","type":"song_played","timestamp":1,"payload":{ "refuse":"no", "n":1.50e400 }}]'
    httpx.post(f"{service.url}/events", content=body).raise_for_status()
    found = letter(page, "a")
    expect(found.locator(".reason")).to_have_text("no")
    expect(page.locator("#nav-dead-letters")).to_have_text("1")
    found.get_by_role("button", name="Payload").click()
    expect(found.locator("pre")).to_have_text('{ "refuse":"no", "n":1.50e400 }')

    found.get_by_role("button", name="Replay").click()
    expect(page.locator("#said")).to_have_text("Replay: 0 delivered, 1 refused again.")
    shared[1].mend()
    found.get_by_role("button", name="Replay").click()
    expect(page.locator("#said")).to_have_text("Replay: 1 delivered.")
    # The sinks' table says how many there were since the start, so this may not say that there were none.
    expect(page.locator("#letters-empty")).to_have_text(re.compile("^No dead letter is left: .* replayed or purged"))
    expect(page.locator("#nav-dead-letters")).to_be_hidden()


def test_letters_are_chosen_and_purged_after_a_question(service: Program, look: Open) -> None:
    send(service, *(refused(str(n), "odd" if n % 2 else "even") for n in range(5)))
    page = look(service).open()
    page.get_by_label("Reason").fill("EVEN")
    expect(page.locator("#letters-total")).to_have_text("3, the oldest first")
    page.get_by_label("Select all that are shown").check()
    expect(page.locator("#letters-chosen")).to_have_text("3 selected")
    page.get_by_role("button", name="Purge selected…").click()
    dialog = page.get_by_role("dialog", name="Purge 3 dead letters?")
    dialog.get_by_role("button", name="Keep them").click()
    expect(dialog).to_be_hidden()
    expect(page.locator("#letters-chosen")).to_have_text("3 selected")
    page.get_by_role("button", name="Purge selected…").click()
    dialog.get_by_role("button", name="Purge").click()
    expect(page.locator("#said")).to_have_text("3 dead letters purged.")
    expect(page.locator("#letters-empty")).to_have_text("No dead letter matches.")
    page.get_by_label("Reason").fill("")
    expect(page.locator("#letters-total")).to_have_text("2, the oldest first")


def test_a_script_tag_stays_text_wherever_it_comes_from(
    service: Program, shared: tuple[Program, Mood], look: Open
) -> None:
    send(service, make_event("plain", user_id=SCRIPT), refused(SCRIPT, SCRIPT, title=SCRIPT))
    shared[1].go_down(SCRIPT)
    httpx.post(f"{service.url}/events", json=[make_event("late")]).raise_for_status()
    page = look(service).open()
    found = letter(page, SCRIPT)
    expect(found.locator(".reason")).to_have_text(SCRIPT)
    expect(found.locator(".id")).to_have_text(SCRIPT)
    found.get_by_role("button", name="Payload").click()
    expect(found.locator("pre")).to_contain_text("<script>document.title")
    expect(page.locator(".note")).to_contain_text(SCRIPT)
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 1
    assert "owned" not in page.title()


def test_all_can_be_done_by_keyboard(service: Program, look: Open) -> None:
    send(service, refused("a"), refused("b"))
    page = look(service).open()
    expect(letter(page, "b")).to_be_visible()
    first = letter(page, "a").locator("input").get_attribute("aria-label")
    focused = "document.activeElement.textContent.trim() || document.activeElement.getAttribute('aria-label')"

    def tab_to(words: str | None) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate(focused) == words:
                return
        raise AssertionError(f"no tab leads to {words!r}")

    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "Skip to the numbers"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    tab_to(first)
    page.keyboard.press("Space")
    expect(page.locator("#letters-chosen")).to_have_text("1 selected")
    tab_to("Payload")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    expect(letter(page, "a").locator("pre")).to_contain_text("refuse")
    tab_to("Purge…")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    assert page.evaluate(focused) == "Keep it"
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.locator("#bars").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#bars-words")).to_contain_text("song_played ")  # among the types of other tests
    page.keyboard.press("Escape")
    expect(page.locator("#bars-words")).to_contain_text("In the whole hour: ")


def test_rejected_events_and_those_of_another_time_are_shown(service: Program, look: Open) -> None:
    page = look(service).open()
    total = page.locator("#rejections-total")
    httpx.post(f"{service.url}/events", json=[make_event("far", timestamp=253_402_300_799), make_event("", type="a b")])
    httpx.post(f"{service.url}/events", content=b"{", headers={"X-Request-Id": SCRIPT[:30]})
    row = page.locator("#rejections-table tbody").first
    expect(row.locator(".reason")).to_contain_text("JSON is malformed")
    expect(row.locator("[data-label=Place]")).to_have_text("the whole request")
    expect(total).to_contain_text("the newest first")
    expect(page.locator("#rejections-table tbody").nth(1).locator("[data-label=Place]")).to_have_text(
        "index 1 of its request"
    )
    expect(page.locator("#aggregates-elsewhere")).to_contain_text("with a timestamp outside the last hour")
    send(service, make_event("now"))
    expect(page.locator("#aggregates-span")).to_have_text("the last hour, by the events\u2019 own timestamps")
    shown = page.locator("#bars-axis span").last.inner_text()
    assert shown in {time.strftime("%H:%M", time.localtime(time.time() - back)) for back in (0, 60)}


def test_the_page_asks_for_a_key_and_keeps_it_for_the_tab(start: Start, mood: Mood, look: Open) -> None:
    program = start(**mood.environ, ADMIN_KEYS="open-sesame,other")
    watched = look(program)
    page = watched.open("waiting")
    dialog = page.get_by_role("dialog", name="This Hermes requires a key")
    dialog.get_by_label("Key").fill("wrong")
    dialog.get_by_role("button", name="Open").click()
    expect(dialog).to_contain_text("That key is not in ADMIN_KEYS")
    dialog.get_by_label("Key").fill("open-sesame")
    page.keyboard.press("Enter")
    expect(page.locator("#pulse")).to_have_attribute("data-state", "live")
    expect(page.locator("#letters-empty")).to_have_text("No dead letters.")
    page.reload()
    expect(page.locator("#pulse")).to_have_attribute("data-state", "live")
    assert "open-sesame" not in program.log
    assert all("401" in error for error in watched.errors), watched.errors
    watched.errors.clear()


def test_a_service_that_stops_is_said_and_found_again(start: Start, mood: Mood, look: Open) -> None:
    program = start(**mood.environ, DURABILITY="memory")
    watched = look(program)
    page = watched.open()
    address = program.admin_url.removeprefix("http://")
    assert program.stop() == 0
    expect(page.locator("#banner")).to_contain_text("Hermes has been stopped. Trying again in")
    again = start(**mood.environ, DURABILITY="memory", ADMIN_ADDR=address)
    assert again.admin_url == program.admin_url
    # It may have tried again by itself a moment ago, and then the button is hidden.
    page.locator("#banner-button").dispatch_event("click")
    expect(page.locator("#pulse")).to_have_attribute("data-state", "live")
    expect(page.locator("#banner")).to_be_hidden()
    assert all("ERR_CONNECTION_REFUSED" in error for error in watched.errors), watched.errors
    watched.errors.clear()


# The pictures of the documents


def take_pictures(start: Start, folder: Path, pictures: Path, look: Open) -> None:
    """A service with an hour of events behind it and some trouble, in daylight, at night and on a phone."""
    mood = Mood(folder, "warehouse")
    program = start(**(mood.environ | {"SINKS": "sqlite,warehouse"}), SINK_WAREHOUSE_BREAKER_OPEN="45s")
    source = randomness.Random(7)
    types = ["song_played"] * 6 + ["location_update"] * 4 + ["trip_started"] * 3 + ["ad_clicked"]
    reasons = ["22003: numeric field overflow", '23514: new row violates check constraint "amount_positive"']
    for n in range(4):
        name = f"8f14e45f-ceea-4c1a-9d30-{source.randrange(16**12):012x}"
        bad = refused(name, reasons[n % 2], amount=-1 if n % 2 else 10**40)
        httpx.post(f"{program.url}/events", json=[bad | {"type": types[5 + 3 * n % 8]}]).raise_for_status()

    def post_for(seconds: float) -> None:
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            found = events(int(70 + 30 * math.sin(now / 6) + source.random() * 15), f"{now}")
            for event in found:
                minute = source.choices(range(60), [3 + math.sin(n / 7) for n in range(60)])[0]
                event |= {"type": source.choice(types), "timestamp": int(time.time()) - 60 * minute}
            httpx.post(f"{program.url}/events", json=found).raise_for_status()
            time.sleep(0.1)

    post_for(45)
    mood.go_down('connection to server at "10.0.0.7", port 5432 failed: Connection refused')
    for name, viewport, scheme in (("light", DESKTOP, "light"), ("dark", DESKTOP, "dark"), ("phone", PHONE, "light")):
        page = look(program, viewport=viewport, color_scheme=scheme).open()
        if viewport is DESKTOP:
            first = page.locator("#letters tbody").first
            first.get_by_role("button", name="Payload").click()
            expect(first.locator("pre")).to_contain_text("amount")
            page.evaluate("document.activeElement.blur()")
            page.mouse.move(0, 0)
        post_for(6)
        page.evaluate("scrollTo({ top: 0, behavior: 'instant' })")
        page.screenshot(path=pictures / f"dashboard-{name}.png", full_page=viewport is DESKTOP)


if "SCREENSHOTS" in os.environ:

    @pytest.mark.timeout(150)
    def test_the_pictures_of_the_documents_are_taken(start: Start, tmp_path: Path, look: Open) -> None:
        take_pictures(start, tmp_path, Path(os.environ["SCREENSHOTS"]), look)
