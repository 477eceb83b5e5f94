"""The dead letters over HTTP: pages, filters, replay, purge, keys, and the words for every wrong parameter."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from hermes import BatchRejected
from hermes.base.errors import LogUnavailable
from hermes.dead_letters import DeadLetter, MemoryDeadLetters, Selection, Source
from hermes.dead_letters import http as module
from hermes.dead_letters.contract import MAX_NUMBER
from hermes.dead_letters.desk import DeadLetterDesk
from hermes.events.letters import EVENT_LETTERS, sink_source, sink_target
from hermes.net.http.keys import Keys
from hermes.testing import ScriptedSink, unavailable
from tests.dead_letters.kit import REJECTED_AT, ids, make_letter
from tests.net.control.kit import admin_app


class Desk:
    """A store, two sinks, and a client of the app over them."""

    def __init__(self, letters: Sequence[DeadLetter] = (), keys: Sequence[str] = (), store: Any = None) -> None:
        self.store = MemoryDeadLetters(100_000) if store is None else store
        self.sinks = {"postgres": ScriptedSink(max_batch=10), "sqlite": ScriptedSink(max_batch=10)}
        targets = {sink_source(name): sink_target(sink.write, sink.max_batch) for name, sink in self.sinks.items()}
        self._letters = letters
        desk = DeadLetterDesk(self.store, targets, {"events": EVENT_LETTERS})
        self.app = admin_app(keys=Keys(keys) if keys else None, dead_letters=desk)
        self.client = self.app.test_client()

    async def ask(self, method: str, target: str, **options: Any) -> tuple[int, Any]:
        """Status and JSON of an answer; the letters are put in before the first request."""
        await self.store.add(self._letters)
        self._letters = ()
        response = await self.client.open(target, method=method, **options)
        body = await response.get_data()
        expected = "application/json" if response.status_code == 200 else "application/problem+json"
        assert response.content_type == expected
        return response.status_code, json.loads(body)

    async def get(self, target: str) -> Any:
        status, found = await self.ask("GET", target)
        assert status == 200, found
        return found

    async def refusal(self, method: str, target: str, **options: Any) -> tuple[str, str]:
        status, found = await self.ask(method, target, **options)
        assert status == 400, found
        return found["parameter"], found["detail"]


SOME = [
    make_letter(0, sink="postgres", reason="22003 overflow", payload=b'{ "n": 1e400 }'),
    make_letter(1, sink="postgres", reason="23514 check", type="ad_clicked", rejected_at=REJECTED_AT + 60),
    make_letter(2, sink="sqlite", reason="no valid Unicode", rejected_at=REJECTED_AT + 120),
]

# Listing


async def test_letters_are_listed_with_their_total() -> None:
    desk = Desk(SOME)
    found = await desk.get("/dead-letters")
    assert (found["next"], found["total"]) == (None, 3)
    assert [letter["number"] for letter in found["letters"]] == [1, 2, 3]
    assert found["letters"][1] == {
        "number": 2,
        "part": "events",
        "source": "postgres",
        "sink": "postgres",
        "reason": "23514 check",
        "attempts": 1,
        "rejected_at": REJECTED_AT + 60,
        "received_at": SOME[1].received_at,
        "event": {
            "id": "event-1",
            "user_id": "user-1",
            "type": "ad_clicked",
            "timestamp": 1_700_000_000,
            "payload": {},
        },
    }


async def test_an_empty_store_is_an_empty_list() -> None:
    assert await Desk().get("/dead-letters") == {"letters": [], "next": None, "total": 0, "sources": []}


async def test_payloads_are_their_own_bytes() -> None:
    desk = Desk(SOME)
    await desk.get("/dead-letters")
    for target in ("/dead-letters", "/dead-letters/1"):
        response = await desk.client.get(target)
        assert b'"payload":{ "n": 1e400 }' in await response.get_data()


async def test_pages_lead_to_each_other_and_to_an_end() -> None:
    desk = Desk([make_letter(n) for n in range(25)])
    found: list[int] = []
    after = 0
    while after is not None:
        page = await desk.get(f"/dead-letters?limit=10&after={after}")
        assert page["total"] == 25
        found += [letter["number"] for letter in page["letters"]]
        after = page["next"]
    assert found == list(range(1, 26))


async def test_a_page_is_bounded_where_nothing_is_said() -> None:
    found = await Desk([make_letter(n) for n in range(150)]).get("/dead-letters")
    assert (len(found["letters"]), found["next"]) == (100, 100)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("sink=postgres", [0, 1]),
        ("type=ad_clicked", [1]),
        ("reason=UNICODE", [2]),
        (f"since={REJECTED_AT + 60}", [1, 2]),
        ("since=2023-11-14T22:16:30Z", [2]),
        ("since=2023-11-14T22:16:30%2B00:00", [2]),
        ("since=1h", []),
        ("since=1000000h", [0, 1, 2]),
        ("numbers=3,1", [0, 2]),
        ("sink=postgres&reason=check", [1]),
        ("sink=null", []),
        ("sink=%F0%9F%98%80", []),
    ],
)
async def test_parameters_select_for_every_method(query: str, expected: list[int]) -> None:
    desk = Desk(SOME)
    found = await desk.get(f"/dead-letters?{query}")
    assert [letter["event"]["id"] for letter in found["letters"]] == [f"event-{n}" for n in expected]
    assert found["total"] == len(expected)
    assert (await desk.ask("POST", f"/dead-letters/replay?{query}&dry_run=true"))[1]["left"] == len(expected)
    assert await desk.ask("DELETE", f"/dead-letters?{query}") == (
        200,
        {"matched": len(expected), "removed": len(expected), "dry_run": False},
    )
    assert await ids(desk.store) == [f"event-{n}" for n in range(3) if n not in expected]


async def test_one_letter_by_its_number() -> None:
    desk = Desk(SOME)
    assert (await desk.get("/dead-letters/3"))["event"]["id"] == "event-2"
    for number in (4, 0, MAX_NUMBER, MAX_NUMBER + 1):
        status, found = await desk.ask("GET", f"/dead-letters/{number}")
        assert (status, found["status"]) == (404, 404)


# Letters of other parts

TOY = DeadLetter(
    Source("toys", "balls"), {"id": "b-1", "size": 3}, b"\xffround", "burst", 2, REJECTED_AT, REJECTED_AT - 1
)


async def test_a_letter_of_any_part_is_listed_shown_left_by_a_replay_and_purged() -> None:
    desk = Desk([*SOME, TOY])
    found = await desk.get("/dead-letters")
    assert found["sources"] == [
        {"part": "events", "source": "postgres", "letters": 2},
        {"part": "events", "source": "sqlite", "letters": 1},
        {"part": "toys", "source": "balls", "letters": 1},
    ]
    assert await desk.get("/dead-letters/4") == found["letters"][3]
    assert found["letters"][3] == {
        "number": 4,
        "part": "toys",
        "source": "balls",
        "reason": "burst",
        "attempts": 2,
        "rejected_at": REJECTED_AT,
        "received_at": REJECTED_AT - 1,
        "facts": {"id": "b-1", "size": 3},
        "body_base64": "/3JvdW5k",
    }
    for query in ("part=toys", "source=balls", "part=toys&source=balls&reason=burst"):
        assert [each["number"] for each in (await desk.get(f"/dead-letters?{query}"))["letters"]] == [4]
    for query in ("part=events", "part=events&type=song_played", "part=gone"):
        assert 4 not in [each["number"] for each in (await desk.get(f"/dead-letters?{query}"))["letters"]]
    assert await desk.refusal("GET", "/dead-letters?sink=postgres&part=toys") == (
        "sink",
        "sink: a sink is a source of the part events: name no other part or source",
    )
    status, replayed = await desk.ask("POST", "/dead-letters/replay")
    assert (status, replayed["delivered"], replayed["left"]) == (200, 3, 1)
    assert replayed["sinks"][2] | {"stopped": "…"} == {
        "part": "toys",
        "sink": "balls",
        "delivered": 0,
        "refused": 0,
        "left": 1,
        "stopped": "…",
    }
    assert "the part toys replays no letters here" in replayed["sinks"][2]["stopped"]
    assert (await desk.ask("DELETE", "/dead-letters?part=toys"))[1]["removed"] == 1


# Replay


async def test_replay_writes_through_the_sinks_and_answers_with_the_counts() -> None:
    desk = Desk(SOME)
    desk.sinks["postgres"].script.append(BatchRejected({1: "still no"}))
    assert await desk.ask("POST", "/dead-letters/replay") == (
        200,
        {
            "delivered": 2,
            "refused": 1,
            "left": 0,
            "sinks": [
                {"part": "events", "sink": "postgres", "delivered": 1, "refused": 1, "left": 0, "stopped": None},
                {"part": "events", "sink": "sqlite", "delivered": 1, "refused": 0, "left": 0, "stopped": None},
            ],
            "dry_run": False,
        },
    )
    assert await ids(desk.store) == ["event-1"]


async def test_replay_takes_its_parameters_from_a_body() -> None:
    desk = Desk(SOME)
    body = {"sink": "postgres", "since": REJECTED_AT + 1, "numbers": [1, 2], "dry_run": False, "type": None}
    status, found = await desk.ask("POST", "/dead-letters/replay", json=body)
    assert (status, found["delivered"]) == (200, 1)
    assert await ids(desk.store) == ["event-0", "event-2"]


async def test_a_dry_run_counts_and_writes_nothing() -> None:
    desk = Desk(SOME)
    for options in ({"json": {"dry_run": True}}, {"query_string": {"dry_run": "true"}}):
        status, found = await desk.ask("POST", "/dead-letters/replay", **options)
        assert (status, found["left"], found["dry_run"]) == (200, 3, True)
    assert not any(sink.writes for sink in desk.sinks.values())


async def test_a_request_replays_no_more_than_its_bound_and_says_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_REPLAYED", 25)
    desk = Desk([make_letter(n, sink="sqlite") for n in range(60)])
    for left in (35, 10, 0):
        status, found = await desk.ask("POST", "/dead-letters/replay")
        assert (status, found["left"]) == (200, left)
    assert len(desk.sinks["sqlite"].stored) == 60


async def test_with_a_rate_a_request_takes_no_longer_than_its_bound(autojump_clock: MockClock) -> None:
    desk = Desk([make_letter(n, sink="sqlite") for n in range(200)])
    began = trio.current_time()
    status, found = await desk.ask("POST", "/dead-letters/replay", json={"rate": 2})
    assert (status, found["delivered"], found["left"]) == (200, 60, 140)
    assert trio.current_time() - began <= module.REPLAY_SECONDS


async def test_a_sink_that_is_unavailable_is_said() -> None:
    desk = Desk(SOME)
    desk.sinks["postgres"].script.extend(unavailable())
    status, found = await desk.ask("POST", "/dead-letters/replay?sink=postgres")
    assert (status, found["left"], found["sinks"][0]["stopped"]) == (200, 2, "refusal 1 of 1")


async def test_one_replay_runs_at_a_time() -> None:
    desk = Desk(SOME)
    desk.sinks["postgres"].stall()
    answers = []

    async def first() -> None:
        answers.append(await desk.ask("POST", "/dead-letters/replay"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        await wait_all_tasks_blocked()
        status, found = await desk.ask("POST", "/dead-letters/replay")
        assert (status, "another replay is under way" in found["detail"]) == (409, True)
        desk.sinks["postgres"].resume()
    assert (answers[0][0], answers[0][1]["delivered"]) == (200, 3)
    assert (await desk.ask("POST", "/dead-letters/replay"))[0] == 200


# Purge


async def test_a_purge_wants_to_know_which() -> None:
    desk = Desk(SOME)
    for query in ("", "?all=false", "?all=true&sink=postgres", "?dry_run=true"):
        assert (await desk.refusal("DELETE", f"/dead-letters{query}"))[0] == "all"
    assert len(await ids(desk.store)) == 3


async def test_everything_is_purged_when_it_is_said() -> None:
    desk = Desk(SOME)
    assert (await desk.ask("DELETE", "/dead-letters?all=true&dry_run=true"))[1] == {
        "matched": 3,
        "removed": 0,
        "dry_run": True,
    }
    assert (await desk.ask("DELETE", "/dead-letters?all=true"))[1]["removed"] == 3
    assert await ids(desk.store) == []


# Refusals

WRONG = [
    ("GET", "limit=0", "limit", "too small: expected a whole number of at least 1"),
    ("GET", "limit=1001", "limit", "of at most 1000"),
    ("GET", "limit=many", "limit", "`limit` is text: expected a whole number"),
    ("GET", "after=-1", "after", "of at least 0"),
    ("GET", f"after={MAX_NUMBER + 1}", "after", ""),
    ("GET", "since=yesterday", "since", "a duration back from now such as 2h"),
    ("GET", "since=", "since", "a duration back from now such as 2h"),
    ("GET", "sink=", "sink", "is empty"),
    ("GET", "sink=%00", "sink", "has another form"),
    ("GET", "numbers=", "numbers", "is text: expected a whole number"),
    ("GET", "numbers=1,x", "numbers", "is text: expected a whole number"),
    ("GET", f"numbers={MAX_NUMBER + 1}", "numbers", ""),
    ("GET", "sink=a&sink=b", "sink", "given 2 times"),
    (
        "GET",
        "sinks=a",
        "sinks",
        "'sinks' is not a parameter here; there are part, source, sink, type, reason, since, numbers, after, limit",
    ),
    ("GET", "dry_run=true", "dry_run", "not a parameter"),
    ("POST", "rate=0", "rate", "of more than 0"),
    ("POST", "rate=nan", "rate", ""),
    ("POST", "rate=inf", "rate", ""),
    ("POST", "dry_run=perhaps", "dry_run", "is text: expected true or false"),
    ("POST", "limit=5", "limit", "not a parameter"),
    ("DELETE", "all=yes!", "all", "is text: expected true or false"),
    ("DELETE", "reason=", "reason", "is empty"),
]


@pytest.mark.parametrize(("method", "query", "parameter", "words"), WRONG, ids=lambda value: str(value)[:30])
async def test_a_wrong_parameter_is_named(method: str, query: str, parameter: str, words: str) -> None:
    desk = Desk(SOME)
    path = "/dead-letters/replay" if method == "POST" else "/dead-letters"
    named, detail = await desk.refusal(method, f"{path}?{query}")
    assert named == parameter
    assert parameter in detail
    assert words in detail
    assert len(await ids(desk.store)) == 3


@pytest.mark.parametrize(
    ("body", "parameter", "words"),
    [
        (b"{", "body", "not a JSON object"),
        (b"[1]", "body", "not a JSON object"),
        (b"\xff", "body", "not a JSON object"),
        (b'{"since": true}', "since", "is a truth value: expected"),
        (b'{"sink": 7}', "sink", "is a number: expected text"),
        (b'{"numbers": [0]}', "numbers", "of at least 1"),
        (b'{"numbers": []}', "numbers", "is empty"),
        (b'{"rate": 1e300}', "rate", "of at most "),
        (b'{"nonsense": 1}', "nonsense", "not a parameter"),
        (b'{"sink": "%b"}' % (b"x" * 300_000), "numbers", "larger than"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_a_wrong_body_is_named(body: bytes, parameter: str, words: str) -> None:
    named, detail = await Desk(SOME).refusal("POST", "/dead-letters/replay", data=body)
    assert named == parameter
    assert words in detail


@pytest.mark.parametrize(
    ("query", "body", "parameter"),
    [("?rate=null", {}, "rate"), ("?rate=NULL", {}, "rate"), ("", {"numbers": "null"}, "numbers")],
)
async def test_the_word_null_never_widens_what_is_replayed(query: str, body: dict[str, Any], parameter: str) -> None:
    desk = Desk(SOME)
    named, detail = await desk.refusal("POST", f"/dead-letters/replay{query}", json=body)
    assert (named, "leave it out" in detail) == (parameter, True)
    assert len(await ids(desk.store)) == 3


async def test_what_is_given_twice_is_refused() -> None:
    desk = Desk(SOME)
    assert (await desk.refusal("POST", "/dead-letters/replay?sink=a", json={"sink": "b"}))[0] == "sink"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/dead-letters"),
        ("GET", "/dead-letters/1"),
        ("POST", "/dead-letters/replay"),
        ("DELETE", "/dead-letters?all=true"),
    ],
)
async def test_keys_protect_every_route(method: str, path: str) -> None:
    desk = Desk(SOME, keys=["secret", "other"])
    for headers in ({}, {"X-API-Key": "wrong"}, {"Authorization": "Bearer secre"}, {"Authorization": "Basic secret"}):
        status, found = await desk.ask(method, path, headers=headers)
        assert status == 401
        assert "key" in found["detail"]
    assert len(await ids(desk.store)) == 3
    for headers in ({"X-API-Key": "other"}, {"Authorization": "bearer secret"}):
        assert (await desk.ask(method, path, headers=headers))[0] in {200, 404}


async def test_a_store_that_does_not_work_is_503() -> None:
    class BrokenStore(MemoryDeadLetters):
        async def page(self, *arguments: object, **options: object) -> list[DeadLetter]:
            raise LogUnavailable("the disk is full")

        async def last(self) -> int:
            raise LogUnavailable("the disk is full")

    desk = Desk(SOME, store=BrokenStore(10))
    for method, path in (
        ("GET", "/dead-letters"),
        ("GET", "/dead-letters/1"),
        ("POST", "/dead-letters/replay"),
        ("DELETE", "/dead-letters?all=true"),
    ):
        status, found = await desk.ask(method, path)
        assert (status, found["detail"]) == (503, "the disk is full: try again")


async def test_other_methods_are_405() -> None:
    assert (await Desk().ask("PUT", "/dead-letters"))[0] == 405
    assert (await Desk().ask("GET", "/dead-letters/replay"))[0] == 405


async def test_letters_that_come_while_a_purge_counts_are_not_purged() -> None:
    class BusyStore(MemoryDeadLetters):
        async def remove(self, selection: Selection) -> int:
            await self.add([make_letter(9)])
            return await super().remove(selection)

    desk = Desk(SOME, store=BusyStore(10))
    assert (await desk.ask("DELETE", "/dead-letters?all=true"))[1]["removed"] == 3
    assert await ids(desk.store) == ["event-9"]
