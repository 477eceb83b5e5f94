"""Traces of a running service: from the caller's context to the sink, sent to a receiver, which may as well be down."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from hermes_sinks.http.settings import HttpSettings
from hermes_sinks.http.sink import open_http

from hermes import Storage
from hermes.base.errors import BatchRejected
from hermes.events.event import Batch
from hermes.testing import ScriptedSink
from hermes.traces.span_metrics import SPANS_DROPPED
from tests.integration.collector import Span, open_collector
from tests.integration.program import Start, events
from tests.integration.test_bad_input import BOTH_WAYS
from tests.observe.test_metrics import value
from tests.service import Service, open_service

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED: dict[str, Any] = {"traceparent": f"00-{TRACE}-{CALLER}-01", "tracestate": "vendor=1"}
UNSAMPLED: dict[str, Any] = {"traceparent": f"00-{TRACE}-{CALLER}-00"}
PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "trace.md"
SERVER, CLIENT = 2, 3
"""Span kinds of the protocol."""


async def post(service: Service, count: int = 1, prefix: str = "e", **headers: str) -> httpx.Response:
    body = events(count, prefix)
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.post(f"{service.url}/events", json=body if count > 1 else body[0], headers=headers)


def named(spans: list[Span], name: str) -> list[Span]:
    return [span for span in spans if span.name == name]


def only(spans: list[Span], name: str) -> Span:
    (span,) = named(spans, name)
    return span


@BOTH_WAYS
async def test_a_callers_trace_goes_from_the_request_to_the_sink(durability: str) -> None:
    async with open_collector() as collector:
        async with open_service(durability=durability, traces_endpoint=collector.url, traces_sample=0.0) as service:
            answer = await post(service, 3, **SAMPLED)
            assert answer.status_code == 202
            await service.sink.wait_stored(3)
        spans = collector.spans
    assert {span.trace_id for span in spans} == {TRACE}
    request, write = only(spans, "POST /events"), only(spans, "scripted write")
    assert (request.parent, request.kind, request.state) == (CALLER, SERVER, "vendor=1")
    assert request.attributes["http.request.method"] == "POST"
    assert request.attributes["http.route"] == request.attributes["url.path"] == "/events"
    assert request.attributes["http.response.status_code"] == 202
    assert request.attributes["hermes.events.accepted"] == 3
    assert request.attributes["hermes.events.rejected"] == 0
    assert request.attributes["hermes.request.id"] == answer.headers["x-request-id"]
    assert (write.parent, write.kind, write.links) == (request.span_id, CLIENT, {request.context})
    assert write.attributes["messaging.batch.message_count"] == 3
    assert write.attributes["messaging.destination.name"] == "scripted"
    assert write.attributes["hermes.write.attempt"] == 1
    assert request.resource["service.name"] == "hermes"
    assert not any(span.failed for span in spans)
    if durability == "disk":
        commit = only(spans, "journal commit")
        assert (commit.parent, commit.attributes["hermes.commit.events"]) == (request.span_id, 3)
        assert request.began <= commit.began <= commit.ended <= request.ended
    else:
        assert not named(spans, "journal commit")


async def test_requests_that_share_a_write_have_it_in_their_own_traces_with_links() -> None:
    sink = ScriptedSink()
    async with open_collector() as collector:
        async with open_service(sink, durability="memory", traces_endpoint=collector.url, traces_sample=1.0) as service:
            sink.stall()
            assert (await post(service, prefix="before", **UNSAMPLED)).status_code == 202
            await sink.wait_writes(1)  # the three gather behind it
            for number in range(3):
                assert (await post(service, prefix=f"r{number}")).status_code == 202
            sink.resume()
            await sink.wait_stored(4)
        spans = collector.spans
    assert len(sink.writes) == 2
    requests, writes = named(spans, "POST /events"), named(spans, "scripted write")
    assert len({span.trace_id for span in requests}) == 3
    assert {(span.trace_id, span.parent) for span in writes} == {span.context for span in requests}
    first = next(span for span in writes if len(span.links) == 3)
    assert first.links == {span.context for span in requests}
    assert [span.links for span in writes if span is not first] == [{first.context}] * 2


@dataclass
class Forwarding(ScriptedSink):
    """Posts every batch with the sink ``http``."""

    http: Any = None

    async def write(self, batch: Batch) -> None:
        await self.http.write(batch)
        await super().write(batch)


async def test_a_trace_goes_on_in_the_hermes_that_is_forwarded_to() -> None:
    async with open_collector() as collector:
        traces: dict[str, Any] = {"traces_endpoint": collector.url, "traces_sample": 0.0, "durability": "memory"}
        async with open_service(**traces) as second:
            settings = HttpSettings(url=f"{second.url}/events", format="ndjson")
            async with (
                open_http(settings, Storage()) as http,
                open_service(Forwarding(http=http), **traces) as first,
            ):
                assert (await post(first, **SAMPLED)).status_code == 202
                await second.sink.wait_stored(1)
        spans = {span.span_id: span for span in collector.spans}
    assert {span.trace_id for span in spans.values()} == {TRACE}
    (last,) = spans.keys() - {span.parent for span in spans.values()}
    path = []
    while last in spans:
        path.append(spans[last].name)
        last = spans[last].parent
    assert path == ["scripted write", "POST /events", "scripted write", "POST /events"]


async def test_a_dead_letter_is_noted_on_the_write() -> None:
    sink = ScriptedSink.following(BatchRejected({1: "it is cursed"}))
    async with open_collector() as collector:
        async with open_service(sink, traces_endpoint=collector.url) as service:
            assert (await post(service, 2, **SAMPLED)).status_code == 202
            await sink.wait_stored(1)
        write = only(collector.spans, "scripted write")
    assert write.notes == [("dead-lettered", {"events": 1, "reason": "it is cursed"})]
    assert not write.failed


@pytest.mark.parametrize(("headers", "share"), [(UNSAMPLED, 1.0), ({}, 0.0)])
async def test_what_is_not_sampled_leaves_no_span(headers: dict[str, Any], share: float) -> None:
    async with open_collector() as collector:
        async with open_service(traces_endpoint=collector.url, traces_sample=share) as service:
            assert (await post(service, **headers)).status_code == 202
            await service.sink.wait_stored(1)
        assert collector.spans == []


async def test_a_refused_request_is_traced_too() -> None:
    async with open_collector() as collector:
        async with open_service(traces_endpoint=collector.url, api_keys=("right",)) as service:
            assert (await post(service, **SAMPLED)).status_code == 401
        span = only(collector.spans, "POST /events")
    assert span.attributes["http.response.status_code"] == 401
    assert not span.failed


async def test_both_lanes_trace_alike() -> None:
    async with open_collector() as collector:
        async with open_service(traces_endpoint=collector.url) as service:
            async with httpx.AsyncClient(http1=True) as client:
                path = f"{service.url}/events?x=1"
                fast = await client.post(path, json=events(1, "fast")[0], headers=SAMPLED)
                # What follows an Upgrade on a connection is the control lane's.
                upgrade = {"Connection": "Upgrade", "Upgrade": "h2c"}
                slow = await client.post(path, json=events(1, "slow")[0], headers=SAMPLED | upgrade)
            assert (fast.status_code, slow.status_code) == (202, 202)
            await service.sink.wait_stored(2)
        requests = named(collector.spans, "POST /events")
    assert {span.attributes["hermes.request.id"] for span in requests} == {
        fast.headers["x-request-id"],
        slow.headers["x-request-id"],
    }
    assert {span.attributes["url.path"] for span in requests} == {"/events"}
    assert [span.attributes["http.response.status_code"] for span in requests] == [202, 202]


async def test_a_receiver_that_is_down_costs_spans_and_nothing_else() -> None:
    async with open_collector() as collector:
        url = collector.url
    async with open_service(traces_endpoint=url, traces_sample=1.0) as service:
        for number in range(5):
            assert (await post(service, prefix=str(number))).status_code == 202
        await service.sink.wait_stored(5)
        with trio.fail_after(5):
            assert await service.stop()
        metrics = service.running.edges.metrics
    assert sum(value(metrics, "hermes_spans_dropped_total", reason=reason) for reason in SPANS_DROPPED) >= 5 + 5 + 1
    text = metrics.expose("")[0].decode()
    assert "hermes_spans_exported_total 0.0" in text
    assert 'hermes_spans_dropped_total{reason="unreachable"}' in text


async def test_a_receiver_that_never_answers_does_not_hold_up_the_stop() -> None:
    async with open_collector() as collector:
        collector.receiver.answer = _hang
        async with open_service(traces_endpoint=collector.url, traces_sample=1.0, shutdown_timeout=1.0) as service:
            assert (await post(service)).status_code == 202
            await service.sink.wait_stored(1)
            with trio.fail_after(3):
                assert await service.stop()
            metrics = service.running.edges.metrics
    assert value(metrics, "hermes_spans_dropped_total", reason="shutdown") > 0


async def test_headers_go_along() -> None:
    async with open_collector() as collector:
        headers = "authorization=Basic%20YTpi,x-team=a"
        async with open_service(traces_endpoint=collector.url, traces_headers=headers, traces_sample=1.0) as service:
            assert (await post(service)).status_code == 202
        request = collector.receiver.requests[0]
    assert request.path == "/v1/traces"
    assert request.headers["authorization"] == "Basic YTpi"
    assert request.headers["x-team"] == "a"
    assert request.headers["content-type"] == "application/x-protobuf"
    assert collector.spans


def _hang(_request: Any) -> Any:
    from tests.servers.receiver import Reply

    return Reply(hang=True)


# The document


async def test_what_the_document_shows_is_what_happens(start: Start) -> None:
    page = PAGE.read_text()
    commands = re.findall(r"```sh\n(.*?)```", page, re.S)
    (curl,) = [command for command in commands if command.startswith("curl")]
    (serve,) = [line for command in commands for line in command.splitlines() if line.endswith("hermes serve")]
    settings = dict(word.split("=", 1) for word in serve.removesuffix(" hermes serve").split())
    (tree,) = re.findall(r"```\n(POST .*?)```", page, re.S)
    told = re.findall(r"^[ ├└─]*(\w.*?)  ", tree, re.M)
    assert told == ["POST /events", "journal commit", "sqlite write"]
    async with open_collector() as collector:
        program = start(**settings | {"TRACES_ENDPOINT": collector.url})
        command = curl.replace("http://localhost:8080", await trio.to_thread.run_sync(lambda: program.url))
        ran = await trio.run_process(["sh", "-c", f"exec {command}"], capture_stdout=True, capture_stderr=True)
        answer = ran.stdout.decode()
        assert " 202 " in answer
        assert await trio.to_thread.run_sync(program.stop) == 0
        spans = collector.spans
    assert {span.name for span in spans} == set(told)
    (trace,) = {span.trace_id for span in spans}
    assert f"http://localhost:16686/trace/{trace}" in page
    for span in spans:
        (line,) = [line for line in tree.splitlines() if span.name in line]
        names = re.findall(r"\b(?:hermes|http|messaging)\.[a-z_.]+", line.replace(" and .", ", hermes.events."))
        assert names
        assert set(names) <= span.attributes.keys()
    (request,) = named(spans, "POST /events")
    assert f"x-request-id: {request.attributes['hermes.request.id']}" in answer.lower()
