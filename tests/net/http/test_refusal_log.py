"""Log lines about refused requests: what they say, how often, and that they are about the request that was refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import structlog

from hermes.net.http.connection import Connection
from hermes.net.http.refusal_log import MOST_FAMILIES, RefusalLog
from hermes.net.http.rejected_feed import MOST_OF_A_KIND, MOST_WORDS, RejectedFeed
from hermes.net.http.rejection import Rejection
from hermes.net.http.response import Response
from tests.net.http.kit import FakeIntake, Wire, event, head, post


@pytest.fixture
def lines() -> Any:
    with structlog.testing.capture_logs() as captured:
        yield captured


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def refuse(refusals: RefusalLog, route: str = "/events", status: int = 401, client: Callable[[], str] = str) -> None:
    refusals.tell(route, Response(status, detail="no key"), b"r", client)


def test_one_line_of_a_kind_every_few_seconds_says_how_many_had_none(lines: Any) -> None:
    clock = Clock()
    refusals = RefusalLog(clock)
    for _ in range(1000):
        refuse(refusals)
    assert len(lines) == 1
    clock.now = 5.0
    refuse(refusals)
    clock.now = 10.0
    refuse(refusals)
    assert [line.get("more") for line in lines] == [None, 999, None]


def test_kinds_differ_by_route_and_status(lines: Any) -> None:
    refusals = RefusalLog(Clock())
    for _ in range(10):
        refuse(refusals)
        refuse(refusals, status=503)
        refuse(refusals, route="/v1/logs")
    assert [(line["route"], line["status"], line["log_level"]) for line in lines] == [
        ("/events", 401, "info"),
        ("/events", 503, "warning"),
        ("/v1/logs", 401, "info"),
    ]


def test_what_had_no_line_is_counted_when_the_pause_ends_or_the_service_does(lines: Any) -> None:
    clock = Clock()
    refusals = RefusalLog(clock)
    for _ in range(4):
        refuse(refusals)
    refusals.tell_rest()
    assert len(lines) == 1
    clock.now = 5.0
    refusals.tell_rest()
    refusals.tell_rest()
    refuse(refusals)
    refusals.tell_rest(at_the_end=True)
    refusals.tell_rest(at_the_end=True)
    assert [line.get("more") for line in lines] == [None, 3, 1]
    assert [(line["event"], line["route"], line["status"], line["reason"]) for line in lines[1:]] == [
        ("request refused", "/events", 401, "no key")
    ] * 2


def test_a_new_family_of_reasons_has_its_line_at_once_and_there_are_only_so_many(lines: Any) -> None:
    clock = Clock()
    refusals = RefusalLog(clock)

    def reject(reason: str) -> None:
        refusals.tell("/events", Response(202).about([Rejection(0, reason)]), b"r", str)

    for n in range(100):
        reject(f"the type 'sent-{n}' is not in EVENT_TYPES")
        reject(f"JSON is malformed: trailing characters (byte {n})")
    assert [line["example"][:9] for line in lines] == ["the type ", "JSON is m"]
    for n in range(1000):
        reject("x" * (n % 50 + 1))
    assert len(lines) == MOST_FAMILIES + 1
    refusals.tell_rest(at_the_end=True)
    told = len(lines)
    assert sum(line.get("events", 0) + line.get("more", 0) for line in lines) == 1200
    clock.now = 5.0
    refusals.tell_rest()
    assert len(lines) == told
    reject("a reason that is new once the others are over")
    assert len(lines) == told + 1


FAULTS = (
    "the body is empty",
    "the body holds no event",
    "Object missing required field `id`",
    "Object missing required field `timestamp`",
    "Object missing required field `specversion`",
    "`id` is a number: expected text",
    "`payload` is a number: expected an object",
    "`id` is empty: expected text, at least 1 character",
    "the body is not valid gzip",
    "the body is not valid br",
    "Hermes-Ack 'nope' is not known",
    "JSON is malformed: it ends in the middle",
    "U+0000 is no text",
)


def test_different_faults_are_never_told_as_one(lines: Any) -> None:
    refusals = RefusalLog(Clock())
    for _ in range(3):
        for fault in FAULTS:
            refusals.tell("/events", Response(400, detail=fault), b"r", str)
    assert [line["reason"] for line in lines] == [*FAULTS]
    refusals.tell_rest(at_the_end=True)
    assert [(line["reason"], line["more"]) for line in lines[len(FAULTS) :]] == [(fault, 2) for fault in FAULTS]


def test_faults_beyond_the_bound_share_a_line_that_says_so(lines: Any) -> None:
    refusals = RefusalLog(Clock())
    for n in range(MOST_FAMILIES + 10):
        refusals.tell("/events", Response(400, detail="x" * (n + 1)), b"r", str)
    assert len(lines) == MOST_FAMILIES + 1
    refusals.tell_rest(at_the_end=True)
    (rest,) = lines[MOST_FAMILIES + 1 :]
    assert (rest["reason"], rest["more"]) == ("several kinds, the latest: " + "x" * (MOST_FAMILIES + 10), 9)


def test_the_fields_of_a_client_are_one_fault(lines: Any) -> None:
    refusals = RefusalLog(Clock())
    for n in range(100):
        refusals.tell("/events", Response(400, detail=f"Object contains unknown field `{chr(97 + n)}`"), b"r", str)
    assert len(lines) == 1


def test_the_address_is_looked_up_for_a_line_alone(lines: Any) -> None:
    asked = []

    def client() -> str:
        asked.append(1)
        return "192.0.2.1"

    refusals = RefusalLog(Clock())
    for _ in range(10):
        refuse(refusals, client=client)
    assert len(asked) == 1
    assert lines[0]["client"] == "192.0.2.1"


@pytest.mark.parametrize(
    ("request_", "status", "route", "reason"),
    [
        (post(b"{", b"X-API-Key: right"), 400, "/events", "JSON is malformed"),
        (post(event("a")), 401, "/events", "this service wants a key"),
        (post(event("a"), b"X-API-Key: wrong"), 401, "/events", "the key that was sent is none"),
        (
            post(b'{"writeKey":"wrong","batch":[]}', path=b"/v1/batch"),
            401,
            "/v1/batch",
            "the key that was sent is none",
        ),
        (post(b'{"batch":[]}', path=b"/v1/batch"), 401, "/v1/batch", "this service wants a key"),
        (post(event("a"), b"X-API-Key: right", b"Content-Type: text/x"), 415, "/events", "Content-Type"),
        (head(b"X-API-Key: right"), 411, "/events", "needs a Content-Length"),
        (head(b"X-API-Key: right", b"Content-Length: 999999"), 413, "/events", "MAX_BODY_BYTES"),
        (b"GET\r\n\r\n", 400, "unreadable", "request line"),
        (post(b"{", b"X-API-Key: right", path=b"/v1/track"), 400, "/v1/track", ""),
        (post(b"{", b"X-API-Key: right", b"Content-Type: application/json", path=b"/v1/logs"), 400, "/v1/logs", ""),
    ],
)
def test_every_refusal_has_a_line_with_the_id_that_the_client_got(
    request_: bytes, status: int, route: str, reason: str, lines: Any
) -> None:
    wire = Wire(keys=["right"])
    wire.connection = Connection(wire.lane, lambda: None, lambda: "192.0.2.7")
    (answer,) = wire.feed(request_)
    assert answer.status == status
    (line,) = lines
    assert line["event"] == "request refused"
    assert (line["status"], line["route"], line["client"]) == (status, route, "192.0.2.7")
    assert line["request_id"] == answer.headers["x-request-id"]
    assert reason in line["reason"]
    assert line["reason"]


def test_the_clients_own_id_is_in_the_line(lines: Any) -> None:
    wire = Wire(keys=["right"])
    wire.feed(post(event("a"), b"X-Request-Id: mine-1"))
    assert lines[0]["request_id"] == "mine-1"


def test_a_full_queue_is_a_warning_though_the_answer_comes_later(lines: Any) -> None:
    wire = Wire(FakeIntake(room=0, blocking=True))
    assert wire.feed(post(event("a"))) == []
    wire.connection.call_off()
    (answer,) = wire.answers()
    assert answer.status == 503
    (line,) = lines
    assert (line["log_level"], line["status"]) == ("warning", 503)
    assert line["request_id"] == answer.headers["x-request-id"]


LISTED = ("song_played",)
_TRACK = {"type": "track", "userId": "ann", "event": "song_played"}
_RECORD = {"eventName": "song_played", "body": {"stringValue": "x"}}
_CLOUD = {"specversion": "1.0", "id": "1", "source": "s", "type": "song_played"}


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


PARTLY_VALID = {
    "an array": post(_json([json.loads(event("a")), json.loads(event("b")) | {"type": "unlisted"}])),
    "lines": post(
        event("a") + b"\n" + event("b").replace(b"song_played", b"unlisted"), b"Content-Type: application/x-ndjson"
    ),
    "Segment": post(_json({"batch": [_TRACK, _TRACK | {"event": "unlisted"}]}), path=b"/v1/batch"),
    "CloudEvents": post(
        _json([_CLOUD, _CLOUD | {"type": "unlisted"}]), b"Content-Type: application/cloudevents-batch+json"
    ),
    "OTLP": post(
        _json({"resourceLogs": [{"scopeLogs": [{"logRecords": [_RECORD, _RECORD | {"eventName": "unlisted"}]}]}]}),
        b"Content-Type: application/json",
        path=b"/v1/logs",
    ),
}


@pytest.mark.parametrize("protocol", PARTLY_VALID)
def test_an_event_that_is_rejected_beside_others_has_its_line_its_place_in_the_feed_and_the_mend(
    protocol: str, lines: Any
) -> None:
    wire = Wire(event_types=LISTED)
    wire.connection = Connection(wire.lane, lambda: None, lambda: "192.0.2.7")
    (answer,) = wire.feed(PARTLY_VALID[protocol])
    assert answer.status in {200, 202}
    (line,) = lines
    assert (line["event"], line["log_level"], line["events"], line["index"]) == (
        "invalid events rejected",
        "warning",
        1,
        1,
    )
    assert (line["client"], line["request_id"]) == ("192.0.2.7", answer.headers["x-request-id"])
    (entry,) = wire.lane.refusals.feed.since(0)
    assert (entry.index, entry.events, entry.status, entry.reason) == (1, 1, answer.status, line["example"])
    assert "EVENT_TYPES" in entry.reason
    assert "set EVENT_TYPES=* to take any (it has song_played)" in entry.reason


def test_a_request_of_which_nothing_is_valid_has_one_line_with_an_example(lines: Any) -> None:
    wire = Wire(event_types=LISTED)
    bad = event("a").replace(b"song_played", b"unlisted")
    wire.feed(post(b"[" + bad + b"," + bad + b"]"))
    (line,) = lines
    assert (line["event"], line["status"], line["index"]) == ("request refused", 400, 0)
    assert "EVENT_TYPES" in line["example"]
    assert [entry.index for entry in wire.lane.refusals.feed.since(0)] == [0, 1]


def test_lines_about_events_count_those_that_had_none(lines: Any) -> None:
    clock = Clock()
    refusals = RefusalLog(clock)
    answer = Response(202).about([Rejection(0, "a"), Rejection(7, "b")])
    for _ in range(100):
        refusals.tell("/events", answer, b"r", str)
    clock.now = 5.0
    refusals.tell("/events", answer, b"r", str)
    assert [(line["events"], line.get("more"), line["example"]) for line in lines] == [(2, None, "a"), (2, 198, "a")]


def test_the_feed_is_bounded_by_kind_and_counts_all() -> None:
    feed = RejectedFeed()
    feed.add("/events", 400, (), "r", "", "a lone one")
    for _ in range(10):
        feed.add("/v1/batch", 200, [Rejection(n, "x" * 10_000 + "\x1b\n") for n in range(1000)], "r", "")
    assert feed.total == 10_001
    kept = feed.since(0)
    assert len(kept) == 1 + MOST_OF_A_KIND
    assert (kept[0].reason, kept[0].index, kept[0].events) == ("a lone one", None, None)
    assert [entry.index for entry in kept[1:]] == list(range(MOST_OF_A_KIND)), "the first of the last request"
    assert {(len(entry.reason), entry.reason.isprintable()) for entry in kept[1:]} == {(MOST_WORDS, True)}
    assert feed.since(kept[-2].number) == kept[-1:]


def test_what_is_taken_has_no_line(lines: Any) -> None:
    assert Wire().feed(post(event("a")))[0].status == 202
    assert lines == []
