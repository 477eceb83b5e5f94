"""``/debug/pprof/`` as requests and responses: the page, the formats, the refusals."""

import json
import re

import pytest
import trio
from trio.testing import MockClock

from hermes.observe.debug import Answer, answer
from tests.observe.debug.decoding import decode


async def get(target: str) -> Answer:
    """The answer to a target such as ``heap?seconds=1``, relative to the page."""
    name, _, query = target.partition("?")
    return await answer(f"/debug/pprof/{name}", dict(part.split("=", 1) for part in query.split("&") if part))


async def test_the_page_links_to_what_works(autojump_clock: MockClock) -> None:
    page = await get("")
    assert (page.status, page.content_type) == (200, "text/html; charset=utf-8")
    text = page.body.decode()
    targets = [target.replace("&amp;", "&") for target in re.findall(r'href="([^"]+)"', text)]
    assert {target.partition("?")[0] for target in targets} == {"profile", "heap", "goroutine", "block", "memory"}
    # Those that need no real time; the others are asked under tests/integration.
    for target in targets:
        if target.partition("?")[0] in {"heap", "goroutine", "memory"}:
            assert (await get(target)).status == 200, target
            await trio.sleep(10)  # the rest after a profile


async def test_the_path_without_its_slash_leads_to_the_page() -> None:
    found = await answer("/debug/pprof", {})
    assert (found.status, found.headers["Location"]) == (308, "/debug/pprof/")


@pytest.mark.parametrize(
    "path", ["/debug/pprof/nothing", "/debug/pprof/heap/", "/elsewhere", "heap", "/debug/pprofheap"]
)
async def test_an_unknown_path_is_404_with_the_known_names(path: str) -> None:
    found = await answer(path, {})
    assert (found.status, found.content_type) == (404, "application/problem+json")
    assert "profile, heap, goroutine, tasks, block, memory" in json.loads(found.body)["detail"]


@pytest.mark.parametrize(
    ("target", "detail"),
    [
        ("profile?seconds=0", "seconds='0': must be a number from 0.1 to 120 (seconds)"),
        ("profile?seconds=121", "seconds='121': must be a number from 0.1 to 120 (seconds)"),
        ("profile?hz=5000", "hz='5000': must be a whole number from 1 to 1000"),
        ("profile?format=svg", "format='svg': must be one of pprof, speedscope, folded"),
        ("heap?seconds=x", "seconds='x': must be a number from 0.1 to 30 (seconds)"),
        ("heap?depth=100", "depth='100': must be a whole number from 1 to 32"),
        ("goroutine?debug=3", "debug='3': must be a whole number from 0 to 2"),
        ("tasks?format=xml", "format='xml': must be one of pprof, text, tree, json"),
        ("block?seconds=nan", "seconds='nan': must be a number from 0.1 to 120 (seconds)"),
        ("block?threshold_ms=0", "threshold_ms='0': must be a number from 1 to 10000 (milliseconds)"),
        ("memory?format=pprof", "format='pprof': must be one of text, json"),
    ],
)
async def test_a_bad_parameter_is_400_and_says_what_is_accepted(
    target: str, detail: str, mock_clock: MockClock
) -> None:
    found = await get(target)
    assert (found.status, found.content_type) == (400, "application/problem+json")
    assert json.loads(found.body) == {"type": "about:blank", "title": "Bad Request", "status": 400, "detail": detail}
    assert trio.current_time() == 0


async def test_a_second_profile_is_503_with_retry_after(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(get, "heap?seconds=10")
        await trio.sleep(2.5)
        found = await get("heap?seconds=1")
    assert (found.status, found.headers["Retry-After"]) == (503, "8")
    assert "it ends in 7.5 s" in json.loads(found.body)["detail"]


async def test_goroutine_and_tasks_are_one(mock_clock: MockClock) -> None:
    for name in ("goroutine", "tasks"):
        tree = await get(f"{name}?debug=2")
        assert tree.content_type == "text/plain; charset=utf-8"
        assert b"* <init>" in tree.body
        assert b"waiting at" in (await get(f"{name}?debug=1")).body
        assert json.loads((await get(f"{name}?format=json")).body)["tree"]["total"] > 1
        file = await get(name)
        assert file.headers["Content-Disposition"] == 'attachment; filename="goroutine.pb.gz"'
        assert decode(file.body).sample_types == [("tasks", "count")]


async def test_no_answer_may_be_cached_or_guessed_at(mock_clock: MockClock) -> None:
    for target in ("", "goroutine", "nothing", "heap?seconds=x"):
        headers = (await get(target)).headers
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
