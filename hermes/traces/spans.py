"""Makes the spans of a request, of the commit that the request waits for, and of the writes to the sinks.

    POST /events                    the server's span, child of the caller's
     ├─ journal commit              if the answer waits for it
     ├─ postgres write              one for each attempt, of each sink
     └─ stdout write

A commit and a write serve many requests. Each traced request gets a span of the commit in its own trace, with the same
times, so that every trace is complete in tools that follow no links. The first of these spans links to all the requests
(OpenTelemetry's advice for batches); the others link to the first.
Invariant: work that serves no traced request makes no span.
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

from hermes.observe.traced_request import TracedRequest, carrier
from hermes.observe.tracing import UNTRACED, TracedBatch, TracedItems, Tracing, Work, traced_requests
from hermes.version import __version__

# Given wherever a context can be given: without one OpenTelemetry takes the current one, that of some other work.
_ROOT = Context()


class RequestSpan:
    """The span of one request that is being answered."""

    __slots__ = ("_span", "request")

    def __init__(self, span: Span, request: TracedRequest) -> None:
        self.request = request
        self._span = span

    def end(self, status: int) -> None:
        """End the span: the request was answered with ``status``."""
        span = self._span
        facts: dict[str, str | int] = {
            "http.response.status_code": status,
            "hermes.events.accepted": self.request.accepted,
            "hermes.events.rejected": self.request.rejected,
        }
        # The conventions for servers: a 4xx is the client's error, and leaves the status of the server's span unset.
        if status >= 500:
            facts["error.type"] = str(status)
            span.set_status(Status(StatusCode.ERROR))
        span.set_attributes(facts)
        span.end()


class Spans(Tracing):
    """Makes spans, and passes each ended span to ``ended``.

    If the client has not decided whether a request is traced, ``share`` is the probability; ``roll`` returns random
    numbers from 0 to below 1. ``propagator`` reads a caller's context from headers with names in lower case. ::

        spans = Spans(export.offer, 0.1, get_global_textmap())
        context = spans.follow(headers)
        if context is not None:
            span = spans.begin(context, "/events", "/events", len(body), request_id)
            ...
            span.end(202)
    """

    __slots__ = ("_propagator", "_tracer", "headers", "roll", "root", "share")

    def __init__(
        self,
        ended: Callable[[ReadableSpan], None],
        share: float,
        propagator: TextMapPropagator,
        roll: Callable[[], float] = random.random,
    ) -> None:
        # No hook at the exit of the process: the stop ends the export, within its deadline.
        # `follow` decides before there is a span: a sampler would cost some 10 µs for each request.
        provider = TracerProvider(ALWAYS_ON, describe_service(), shutdown_on_exit=False)
        provider.add_span_processor(_Ended(ended))
        self.headers = frozenset(name.lower() for name in propagator.fields)
        """The headers that may carry a caller's context."""
        self._tracer = provider.get_tracer("hermes", __version__)
        self._propagator = propagator
        self.share = share
        self.roll = roll
        self.root: object = _ROOT
        # Typed as object, because only `hermes.traces` knows OpenTelemetry.
        """The context of a request that continues no trace."""

    def follow(self, headers: Mapping[str, str]) -> object | None:
        """Return the context of a request with these headers, or None if the request is not traced.

        The caller's decision counts; without a caller's decision, chance decides.
        """
        context = self._propagator.extract(headers, _ROOT)
        parent = get_current_span(context).get_span_context()
        # `roll` is below 1 and never below 0: a share of 1 traces every request, a share of 0 none.
        # Not valid: no header, or one that cannot be read, with which a new trace begins (W3C Trace Context).
        wanted = parent.trace_flags.sampled if parent.is_valid else self.roll() < self.share
        return context if wanted else None

    def begin(self, context: object, route: str, path: str, size: int, request_id: bytes) -> RequestSpan:
        """Begin the span of a request of ``size`` bytes. ``context`` is `root` or comes from `follow`."""
        assert isinstance(context, Context)  # noqa: S101 - `root` and `follow` give nothing else
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
        # Not the span itself: the request's events would keep the span in memory until they are delivered.
        after = set_span_in_context(NonRecordingSpan(own), context)
        request = TracedRequest(request_id, after, format_trace_id(own.trace_id), format_span_id(own.span_id))
        return RequestSpan(span, request)

    def commit(self, chunks: Sequence[TracedItems]) -> Work:
        """Return the work of a commit that traced requests among the chunks wait for."""
        # Only requests whose answer waits for the commit: it takes no time of the others.
        requests = traced_requests(chunk for chunk in chunks if chunk.is_awaited)
        if not requests:
            return UNTRACED
        facts = {"hermes.commit.records": len(chunks), "hermes.commit.events": sum(map(len, chunks))}
        return _SharedWork(
            self._begin("journal commit", SpanKind.INTERNAL, requests, facts), requests, self._propagator
        )

    def write(self, sink: str, batch: TracedBatch, attempt: int) -> Work:
        """Return the work of one call of a sink with the events of traced requests."""
        requests = traced_requests(batch.chunks)
        if not requests:
            return UNTRACED
        facts = _describe_operation("write", sink, batch) | {
            "messaging.operation.type": "send",
            "hermes.write.attempt": attempt,
        }
        return _SharedWork(self._begin(f"{sink} write", SpanKind.CLIENT, requests, facts), requests, self._propagator)

    def drop(self, sink: str, batch: TracedBatch, reason: str) -> None:
        """Make a span of no length in the trace of each request: the sink will never get the request's events."""
        requests = traced_requests(batch.chunks)
        if requests:
            facts = _describe_operation("drop", sink, batch) | {"error.type": reason}
            for span in self._begin(f"{sink} drop", SpanKind.INTERNAL, requests, facts):
                span.set_status(Status(StatusCode.ERROR, reason))
                span.end()

    def _begin(
        self, name: str, kind: SpanKind, requests: Sequence[TracedRequest], facts: Mapping[str, str | int]
    ) -> list[Span]:
        """Begin a span in the trace of each request. The first links to all requests, the others link to the first."""
        # OpenTelemetry's advice for batches: a link to each item.
        links = [Link(get_current_span(_context(request)).get_span_context()) for request in requests]
        first = self._tracer.start_span(name, _context(requests[0]), kind, facts, links=links)
        to_first = [Link(first.get_span_context())]
        others = [
            self._tracer.start_span(name, _context(request), kind, facts, links=to_first) for request in requests[1:]
        ]
        return [first, *others]


def _describe_operation(operation: str, sink: str, batch: TracedBatch) -> dict[str, str | int]:
    return {
        "messaging.system": "hermes",
        "messaging.operation.name": operation,
        "messaging.destination.name": sink,
        "messaging.batch.message_count": len(batch),
    }


class _SharedWork(Work):
    """Work of several spans that begin and end together. The first is the current span during the work."""

    __slots__ = ("_carried", "_logged", "_propagator", "_requests", "_spans", "_token")

    def __init__(self, spans: Sequence[Span], requests: Sequence[TracedRequest], propagator: TextMapPropagator) -> None:
        self._propagator = propagator
        self._spans = spans
        self._requests = requests

    def __enter__(self) -> Self:
        first, request = self._spans[0], self._requests[0]
        # Baggage belongs to one request, so the work passes baggage on only if the request is alone.
        base = _context(request) if len(self._requests) == 1 else _ROOT
        self._token = otel_context.attach(set_span_in_context(first, base))
        own = first.get_span_context()
        facts = {"trace_id": format_trace_id(own.trace_id), "span_id": format_span_id(own.span_id)}
        if len(self._requests) == 1:
            # Only if the request is alone: a line about the work of many belongs to none of them.
            facts["request_id"] = request.request_id.decode("latin-1")
        # The log lines of a sink's write carry the ids of its trace.
        self._logged = structlog.contextvars.bind_contextvars(**facts)
        # A function and not the headers: a sink that sends nothing over HTTP never asks for headers.
        self._carried = carrier.set(self._inject)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        carrier.reset(self._carried)
        structlog.contextvars.reset_contextvars(**self._logged)
        otel_context.detach(self._token)
        # Its text would name Trio's internals and not the cause.
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


# In the place of the SDK's BatchSpanProcessor, which exports on a thread of its own. `SpanExport` does its work.
class _Ended(SpanProcessor):
    """Passes on every ended span, at once and in the same thread."""

    def __init__(self, ended: Callable[[ReadableSpan], None]) -> None:
        self._ended = ended

    def on_end(self, span: ReadableSpan) -> None:
        self._ended(span)


def describe_service() -> Resource:
    """Return the resource of every span. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES override the own values."""
    # Not by `Resource.create`, which runs each detector on a thread.
    own = {
        "service.name": "hermes",
        "service.version": __version__,
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": "opentelemetry",
        "telemetry.sdk.version": sdk_version,
    }
    # The other resource wins in a merge, so the environment stands on the right.
    return Resource(own).merge(OTELResourceDetector().detect())


def _context(request: TracedRequest) -> Context:
    assert isinstance(request.context, Context)  # noqa: S101 - `begin` made it
    return request.context
