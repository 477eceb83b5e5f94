"""The tap over HTTP: its lines, its heartbeat, its end, and what it does not take for an answer."""

from __future__ import annotations

import json

import pytest
import trio

from hermes.events.engine.tap import MOST_EVENTS, MOST_FOLLOWERS, Tap, Wanted
from hermes.events.tap_routes import HEARTBEAT, _Stream
from hermes.testing import make_chunk, make_event
from tests.net.control.kit import admin_app


async def test_a_line_is_an_event_as_it_was_sent() -> None:
    tap = Tap()
    async with _Stream(tap, Wanted()) as stream:
        assert await anext(stream) == b"\n"
        tap.show([make_chunk([make_event("1", payload='{ "n":\r\n1.50e400 }'), make_event("2")])])
        first, second, rest = (await anext(stream)).split(b"\n")
    assert b'"payload":{ "n":  1.50e400 }}' in first
    assert json.loads(second)["id"] == "2"
    assert rest == b""


async def test_what_was_skipped_is_told_in_its_place() -> None:
    tap = Tap()
    async with _Stream(tap, Wanted()) as stream:
        await anext(stream)
        tap.show([make_chunk(MOST_EVENTS + 7)])
        lines = (await anext(stream)).splitlines()
    assert len(lines) == MOST_EVENTS + 1
    assert lines[-1] == b'{"skipped":7}'


async def test_where_nothing_comes_an_empty_line_does(autojump_clock: None) -> None:
    tap = Tap()
    async with _Stream(tap, Wanted()) as stream:
        await anext(stream)
        began = trio.current_time()
        assert await anext(stream) == b"\n"
        assert trio.current_time() - began == pytest.approx(HEARTBEAT)


async def test_it_ends_with_the_service_and_gives_its_place_back() -> None:
    tap = Tap()
    async with _Stream(tap, Wanted()) as stream:
        await anext(stream)
        assert tap.listening
        tap.close()
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
    assert not tap.listening


async def test_one_who_was_let_in_and_finds_no_place_is_sent_away() -> None:
    tap = Tap()
    for _ in range(MOST_FOLLOWERS):
        tap.follow(Wanted())
    async with _Stream(tap, Wanted()) as stream:
        assert [line async for line in stream] == []
    answer = await admin_app(tap=tap).test_client().get("/tap")
    assert answer.status_code == 503


@pytest.mark.parametrize(
    ("query", "parameter", "words"),
    [
        ("sample=0", "sample", "above 0 and at most 1"),
        ("sample=nan", "sample", "above 0 and at most 1"),
        ("sample=x", "sample", "above 0 and at most 1"),
        ("type=", "type", "leave it out"),
        ("user=a&user=b", "user", "given 2 times"),
        ("typ=a", "typ", "there are type, user, sample"),
        ("type=" + ",".join(map(str, range(200))), "type", "at most 100"),
    ],
)
async def test_a_parameter_that_is_wrong_is_named(query: str, parameter: str, words: str) -> None:
    answer = await admin_app().test_client().get(f"/tap?{query}")
    found = await answer.get_json(force=True)
    assert (answer.status_code, found["parameter"]) == (400, parameter)
    assert words in found["detail"]
