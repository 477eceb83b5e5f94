"""Data routes that are traced, as the fast lane calls them: what is chosen, its ids, its end, and the others' rest."""

from __future__ import annotations

from typing import Any

import pytest
import structlog
from opentelemetry.sdk.trace import ReadableSpan

from hermes.events.ack import Ack
from hermes.net.http.connection import Connection
from hermes.net.http.head import Heads
from hermes.net.http.lane import Lane
from hermes.net.http.traced_routes import trace_routes
from tests.net.http.kit import FakeIntake, Wire, event, post
from tests.traces.kit import CALLER, TRACE, Kept, parent, place

CALL = b"traceparent: 00-%b-%b-01" % (TRACE.encode(), CALLER.encode())


class TracedWire(Wire):
    """A wire whose routes are traced."""

    def __init__(self, share: float = 0.0, *, keys: tuple[str, ...] = (), **intake: Any) -> None:
        super().__init__(FakeIntake(**intake), keys=keys)
        self.kept = Kept(share)
        self.marks = self.intake.marks
        routes = trace_routes(self.routes, self.kept.spans, lambda: self.lane.request_id())
        self.lane = Lane(Heads({("POST", route.name): route for route in routes}), self.budget)
        self.lane.begin_turn()
        self.connection = Connection(self.lane, self._ready)

    @property
    def spans(self) -> list[ReadableSpan]:
        return self.kept.ended


def fact(span: ReadableSpan, name: str) -> Any:
    return (span.attributes or {}).get(name)


def test_a_callers_context_is_followed_and_the_events_are_marked() -> None:
    wire = TracedWire()
    (answer,) = wire.feed(post(b"[%b,%b,7]" % (event("a"), event("b")), CALL))
    assert answer.status == 202
    (span,) = wire.spans
    assert (place(span)[0], parent(span)) == (TRACE, CALLER)
    assert fact(span, "hermes.request.id") == answer.headers["x-request-id"]
    assert fact(span, "hermes.events.rejected") == 1
    assert [mark.span_id for mark in wire.marks if mark] == [place(span)[1]] * 2


def test_a_client_without_a_context_is_traced_by_chance_and_its_head_stays_known() -> None:
    wire = TracedWire(share=1.0)
    for _ in range(3):
        wire.feed(post(event("a")))
    assert len({place(span)[0] for span in wire.spans}) == 3
    assert wire.lane.recall(post(event("a"))[: -len(event("a"))]) is not None


def test_a_head_with_a_context_is_not_remembered() -> None:
    wire = TracedWire()
    wire.feed(post(event("a"), CALL))
    assert wire.lane.recall(post(event("a"), CALL)[: -len(event("a"))]) is None


def test_what_is_not_chosen_is_answered_by_the_route_alone() -> None:
    wire = TracedWire(share=0.0)
    unsampled = CALL.removesuffix(b"01") + b"00"
    answers = wire.feed(post(event("a")), post(event("b"), unsampled))
    assert [answer.status for answer in answers] == [202, 202]
    assert wire.spans == []
    assert wire.marks == [None, None]


def test_each_of_many_requests_on_a_connection_has_its_own_id_and_span() -> None:
    wire = TracedWire()
    answers = wire.feed(post(event("a"), CALL) + post(event("b")) + post(event("c"), CALL, b"X-Request-Id: mine"))
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert len(set(ids)) == 3
    assert [fact(span, "hermes.request.id") for span in wire.spans] == [ids[0], ids[2]] == [ids[0], "mine"]


def test_a_span_ends_when_the_answer_is_known() -> None:
    wire = TracedWire(room=0, blocking=True, ack=Ack.DURABLE)
    assert wire.feed(post(event("a"), CALL)) == []
    assert wire.spans == []
    wire.intake.make_room(1)
    (answer,) = wire.answers()
    (span,) = wire.spans
    assert fact(span, "http.response.status_code") == answer.status == 202
    assert fact(span, "hermes.request.id") == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (post(event("a"), CALL), 401),
        (post(event("a"), CALL, b"X-API-Key: right", b"Content-Type: text/x"), 415),
        (post(b"{", CALL, b"X-API-Key: right"), 400),
        (post(b"[7]", CALL, b"X-API-Key: right"), 400),
    ],
)
def test_a_refused_request_is_traced_and_the_log_has_its_ids(request_: bytes, status: int) -> None:
    wire = TracedWire(keys=("right",))
    with structlog.testing.capture_logs() as lines:
        (answer,) = wire.feed(request_)
    assert answer.status == status
    (span,), (line,) = wire.spans, lines
    assert fact(span, "http.response.status_code") == status
    assert (line["trace_id"], line["span_id"]) == place(span)
    assert line["request_id"] == fact(span, "hermes.request.id") == answer.headers["x-request-id"]
    assert not any(wire.marks)


def test_the_same_refusal_for_another_request_is_not_traced() -> None:
    wire = TracedWire(keys=("right",))
    with structlog.testing.capture_logs() as lines:
        first, second = wire.feed(post(event("a"), CALL), post(event("a")))
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert len(wire.spans) == 1
    assert lines[0]["request_id"] == first.headers["x-request-id"]


def test_answers_are_the_same_bytes_with_and_without() -> None:
    requests = [post(event("a"), b"X-Request-Id: r"), post(b"[7]", b"X-Request-Id: r"), post(b"{", b"X-Request-Id: r")]
    plain, traced = Wire(), TracedWire(share=1.0)
    for request in requests:
        (one,), (other,) = plain.feed(request), traced.feed(request)
        assert (one.status, one.body) == (other.status, other.body)
        assert {**one.headers, "date": ""} == {**other.headers, "date": ""}
    assert len(traced.spans) == 3
