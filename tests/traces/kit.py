"""Spans without a receiver: those that have ended are kept in a list, and a test decides which requests are traced."""

from __future__ import annotations

from collections.abc import Callable

from opentelemetry.propagate import get_global_textmap
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import format_span_id, format_trace_id

from hermes.events.event import Batch
from hermes.observe.traced_request import TracedRequest
from hermes.testing import make_chunk, make_events
from hermes.traces.spans import Spans

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def traceparent(*, sampled: bool) -> dict[str, str]:
    """The header of a caller that has decided."""
    return {"traceparent": f"00-{TRACE}-{CALLER}-0{int(sampled)}"}


class Kept:
    """Spans, and those of them that have ended."""

    def __init__(self, share: float = 1.0, roll: Callable[[], float] = lambda: 0.5) -> None:
        self.ended: list[ReadableSpan] = []
        self.spans = Spans(self.ended.append, share, get_global_textmap(), roll)

    def request(self, name: str = "r", headers: dict[str, str] | None = None, status: int = 202) -> TracedRequest:
        """A traced request that has been answered; its span is forgotten."""
        context = self.spans.root if headers is None else self.spans.follow(headers)
        assert context is not None
        span = self.spans.begin(context, "/events", "/events", 10, name.encode())
        span.end(status)
        self.ended.clear()
        return span.request


def batch_of(*requests: TracedRequest | None) -> Batch:
    """A batch with a chunk of one event for each request; None: of one that is not traced."""
    chunks = []
    for number, request in enumerate(requests):
        chunk = make_chunk(make_events(1, prefix=str(number)))
        chunk.traced = None if request is None else [request]
        chunks.append(chunk)
    return Batch(chunks)


def place(span: ReadableSpan) -> tuple[str, str]:
    """The trace and the span itself."""
    context = span.get_span_context()
    assert context is not None
    return format_trace_id(context.trace_id), format_span_id(context.span_id)


def parent(span: ReadableSpan) -> str:
    return "" if span.parent is None else format_span_id(span.parent.span_id)


def links(span: ReadableSpan) -> list[tuple[str, str]]:
    return [(format_trace_id(each.context.trace_id), format_span_id(each.context.span_id)) for each in span.links]
