"""A traced request in the engine: its events are marked on every way in, and the work for them is traced to its end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import trio
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import get_current_span
from trio.testing import MockClock

from hermes.base.errors import BatchRejected
from hermes.dead_letters import MemoryDeadLetters
from hermes.events.ack import Ack, Outcome
from hermes.events.engine.context import SinkContext
from hermes.events.engine.intake import Intake
from hermes.events.engine.journal import open_journal
from hermes.events.engine.making import make_engine
from hermes.events.event import Batch
from hermes.events.sink import DeliverySettings
from hermes.observe.traced_request import TracedRequest
from hermes.testing import ScriptedSink, make_events
from hermes.testing.fakes import unavailable
from tests.events.engine.durable import MIB, ScriptedLog
from tests.events.engine.kit import around, settings
from tests.traces.kit import Kept, parent


@dataclass
class TracedEngine:
    """An intake before one sink, with all that has ended as a span."""

    kept: Kept
    intake: Intake
    sink: ScriptedSink

    def submit(self, request: TracedRequest | None, count: int = 1, ack: Ack = Ack.ACCEPTED) -> list[Outcome]:
        """Offer events as the route of a traced request does. The list has the outcome as soon as it is known."""
        outcomes: list[Outcome] = []
        events = make_events(count, prefix=f"{id(request)}-{len(self.sink.stored)}")
        self.intake.submit(events, 100 * count, ack, lambda outcome, _receipt: outcomes.append(outcome), request)
        return outcomes

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.kept.ended if span.name == name]


@asynccontextmanager
async def running(
    sink: ScriptedSink, log: ScriptedLog | None = None, *, queue: int = 1000, blocking: bool = False, **delivery: Any
) -> AsyncIterator[TracedEngine]:
    """Leaving the block closes the intake and waits until all is settled."""
    kept = Kept()
    journal = await open_journal(log, 100 * MIB) if log is not None else None
    service = settings(queue_size=queue, queue_bytes=MIB, backpressure_mode="block" if blocking else "strict")
    context = SinkContext("db", sink, DeliverySettings(**delivery), MemoryDeadLetters(100), kept.spans)
    engine = make_engine([context], service, journal, kept.spans)
    async with around(engine):
        yield TracedEngine(kept, engine.intake, sink)


def children_of(request: TracedRequest, spans: list[ReadableSpan]) -> list[ReadableSpan]:
    return [span for span in spans if parent(span) == request.span_id]


async def test_requests_that_share_a_chunk_are_both_in_the_write(autojump_clock: MockClock) -> None:
    async with running(ScriptedSink()) as engine:
        requests = [engine.kept.request("a"), engine.kept.request("b")]
        engine.submit(requests[0], 2)
        engine.submit(None, 3)
        engine.submit(requests[1])
        await engine.sink.wait_stored(6)
    assert len(engine.sink.writes) == 1
    assert [request.accepted for request in requests] == [2, 1]
    for request in requests:
        (write,) = children_of(request, engine.kept.ended)
        assert (write.attributes or {})["messaging.batch.message_count"] == 6


async def test_a_request_of_several_batches_is_in_each(autojump_clock: MockClock) -> None:
    async with running(ScriptedSink(max_batch=10)) as engine:
        request = engine.kept.request()
        engine.submit(request, 25)
        await engine.sink.wait_stored(25)
    counts = [(span.attributes or {})["messaging.batch.message_count"] for span in engine.named("db write")]
    assert counts == [10, 10, 5]
    assert len(children_of(request, engine.kept.ended)) == 3


async def test_what_is_not_traced_makes_no_span(autojump_clock: MockClock) -> None:
    async with running(ScriptedSink(), ScriptedLog()) as engine:
        engine.submit(None, 3, Ack.DURABLE)
        await engine.sink.wait_stored(3)
    assert engine.kept.ended == []


@pytest.mark.parametrize("ack", [Ack.ACCEPTED, Ack.DURABLE, Ack.DELIVERED])
async def test_a_commit_is_in_the_trace_if_the_answer_waits_for_it(autojump_clock: MockClock, ack: Ack) -> None:
    async with running(ScriptedSink(), ScriptedLog()) as engine:
        request = engine.kept.request()
        outcomes = engine.submit(request, 2, ack)
        await engine.sink.wait_stored(2)
    assert outcomes == [Outcome.TAKEN]
    assert len(engine.named("journal commit")) == (ack is not Ack.ACCEPTED)
    assert len(children_of(request, engine.named("db write"))) == 1


async def test_a_commit_that_fails_is_a_failed_span_of_a_request_that_took_nothing(autojump_clock: MockClock) -> None:
    log = ScriptedLog()
    log.fail("append")
    async with running(ScriptedSink(), log) as engine:
        request = engine.kept.request()
        outcomes = engine.submit(request, 2, Ack.DURABLE)
        await trio.sleep(1)
        log.mend()
    assert outcomes == [Outcome.FAILED]
    assert request.accepted == 0
    (commit,) = engine.kept.ended
    assert (commit.attributes or {})["error.type"] == "LogUnavailable"
    assert commit.status.description == "the test says so"


async def test_a_request_that_waited_for_room_is_traced_as_itself(autojump_clock: MockClock) -> None:
    sink = ScriptedSink()
    sink.stall()
    async with running(sink, queue=2, blocking=True) as engine:
        engine.submit(None, 2)
        request = engine.kept.request()
        outcomes = engine.submit(request, 2)
        await trio.sleep(1)
        assert outcomes == []
        sink.resume()
        await sink.wait_stored(4)
    assert outcomes == [Outcome.TAKEN]
    assert request.accepted == 2
    assert len(children_of(request, engine.named("db write"))) == 1


async def test_every_attempt_is_a_span_and_the_drop_after_the_last(autojump_clock: MockClock) -> None:
    async with running(ScriptedSink.following(*unavailable(3)), retries=2) as engine:
        request = engine.kept.request()
        engine.submit(request)
        await engine.sink.wait_writes(3)
    spans = children_of(request, engine.kept.ended)
    assert [span.name for span in spans] == ["db write"] * 3 + ["db drop"]
    assert [(span.attributes or {}).get("hermes.write.attempt") for span in spans] == [1, 2, 3, None]
    assert [span.status.description for span in spans] == [f"refusal {n} of 3" for n in (1, 2, 3)] + ["unavailable"]


async def test_a_drop_by_an_open_breaker_is_a_span(autojump_clock: MockClock) -> None:
    async with running(ScriptedSink.following(*unavailable(1)), retries=0, breaker_failures=1) as engine:
        engine.submit(None)
        await engine.sink.wait_writes(1)
        await trio.sleep(1)
        request = engine.kept.request()
        engine.submit(request)
    (span,) = children_of(request, engine.kept.ended)
    assert (span.name, span.status.description) == ("db drop", "circuit_open")


async def test_dead_letters_are_noted_and_the_write_is_no_failure(autojump_clock: MockClock) -> None:
    async with running(ScriptedSink.following(BatchRejected({0: "cursed", 2: "cursed"}))) as engine:
        request = engine.kept.request()
        engine.submit(request, 3)
        await engine.sink.wait_stored(1)
    (write,) = children_of(request, engine.kept.ended)
    (note,) = write.events
    assert (note.name, dict(note.attributes or {})) == ("dead-lettered", {"events": 2, "reason": "cursed"})
    assert write.status.is_unset


async def test_the_write_is_current_in_the_sink_and_nowhere_else(autojump_clock: MockClock) -> None:
    seen = []

    class Looking(ScriptedSink):
        async def write(self, batch: Batch) -> None:
            await super().write(batch)
            seen.append(get_current_span().get_span_context())

    async with running(Looking()) as engine:
        engine.submit(engine.kept.request())
        await engine.sink.wait_stored(1)
        engine.submit(None)
        await engine.sink.wait_stored(2)
        assert not get_current_span().get_span_context().is_valid
    (write,) = engine.kept.ended
    assert seen[0] == write.get_span_context()
    assert not seen[1].is_valid


async def test_what_went_through_the_disk_has_lost_its_trace(autojump_clock: MockClock) -> None:
    sink = ScriptedSink(max_batch=2)
    sink.stall()
    async with running(sink, ScriptedLog(), queue=4) as engine:
        engine.submit(None, 2)
        await sink.wait_writes(1)
        engine.submit(None, 2)
        await trio.sleep(1)
        request = engine.kept.request()
        engine.submit(request, 2)  # memory is full: it stays on disk
        await trio.sleep(1)
        sink.resume()
        await sink.wait_stored(6)
    assert children_of(request, engine.kept.ended) == []
