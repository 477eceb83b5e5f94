"""The OpenTelemetry SDK's own log exporter against a running service, and the JSON encoding as others send it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import trio
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import LogRecordExportResult, SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource

from hermes.events.ingest.refusal_counts import RefusalCounts
from tests.http_client import connect, event, post
from tests.integration.test_bad_input import BOTH_WAYS, until
from tests.integration.test_http_lanes import connect2
from tests.service import Service, open_service

ANY: dict[str, Any] = {"event_types": ("*",)}


async def export(
    service: Service, emit: Callable[[Any], object], compression: Compression = Compression.Gzip, **headers: str
) -> list[LogRecordExportResult]:
    """What an application with the SDK does, on a thread; how each export ended."""
    results: list[LogRecordExportResult] = []

    class Watched(OTLPLogExporter):
        def export(self, batch: Any) -> LogRecordExportResult:
            results.append(super().export(batch))
            return results[-1]

    def run() -> None:
        url = f"http://{service.host}:{service.port}/v1/logs"
        exporter = Watched(url, compression=compression, headers=headers, timeout=5)
        provider = LoggerProvider(Resource({"service.name": "shop"}), shutdown_on_exit=False)
        provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
        try:
            emit(provider.get_logger("orders", "1.2"))
        finally:
            provider.shutdown()

    await trio.to_thread.run_sync(run)
    return results


def record(body: Any, **members: Any) -> LogRecord:
    return LogRecord(timestamp=1714903872123456789, severity_number=SeverityNumber.INFO, body=body, **members)


@BOTH_WAYS
@pytest.mark.parametrize("compression", [Compression.Gzip, Compression.NoCompression])
async def test_what_the_exporter_sends_is_stored(compression: Compression, durability: str) -> None:
    def emit(logger: Any) -> None:
        logger.emit(record("grüße", attributes={"enduser.id": "ann", "sizes": [1, 2]}, severity_text="INFO"))
        logger.emit(record({"total": 12.5, "items": ["a"]}, event_name="order.created"))

    async with open_service(durability=durability, **ANY) as service:
        results = await export(service, emit, compression)
        assert results == [LogRecordExportResult.SUCCESS] * 2
        await service.sink.wait_stored(2)
        first, second = service.sink.stored
    assert (first.user_id, first.type, first.timestamp) == ("ann", "log", 1714903872)
    assert (second.user_id, second.type) == ("shop", "order.created")
    payload = json.loads(bytes(first.payload))
    assert payload["body"] == "grüße"
    assert payload["attributes"] == {"enduser.id": "ann", "sizes": [1, 2]}
    assert payload["resource"]["attributes"]["service.name"] == "shop"
    assert payload["scope"] == {"name": "orders", "version": "1.2"}
    assert json.loads(bytes(second.payload))["body"] == {"total": 12.5, "items": ["a"]}


def refusals(service: Service) -> Mapping[str, int]:
    """Refused events by reason."""
    (counts,) = [each for each in service.running.parts["events"].metrics if isinstance(each, RefusalCounts)]
    return counts.by_reason


async def test_the_exporter_does_not_repeat_what_is_refused_for_good(caplog: pytest.LogCaptureFixture) -> None:
    async with open_service(event_types=("song_played",), api_keys=("one",)) as service:
        refused = await export(service, lambda logger: logger.emit(record("a")), authorization="Bearer one")
        assert refused == [LogRecordExportResult.FAILURE]
        assert await export(service, lambda logger: logger.emit(record("a"))) == [LogRecordExportResult.FAILURE]
        assert service.accepted == 0
        rejected = refusals(service)
        assert (rejected["invalid"], rejected["unauthorized"]) == (1, 1)


async def test_the_exporter_comes_again_after_a_503() -> None:
    full = b"[%b]" % b",".join(event(str(n)) for n in range(100))
    async with open_service(queue_size=100, durability="memory", **ANY) as service, connect(service) as client:
        assert (await client.ask(post(full))).status == 202
        await service.sink.wait_stored(100)  # so that the service knows how fast the queue drains
        service.sink.stall()
        assert (await client.ask(post(full))).status == 202
        rejected = refusals(service)

        async def resume_when_refused() -> None:
            await until(lambda: rejected["queue_full"] == 1)
            service.sink.resume()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(resume_when_refused)
            results = await export(service, lambda logger: logger.emit(record("late")))
        assert results == [LogRecordExportResult.SUCCESS]
        await service.sink.wait_stored(201)
        assert service.sink.stored[-1].type == "log"


async def test_json_is_answered_alike_over_both_versions_of_http() -> None:
    records = [{"timeUnixNano": "1714903872123456789", "body": {"stringValue": str(n)}} for n in range(3)]
    body = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}).encode()
    async with open_service(**ANY) as service:
        async with connect(service) as client:
            lines = b"Content-Type: application/json", b"Idempotency-Key: k"
            answer = await client.ask(post(body, *lines, path=b"/v1/logs"))
            assert (answer.status, answer.json) == (200, {})
        async with connect2(service) as client2:
            again = await client2.ask("POST", "/v1/logs", body, content_type="application/json", idempotency_key="k")
            assert (again.status, again.json) == (200, {})
            bad = await client2.ask("POST", "/v1/logs", b"\xff", content_type="application/x-protobuf")
            assert (bad.status, bad.headers["content-type"]) == (400, "application/x-protobuf")
        await service.sink.wait_stored(6)
        stored = [each.id for each in service.sink.stored]
    assert stored[:3] == stored[3:]
