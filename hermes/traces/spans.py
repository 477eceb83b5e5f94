"""Spans of what Hermes does: a request, the commit that it waits for, the writes to the sinks.

    POST /events                    the server's span, child of the caller's
     ├─ journal commit              if the answer waits for it
     ├─ postgres write              one for each attempt, of each sink
     └─ stdout write

A commit and a write serve many requests. Each traced one gets a span of it in its own trace, with the same times, so
that every trace tells its whole story in tools that follow no links; the first of these spans carries the outcome's
details and links to all the requests (OpenTelemetry's advice for batches), the others link to it. Invariant: what no
traced request has part in makes no span. Called by the data routes and, as `Tracing`, by the engine.
Source: OpenTelemetry semantic conventions for HTTP server spans and for messaging spans.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

import structlog
import trio
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.sdk.version import __version__ as sdk_version
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanKind,
    Status,
    StatusCode,
    format_span_id,
    format_trace_id,
    get_current_span,
    set_span_in_context,
)

from hermes import __version__
from hermes.event import Batch, Chunk
from hermes.traced import TracedRequest, carrier
from hermes.traces.work import UNTRACED, Tracing, Work, traced_requests

_ROOT = Context()


class RequestSpan:
    """The span of one request that is being answered."""

    __slots__ = ("_span", "request")

    def __init__(self, span: Span, request: TracedRequest) -> None:
        self.request = request
        self._span = span

    def end(self, status: int, rejected: int) -> None:
        """The answer is known, and how many of the request's events were ``rejected`` as invalid."""
        span = self._span
        facts: dict[str, str | int] = {
            "http.response.status_code": status,
            "hermes.events.accepted": self.request.accepted,
            "hermes.events.rejected": rejected,
        }
        if status >= 500:
            facts["error.type"] = str(status)
            span.set_status(Status(StatusCode.ERROR))
        span.set_attributes(facts)
        span.end()


class Spans(Tracing):
    """Makes spans, and gives those that have ended to ``ended``.

    ``share`` of the requests whose client has not decided are traced; ``roll`` gives numbers from 0 to below 1.
    ``propagator`` reads a caller's context out of a request's headers, their names in lower case.
    """

    __slots__ = ("_propagator", "_tracer", "headers", "roll", "root", "share")

    def __init__(
        self,
        ended: Callable[[ReadableSpan], None],
        share: float,
        propagator: TextMapPropagator,
        roll: Callable[[], float] = random.random,
    ) -> None:
        # The decision is made before there is a span, for a sampler would be asked at some 10 µs a request.
        provider = TracerProvider(ALWAYS_ON, describe_service(), shutdown_on_exit=False)
        provider.add_span_processor(_Ended(ended))
        self.headers = frozenset(name.lower() for name in propagator.fields)
        """The headers that may carry a caller's context."""
        self._tracer = provider.get_tracer("hermes", __version__)
        self._propagator = propagator
        self.share = share
        self.roll = roll
        self.root: object = _ROOT
        """The context of a request that continues no trace."""

    def follow(self, headers: Mapping[str, str]) -> object | None:
        """The context of a request with these headers; None: it is not traced.

        What a caller says about that is obeyed; where none has said anything, chance decides.
        """
        context = self._propagator.extract(headers, _ROOT)
        parent = get_current_span(context).get_span_context()
        wanted = parent.trace_flags.sampled if parent.is_valid else self.roll() < self.share
        return context if wanted else None

    def begin(self, context: object, route: str, path: str, size: int, request_id: bytes) -> RequestSpan:
        """The span of a request of ``size`` bytes, in the context `root` or one that `follow` gave."""
        assert isinstance(context, Context)  # noqa: S101 - it is one of these
        name = request_id.decode("latin-1")
        span = self._tracer.start_span(
            f"POST {route}",
            context,
            SpanKind.SERVER,
            {
                "http.request.method": "POST",
                "http.route": route,
                "url.path": path,
                "http.request.body.size": size,
                "hermes.request.id": name,
            },
        )
        own = span.get_span_context()
        # Not the span itself: it would be kept for as long as its events are.
        after = set_span_in_context(NonRecordingSpan(own), context)
        request = TracedRequest(request_id, after, format_trace_id(own.trace_id), format_span_id(own.span_id))
        return RequestSpan(span, request)

    def commit(self, chunks: Sequence[Chunk]) -> Work:
        """The commit that the traced requests among the chunks wait for."""
        requests = traced_requests(chunk for chunk in chunks if chunk.waiting or chunk.receipt is not None)
        if not requests:
            return UNTRACED
        facts = {"hermes.commit.records": len(chunks), "hermes.commit.events": sum(map(len, chunks))}
        return _SharedWork(
            self._begin("journal commit", SpanKind.INTERNAL, requests, facts), requests, self._propagator
        )

    def write(self, sink: str, batch: Batch, attempt: int) -> Work:
        """One call of a sink with the events of traced requests."""
        requests = traced_requests(batch.chunks)
        if not requests:
            return UNTRACED
        facts = _describe_operation("write", sink, batch) | {
            "messaging.operation.type": "send",
            "hermes.write.attempt": attempt,
        }
        return _SharedWork(self._begin(f"{sink} write", SpanKind.CLIENT, requests, facts), requests, self._propagator)

    def drop(self, sink: str, batch: Batch, reason: str) -> None:
        """A span of no length in the trace of each request: the sink will never get its events."""
        requests = traced_requests(batch.chunks)
        if requests:
            facts = _describe_operation("drop", sink, batch) | {"error.type": reason}
            for span in self._begin(f"{sink} drop", SpanKind.INTERNAL, requests, facts):
                span.set_status(Status(StatusCode.ERROR, reason))
                span.end()

    def _begin(
        self, name: str, kind: SpanKind, requests: Sequence[TracedRequest], facts: Mapping[str, str | int]
    ) -> list[Span]:
        """A span in the trace of each request, the first with the links to all of them, the others with one to it."""
        links = [Link(get_current_span(_context(request)).get_span_context()) for request in requests]
        first = self._tracer.start_span(name, _context(requests[0]), kind, facts, links=links)
        to_first = [Link(first.get_span_context())]
        others = [
            self._tracer.start_span(name, _context(request), kind, facts, links=to_first) for request in requests[1:]
        ]
        return [first, *others]


def _describe_operation(operation: str, sink: str, batch: Batch) -> dict[str, str | int]:
    return {
        "messaging.system": "hermes",
        "messaging.operation.name": operation,
        "messaging.destination.name": sink,
        "messaging.batch.message_count": len(batch),
    }


class _SharedWork(Work):
    """Work of several spans that begin and end together. The first is the current one while it goes on."""

    __slots__ = ("_carried", "_logged", "_propagator", "_requests", "_spans", "_token")

    def __init__(self, spans: Sequence[Span], requests: Sequence[TracedRequest], propagator: TextMapPropagator) -> None:
        self._propagator = propagator
        self._spans = spans
        self._requests = requests

    def __enter__(self) -> Self:
        first, request = self._spans[0], self._requests[0]
        # What else the caller sent along (baggage) is that of one request: it goes on only where that is alone.
        base = _context(request) if len(self._requests) == 1 else _ROOT
        self._token = otel_context.attach(set_span_in_context(first, base))
        own = first.get_span_context()
        facts = {"trace_id": format_trace_id(own.trace_id), "span_id": format_span_id(own.span_id)}
        if len(self._requests) == 1:
            facts["request_id"] = request.request_id.decode("latin-1")
        self._logged = structlog.contextvars.bind_contextvars(**facts)
        self._carried = carrier.set(self._inject)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        carrier.reset(self._carried)
        structlog.contextvars.reset_contextvars(**self._logged)
        otel_context.detach(self._token)
        if isinstance(error, trio.Cancelled):
            self._fail("cancelled", "")
        elif error is not None:
            self._fail(type(error).__name__, str(error))
        for span in self._spans:
            span.end()

    def note(self, what: str, **facts: str | int) -> None:
        for span in self._spans:
            span.add_event(what, facts)

    def _inject(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        self._propagator.inject(headers)
        return headers

    def _fail(self, kind: str, words: str) -> None:
        for span in self._spans:
            span.set_attribute("error.type", kind)
            span.set_status(Status(StatusCode.ERROR, words))


class _Ended(SpanProcessor):
    """Hands on every span that has ended, at once and in the same thread."""

    def __init__(self, ended: Callable[[ReadableSpan], None]) -> None:
        self._ended = ended

    def on_end(self, span: ReadableSpan) -> None:
        self._ended(span)


def describe_service() -> Resource:
    """What every span says of where it is from; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES go before our own.

    Not by `Resource.create`, which asks each detector on a thread.
    """
    own = {
        "service.name": "hermes",
        "service.version": __version__,
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": "opentelemetry",
        "telemetry.sdk.version": sdk_version,
    }
    return Resource(own).merge(OTELResourceDetector().detect())


def _context(request: TracedRequest) -> Context:
    assert isinstance(request.context, Context)  # noqa: S101 - `begin` made it
    return request.context
