"""Which requests are traced; the spans of requests, commits and writes: parents, links, failures, what is current."""

from __future__ import annotations

import pytest
import structlog
import trio
from opentelemetry import baggage, propagate
from opentelemetry.trace import get_current_span

from hermes.base.errors import SinkUnavailable
from hermes.events.event import Batch, Chunk
from hermes.observe.traced_request import TracedRequest, trace_headers
from hermes.observe.tracing import MOST_TRACED, NO_TRACING, UNTRACED, traced_requests
from hermes.testing import make_chunk, make_events
from hermes.traces.spans import describe_service
from tests.traces.kit import CALLER, TRACE, Kept, batch_of, links, parent, place, traceparent

# Which requests


@pytest.mark.parametrize(
    ("share", "roll", "chosen"), [(0.0, 0.0, False), (0.3, 0.29, True), (0.3, 0.3, False), (1, 0.99, True)]
)
def test_a_share_of_the_requests_is_traced(share: float, roll: float, chosen: bool) -> None:
    spans = Kept(share, lambda: roll).spans
    assert (spans.follow({}) is not None) is chosen
    assert (spans.follow({"baggage": "a=1"}) is not None) is chosen


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_caller_that_has_decided_is_obeyed(share: float) -> None:
    spans = Kept(share).spans
    assert spans.follow(traceparent(sampled=True)) is not None
    assert spans.follow(traceparent(sampled=False)) is None


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00-0-0-01",
        f"00-{'0' * 32}-{CALLER}-01",
        f"ff-{TRACE}-{CALLER}-01",
        "\x00",
        "a" * 5000,
        f"00-{TRACE}-{CALLER}-01, 00-x",
    ],
)
def test_a_header_that_is_none_counts_as_absent(header: str) -> None:
    kept = Kept(1.0)
    request = kept.request(headers={"traceparent": header})
    assert request.trace_id != TRACE
    assert Kept(0.0).spans.follow({"traceparent": header}) is None


# Requests


def test_a_request_continues_its_callers_trace() -> None:
    kept = Kept()
    context = kept.spans.follow(traceparent(sampled=True) | {"tracestate": "vendor=1"})
    assert context is not None
    open_span = kept.spans.begin(context, "/v1/batch", "/v1/batch", 120, b"id-1")
    open_span.request.accepted = 2
    assert kept.ended == []
    open_span.request.rejected = 1
    open_span.end(200)
    (span,) = kept.ended
    assert span.name == "POST /v1/batch"
    assert (place(span)[0], parent(span)) == (TRACE, CALLER)
    assert span.get_span_context().trace_state.get("vendor") == "1"  # type: ignore[union-attr]
    assert (open_span.request.trace_id, open_span.request.span_id) == place(span)
    assert dict(span.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/v1/batch",
        "url.path": "/v1/batch",
        "http.request.body.size": 120,
        "http.response.status_code": 200,
        "hermes.request.id": "id-1",
        "hermes.events.accepted": 2,
        "hermes.events.rejected": 1,
    }
    assert span.status.is_unset


@pytest.mark.parametrize(("status", "failed"), [(202, False), (400, False), (401, False), (500, True), (503, True)])
def test_only_the_servers_own_failures_are_errors(status: int, failed: bool) -> None:
    kept = Kept()
    kept.spans.begin(kept.spans.root, "/events", "/events", 1, b"x").end(status)
    (span,) = kept.ended
    assert (not span.status.is_ok and not span.status.is_unset) is failed
    assert ((span.attributes or {}).get("error.type") == str(status)) is failed


# Work of many requests


def test_without_a_traced_request_there_is_no_span() -> None:
    kept = Kept()
    batch = batch_of(None, None)
    assert kept.spans.write("db", batch, 1) is UNTRACED
    assert kept.spans.commit(batch.chunks) is UNTRACED
    kept.spans.drop("db", batch, "unavailable")
    assert kept.ended == []


def test_no_tracing_traces_nothing() -> None:
    batch = batch_of(None)
    NO_TRACING.drop("db", batch, "unavailable")
    with NO_TRACING.write("db", batch, 1) as work, NO_TRACING.commit(batch.chunks):
        work.note("nothing")
        assert not get_current_span().get_span_context().is_valid


def test_a_write_for_one_request_is_its_child_and_links_to_it() -> None:
    kept = Kept()
    request = kept.request()
    with kept.spans.write("db", batch_of(None, request, None), 3):
        assert kept.ended == []
    (span,) = kept.ended
    assert (span.name, place(span)[0], parent(span)) == ("db write", request.trace_id, request.span_id)
    assert links(span) == [(request.trace_id, request.span_id)]
    assert dict(span.attributes or {}) == {
        "messaging.system": "hermes",
        "messaging.operation.name": "write",
        "messaging.operation.type": "send",
        "messaging.destination.name": "db",
        "messaging.batch.message_count": 3,
        "hermes.write.attempt": 3,
    }
    assert span.status.is_unset


def test_a_write_for_many_requests_is_in_the_trace_of_each() -> None:
    kept = Kept()
    requests = [kept.request(f"r{number}") for number in range(3)]
    with kept.spans.write("db", batch_of(*requests, requests[0]), 1) as work:
        work.note("dead-lettered", events=2, reason="cursed")
    first, *others = kept.ended
    assert [(place(span)[0], parent(span)) for span in kept.ended] == [
        (each.trace_id, each.span_id) for each in requests
    ]
    assert links(first) == [(each.trace_id, each.span_id) for each in requests]
    assert [links(span) for span in others] == [[place(first)]] * 2
    for span in kept.ended:
        (note,) = span.events
        assert (note.name, dict(note.attributes or {})) == ("dead-lettered", {"events": 2, "reason": "cursed"})


def test_the_spans_of_one_write_are_bounded() -> None:
    kept = Kept()
    requests = [kept.request() for _ in range(MOST_TRACED + 50)]
    batch = batch_of(*requests)
    assert traced_requests(batch.chunks) == requests[:MOST_TRACED]
    batch.chunks[0].traced = requests  # all of them in one chunk
    with kept.spans.write("db", batch, 1):
        pass
    assert len(kept.ended) == MOST_TRACED
    assert len(kept.ended[0].links) == MOST_TRACED


def test_a_failed_write_says_why() -> None:
    kept = Kept()
    with pytest.raises(SinkUnavailable), kept.spans.write("db", batch_of(kept.request()), 1):
        raise SinkUnavailable("connection refused")
    (span,) = kept.ended
    assert not span.status.is_ok
    assert span.status.description == "connection refused"
    assert (span.attributes or {})["error.type"] == "SinkUnavailable"


async def test_a_write_that_is_cancelled_says_so(autojump_clock: trio.testing.MockClock) -> None:
    kept = Kept()
    with trio.move_on_after(1), kept.spans.write("db", batch_of(kept.request()), 1):
        await trio.sleep_forever()
    (span,) = kept.ended
    assert (span.attributes or {})["error.type"] == "cancelled"


def test_a_drop_is_a_failed_span_in_each_trace() -> None:
    kept = Kept()
    requests = [kept.request("a"), kept.request("b")]
    kept.spans.drop("db", batch_of(*requests), "circuit_open")
    assert [(span.name, parent(span)) for span in kept.ended] == [("db drop", each.span_id) for each in requests]
    assert {span.status.description for span in kept.ended} == {"circuit_open"}


def test_a_commit_is_traced_for_those_who_wait_for_it() -> None:
    kept = Kept()
    waits, waits_not = kept.request("a"), kept.request("b")
    waiting, promised = (batch_of(each).chunks[0] for each in (waits, waits_not))
    waiting.waiting.append(lambda _outcome, _receipt: None)
    with kept.spans.commit([promised, waiting]):
        pass
    (span,) = kept.ended
    assert (span.name, parent(span)) == ("journal commit", waits.span_id)
    assert dict(span.attributes or {}) == {"hermes.commit.records": 2, "hermes.commit.events": 2}


# What a sink sees


def test_a_sink_can_pass_the_context_on() -> None:
    kept = Kept()
    headers: dict[str, str] = {}
    with kept.spans.write("db", batch_of(kept.request(headers=traceparent(sampled=True))), 1):
        propagate.inject(headers)
        assert trace_headers() == headers
    assert trace_headers() == {}
    (span,) = kept.ended
    trace, own = place(span)
    assert headers == {"traceparent": f"00-{trace}-{own}-01"}
    assert trace == TRACE
    assert not get_current_span().get_span_context().is_valid


def test_baggage_goes_on_where_it_is_that_of_all() -> None:
    kept = Kept()
    one = kept.request(headers={"baggage": "tenant=a"})
    other = kept.request(headers={"baggage": "tenant=b"})
    with kept.spans.write("db", batch_of(one, None), 1):
        assert baggage.get_all() == {"tenant": "a"}
    with kept.spans.write("db", batch_of(one, other), 1):
        assert baggage.get_all() == {}
    assert baggage.get_all() == {}


def test_log_lines_of_a_write_have_its_ids() -> None:
    kept = Kept()
    with kept.spans.write("db", batch_of(kept.request("one")), 1):
        bound = structlog.contextvars.get_contextvars()
    (span,) = kept.ended
    assert bound == {"request_id": "one", "trace_id": place(span)[0], "span_id": place(span)[1]}
    with kept.spans.write("db", batch_of(kept.request("one"), kept.request("two")), 1):
        assert structlog.contextvars.get_contextvars().keys() == {"trace_id", "span_id"}
    assert structlog.contextvars.get_contextvars() == {}


# On the way


def test_a_chunk_that_is_cut_is_traced_in_every_piece() -> None:
    chunk = make_chunk(make_events(5))
    chunk.traced = [TracedRequest(b"r", None, "", "")]
    pieces = chunk.split(2)
    assert len(pieces) == 3
    assert all(piece.traced == chunk.traced for piece in pieces)
    assert traced_requests(pieces) == chunk.traced
    assert Chunk([], 0.0, 0).traced is None
    assert traced_requests(Batch(()).chunks) == []


# Where spans are from


def test_opentelemetrys_variables_name_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    assert describe_service().attributes["service.name"] == "hermes"
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=ingest,deployment.environment.name=test")
    assert describe_service().attributes["service.name"] == "ingest"
    assert describe_service().attributes["deployment.environment.name"] == "test"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "edge")
    assert describe_service().attributes["service.name"] == "edge"
    assert describe_service().attributes["telemetry.sdk.language"] == "python"
