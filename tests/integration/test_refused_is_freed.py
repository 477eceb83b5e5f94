"""What is refused gives its memory back at once, whoever refuses it: without help from the garbage collector.

The service lets the collector run rarely, for events are in no cycles. So an error that holds a frame which holds the
error keeps all that the frame has, the events of a request among it, and a failure that lasts takes the machine's
memory. Each case here refuses the same request many times while the collector is off, and looks at what is left.
"""

from __future__ import annotations

import gc
import gzip
import json
import sqlite3
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio

from hermes import Batch, BatchRejected, SinkUnavailable
from hermes.events.sink import DeliverySettings
from hermes.testing import ScriptedSink
from tests.http_client import Client, connect, event, get, post
from tests.service import Service, open_service

EVENTS = 200
FILLING = 500
WARM_UP, TIMES = 3, 12
NDJSON = b"Content-Type: application/x-ndjson"
EXAMPLE = [event(str(number), payload={"filling": "x" * FILLING}) for number in range(EVENTS)]
BODY = b"\n".join(EXAMPLE)
# Of the last request the body may still be there, when of the last one before it was not.
ALLOWED = TIMES * len(BODY) / 5
"""Bytes that the refusals may leave: lines of the log, counters, what a library caches."""

Ask = Callable[[Service, Client], Awaitable[int]]


class RefusingSink(ScriptedSink):
    """Each write fails with an error of its own, as a real sink's do."""

    refuse: Callable[[Batch], Exception] | None = None

    async def write(self, batch: Batch) -> None:
        await trio.lowlevel.checkpoint()
        if self.refuse is not None:
            raise self.refuse(batch)


def unavailable(_batch: Batch) -> Exception:
    return SinkUnavailable("the test says so")


def rejected(batch: Batch) -> Exception:
    # Not all of them: that would be a fault of the sink.
    return BatchRejected(dict.fromkeys(range(0, len(batch), 2), "the test says so"))


def fail(*_: object) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    raise error


async def ask(request: bytes, _service: Service, client: Client) -> int:
    return (await client.ask(request)).status


async def ask_anew(request: bytes, service: Service, _client: Client) -> int:
    """On a connection of its own, which the refusal ends."""
    async with connect(service) as client:
        return (await client.ask(request)).status


async def hang_up(request: bytes, service: Service, _client: Client) -> int:
    """Send, wait until the request waits for room, and go."""
    admission = service.engine.intake.admission
    async with connect(service) as client:
        await client.send(request)
        with trio.fail_after(5):
            while not admission._waiters:  # noqa: ASYNC110 - it happens in another task
                await trio.sleep(0.001)
    with trio.fail_after(5):
        while admission._waiters:  # noqa: ASYNC110
            await trio.sleep(0.001)
    return 0


@dataclass
class Case:
    """``request`` is answered with ``status`` by a service with ``settings``; ``ask`` sends it."""

    name: str
    request: bytes
    status: int
    settings: dict[str, Any] = field(default_factory=dict)
    refuse: Callable[[Batch], Exception] | None = None
    full_disk: bool = False
    failing_disk: bool = False
    stalled: bool = False
    """The sink takes nothing, and the queue is full."""
    first: bytes = b""
    """A request that puts the connection on the other lane."""
    ask: Callable[[bytes, Service, Client], Awaitable[int]] = ask


def otlp(body: Any) -> bytes:
    return post(json.dumps(body).encode(), b"Content-Type: application/json", path=b"/v1/logs")


RECORDS = [{"timeUnixNano": "1", "body": {"stringValue": "x" * FILLING}} for _ in range(EVENTS)]
CHUNKED = b"\r\n".join(
    (b"POST /events HTTP/1.1", b"Host: test", NDJSON, b"Transfer-Encoding: chunked", b"", b"%x" % len(BODY), BODY)
)
MEMORY = {"durability": "memory"}
FULL = {"durability": "memory", "queue_size": EVENTS}
DELIVERED = b"Hermes-Ack: delivered"

CASES = [
    Case("disk full", post(BODY, NDJSON), 503, full_disk=True),
    Case("disk failing", post(BODY, NDJSON), 503, failing_disk=True),
    Case("disk full, delivery awaited", post(BODY, NDJSON, DELIVERED), 503, full_disk=True),
    Case("disk full, the other lane", post(BODY, NDJSON), 503, full_disk=True, first=get(b"/health")),
    Case("journal full", post(BODY, NDJSON), 503, {"journal_max_bytes": len(BODY) + 1}, stalled=True),
    Case("larger than the journal", post(BODY, NDJSON), 413, {"journal_max_bytes": len(BODY) - 1}),
    Case("queue full", post(BODY, NDJSON), 503, FULL, stalled=True),
    Case(
        "queue full, room awaited",
        post(BODY, NDJSON),
        0,
        FULL | {"backpressure_mode": "block"},
        stalled=True,
        ask=hang_up,
    ),
    Case("too many events", post(BODY, NDJSON), 413, {"queue_size": EVENTS - 1}),
    Case(
        "too many bytes inflated",
        post(gzip.compress(BODY), NDJSON, b"Content-Encoding: gzip"),
        413,
        {"max_body_bytes": len(BODY) - 1},
    ),
    Case("chunks of too many bytes", CHUNKED, 413, {"max_body_bytes": len(BODY) - 1}, ask=ask_anew),
    Case("no gzip", post(BODY, NDJSON, b"Content-Encoding: gzip"), 400),
    Case("no JSON", post(b"[" + b",".join(EXAMPLE)), 400),
    Case("no event is valid", post(b"\n".join(b'{"id":1,' + each[9:] for each in EXAMPLE), NDJSON), 400),
    Case("no CloudEvents", post(b"[" + b",".join(EXAMPLE), b"Content-Type: application/cloudevents-batch+json"), 400),
    Case("no Segment", post(b'{"batch":[' + b",".join(EXAMPLE), path=b"/v1/batch"), 400),
    Case("no OTLP", otlp(RECORDS), 400),
    Case(
        "an OTLP record is bad",
        otlp({"resourceLogs": [{"scopeLogs": [{"logRecords": [*RECORDS, {"timeUnixNano": "abc"}]}]}]}),
        200,
        {"durability": "memory", "event_types": ("*",)},
    ),
    Case("no protobuf", post(BODY, b"Content-Type: application/x-protobuf", path=b"/v1/logs"), 400),
    Case("the sink is away", post(BODY, NDJSON, DELIVERED), 503, MEMORY, unavailable),
    Case("dead letters", post(BODY, NDJSON, DELIVERED), 422, MEMORY | {"dead_letters": 1}, rejected),
    Case("dead letters on disk", post(BODY, NDJSON, DELIVERED), 422, {"dead_letters": 1}, rejected),
]


@asynccontextmanager
async def opened(case: Case, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    sink = RefusingSink()
    sink.refuse = case.refuse
    delivery = DeliverySettings(backoff=0.001, max_backoff=0.001, retries=1, breaker_failures=10**6)
    async with open_service(sink if not case.stalled else ScriptedSink(), delivery, **case.settings) as service:
        if case.failing_disk:
            monkeypatch.setattr("hermes.store.log.sqlite.tables.insert", fail)
        if case.full_disk:
            monkeypatch.setattr("hermes.store.log.sqlite.log.room", lambda _folder: 0)
        if case.stalled:
            service.sink.stall()
            async with connect(service) as client:
                assert (await client.ask(post(BODY, NDJSON))).status == 202
        yield service
        service.sink.resume()


async def left_of(service: Service, case: Case, client: Client) -> int:
    """Bytes that the requests have left, as soon as they are few, else after some time: the sink may still be busy."""
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(TIMES):
        assert await case.ask(case.request, service, client) == case.status
    left = ALLOWED
    with trio.move_on_after(2):
        while left >= ALLOWED:
            await trio.sleep(0.005)
            left = tracemalloc.get_traced_memory()[0] - before
    return int(left)


@pytest.mark.parametrize("case", CASES, ids=[case.name.replace(" ", "-") for case in CASES])
async def test_a_request_that_is_refused_leaves_nothing_in_memory(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(case, monkeypatch) as service, connect(service) as client:
        if case.first:
            await client.ask(case.first)
        tracemalloc.start()
        gc.collect()
        gc.disable()
        try:
            for _ in range(WARM_UP):
                assert await case.ask(case.request, service, client) == case.status
            left = await left_of(service, case, client)
        finally:
            gc.enable()
            tracemalloc.stop()
    assert left < ALLOWED, f"{left // TIMES} bytes a refusal"
