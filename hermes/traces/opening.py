"""Opens the traces: puts the spans, their buffer and their export together. Imports OpenTelemetry.

Invariant: this module is imported only if TRACES_ENDPOINT is set.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

# Reads OTEL_PROPAGATORS as it is imported.
from opentelemetry.propagate import get_global_textmap
from opentelemetry.sdk.trace import ReadableSpan

from hermes.traces.endpoint import parse_headers, traces_url
from hermes.traces.export import SpanExport
from hermes.traces.otlp import open_sender
from hermes.traces.settings import TraceSettings
from hermes.traces.span_metrics import TraceMetrics
from hermes.traces.spans import Spans


class Traces:
    """Open traces: ``spans`` makes spans, ``run`` exports them until ``close`` was called.

    Made by `open_exported`; see `hermes.traces.open_traces` for an example.
    """

    def __init__(self, spans: Spans, export: SpanExport[ReadableSpan], metrics: TraceMetrics) -> None:
        self.spans = spans
        self.metrics = metrics
        self.run = export.run
        self.close = export.close


@asynccontextmanager
async def open_exported(settings: TraceSettings) -> AsyncIterator[Traces]:
    """Open traces that go to TRACES_ENDPOINT. Raises `hermes.ConfigError`."""
    async with open_sender(traces_url(settings.traces_endpoint), parse_headers(settings.traces_headers)) as send:
        metrics = TraceMetrics()
        export = SpanExport(send, metrics)
        yield Traces(Spans(export.offer, settings.traces_sample, get_global_textmap()), export, metrics)
