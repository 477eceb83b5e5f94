"""A receiver of traces: OTLP over HTTP, decoded with the protocol's own messages.

    async with open_collector() as collector:
        ...  # send spans to collector.url, and look at collector.spans

Invariant: every request that it has answered with 2xx is decoded.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Message

from tests.servers.receiver import Received, Receiver, Reply, open_receiver


class Span:
    """A span as it came."""

    def __init__(self, message: Message, resource: dict[str, object]) -> None:
        self.name = message.name
        self.kind = message.kind
        self.trace_id = message.trace_id.hex()
        self.span_id = message.span_id.hex()
        self.parent = message.parent_span_id.hex()
        self.state = message.trace_state
        self.attributes = _plain(message.attributes)
        self.links = {(link.trace_id.hex(), link.span_id.hex()) for link in message.links}
        self.notes = [(note.name, _plain(note.attributes)) for note in message.events]
        self.failed = message.status.code == 2
        self.words = message.status.message
        self.began, self.ended = message.start_time_unix_nano, message.end_time_unix_nano
        self.resource = resource

    @property
    def context(self) -> tuple[str, str]:
        """What a link to it has."""
        return self.trace_id, self.span_id


class Collector:
    """A running receiver. ``receiver.answer`` says how it answers."""

    def __init__(self, receiver: Receiver) -> None:
        self.url = receiver.url
        self.receiver = receiver

    @property
    def spans(self) -> list[Span]:
        """All that came."""
        return [span for request in self.receiver.requests for span in read_spans(request.content)]


def read_spans(body: bytes) -> list[Span]:
    """The spans of an export request."""
    return [
        Span(message, _plain(group.resource.attributes))
        for group in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in group.scope_spans
        for message in scope.spans
    ]


def _plain(attributes: list[KeyValue]) -> dict[str, object]:
    values = {each.key: each.value for each in attributes}
    return {key: getattr(value, str(value.WhichOneof("value"))) for key, value in values.items()}


def take(request: Received) -> Reply:
    """What a receiver answers that takes everything."""
    read_spans(request.content)
    return Reply(200, {"content-type": "application/x-protobuf"})


@asynccontextmanager
async def open_collector() -> AsyncIterator[Collector]:
    """Run a receiver on a free loopback port for the length of the block."""
    async with open_receiver("") as receiver:
        receiver.answer = take
        yield Collector(receiver)
