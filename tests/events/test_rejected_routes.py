"""The rejected events over HTTP: listed, followed, and bounded."""

from __future__ import annotations

import json

import pytest
import trio

from hermes.events.rejected_routes import MOST_FOLLOWERS, RejectedDesk, _Stream
from hermes.events.tap_routes import HEARTBEAT
from hermes.net.http.rejected_feed import MOST_OF_A_KIND, RejectedFeed
from hermes.net.http.rejection import Rejection
from tests.net.control.kit import admin_app


def make_feed(*errors: str) -> RejectedFeed:
    feed = RejectedFeed(lambda: 1_700_000_000.0)
    feed.add("/events", 202, [Rejection(n, error) for n, error in enumerate(errors)], "r-1", "192.0.2.7")
    return feed


async def test_the_list_has_the_latest_with_all_that_is_known() -> None:
    client = admin_app(rejected=RejectedDesk(make_feed("a", "b"), lambda: False)).test_client()
    found = json.loads(await (await client.get("/rejected")).get_data())
    assert (found["total"], [entry["reason"] for entry in found["rejected"]]) == (2, ["a", "b"])
    assert found["rejected"][1] == {
        "number": 2,
        "at": 1_700_000_000.0,
        "route": "/events",
        "status": 202,
        "index": 1,
        "events": 2,
        "reason": "b",
        "request_id": "r-1",
        "client": "192.0.2.7",
    }


async def test_a_follower_gets_what_is_kept_then_what_comes_and_how_much_was_skipped(autojump_clock: None) -> None:
    feed = make_feed("a")
    async with _Stream(RejectedDesk(feed, lambda: False)) as stream:
        assert await anext(stream) == b"\n"
        assert json.loads(await anext(stream))["reason"] == "a"
        began = trio.current_time()
        assert await anext(stream) == b"\n"
        assert trio.current_time() - began == pytest.approx(HEARTBEAT, abs=0.3)
        feed.add("/events", 202, [Rejection(n, "c") for n in range(MOST_OF_A_KIND + 7)], "r-2", "")
        lines = (await anext(stream)).splitlines()
    assert len(lines) == MOST_OF_A_KIND + 1
    assert lines[-1] == b'{"skipped":7}'


async def test_it_ends_with_the_service_and_gives_its_place_back(autojump_clock: None) -> None:
    ended = False
    desk = RejectedDesk(RejectedFeed(), lambda: ended)
    async with _Stream(desk) as stream:
        assert await anext(stream) == b"\n"
        assert desk.followers == 1
        ended = True
        assert [line async for line in stream] == []
    assert desk.followers == 0


async def test_one_too_many_is_told_so() -> None:
    desk = RejectedDesk(RejectedFeed(), lambda: False, MOST_FOLLOWERS)
    answer = await admin_app(rejected=desk).test_client().get("/rejected/live")
    assert answer.status_code == 503
