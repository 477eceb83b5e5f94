"""OTLP: spans as the protocol's messages, and what each answer of a receiver means."""

from __future__ import annotations

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from hermes.net.outgoing import Answer
from hermes.traces.export import NotExported
from hermes.traces.otlp import encode, judge
from tests.integration.collector import read_spans
from tests.traces.kit import Kept, batch_of, place

NOW = 1_700_000_000.0


async def test_all_spans_are_in_the_message_whatever_their_number() -> None:
    kept = Kept()
    requests = [kept.request() for _ in range(90)]
    with kept.spans.write("db", batch_of(*requests), 1):
        pass
    read = read_spans(await encode(kept.ended))
    assert [span.context for span in read] == [place(span) for span in kept.ended]
    assert {span.resource["service.name"] for span in read} == {"hermes"}


@pytest.mark.parametrize("status", [200, 202])
@pytest.mark.parametrize(
    ("body", "refused"),
    [
        (b"", 0),
        (b"{}", 0),
        (ExportTraceServiceResponse().SerializeToString(), 0),
        (
            ExportTraceServiceResponse(partial_success=ExportTracePartialSuccess(rejected_spans=3)).SerializeToString(),
            3,
        ),
        (
            ExportTraceServiceResponse(
                partial_success=ExportTracePartialSuccess(rejected_spans=99)
            ).SerializeToString(),
            9,
        ),
        (
            ExportTraceServiceResponse(
                partial_success=ExportTracePartialSuccess(rejected_spans=-1)
            ).SerializeToString(),
            0,
        ),
    ],
)
def test_a_success_may_be_partial(status: int, body: bytes, refused: int) -> None:
    assert judge(Answer(status, {}, body), 9, NOW) == refused


@pytest.mark.parametrize(
    ("status", "again"),
    [
        (301, False),
        (400, False),
        (401, False),
        (404, False),
        (413, False),
        (429, True),
        (500, False),
        (502, True),
        (503, True),
        (504, True),
    ],
)
def test_only_what_the_protocol_names_is_tried_again(status: int, again: bool) -> None:
    with pytest.raises(NotExported, match=str(status)) as refusal:
        judge(Answer(status, {}, b""), 1, NOW)
    assert (refusal.value.again, refusal.value.after) == (again, 0)


@pytest.mark.parametrize(("text", "after"), [("7", 7), ("", 0), ("-1", 0), ("soon", 0), ("9" * 400, 0)])
def test_a_receiver_may_ask_for_a_pause(text: str, after: float) -> None:
    with pytest.raises(NotExported) as refusal:
        judge(Answer(503, {"retry-after": text}, b""), 1, NOW)
    assert refusal.value.after == after
