"""Log lines about refused requests: what they say, how often, and that they are about the request that was refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import structlog

from hermes.http.connection import Connection
from hermes.http.refusals import Refusals
from tests.http.kit import FakeIntake, Wire, event, head, post


@pytest.fixture
def lines() -> Any:
    with structlog.testing.capture_logs() as captured:
        yield captured


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def refuse(refusals: Refusals, route: str = "/events", status: int = 401, client: Callable[[], str] = str) -> None:
    refusals.tell(route, status, "no key", b"r", client)


def test_one_line_of_a_kind_every_few_seconds_says_how_many_had_none(lines: Any) -> None:
    clock = Clock()
    refusals = Refusals(clock)
    for _ in range(1000):
        refuse(refusals)
    assert len(lines) == 1
    clock.now = 5.0
    refuse(refusals)
    clock.now = 10.0
    refuse(refusals)
    assert [line.get("more") for line in lines] == [None, 999, None]


def test_kinds_are_routes_and_statuses(lines: Any) -> None:
    refusals = Refusals(Clock())
    for _ in range(10):
        refuse(refusals)
        refuse(refusals, status=503)
        refuse(refusals, route="/v1/logs")
    assert [(line["route"], line["status"], line["log_level"]) for line in lines] == [
        ("/events", 401, "info"),
        ("/events", 503, "warning"),
        ("/v1/logs", 401, "info"),
    ]


def test_the_address_is_looked_up_for_a_line_alone(lines: Any) -> None:
    asked = []

    def client() -> str:
        asked.append(1)
        return "192.0.2.1"

    refusals = Refusals(Clock())
    for _ in range(10):
        refuse(refusals, client=client)
    assert len(asked) == 1
    assert lines[0]["client"] == "192.0.2.1"


@pytest.mark.parametrize(
    ("request_", "status", "route", "reason"),
    [
        (post(b"{", b"X-API-Key: right"), 400, "/events", "JSON is malformed"),
        (post(event("a")), 401, "/events", "this service wants a key"),
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


def test_what_is_taken_has_no_line(lines: Any) -> None:
    assert Wire().feed(post(event("a")))[0].status == 202
    assert lines == []
