"""The numbers of the traces' export, and how Prometheus reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric

from hermes.metrics import counter

SPANS_DROPPED = ("buffer_full", "refused", "shutdown", "unreachable")
"""Why a span is not exported."""


class TraceMetrics:
    """The numbers of the traces' export, in spans."""

    def __init__(self) -> None:
        self.exported = 0
        self.dropped: Counter[str] = Counter()

    def collect(self) -> Iterator[Metric]:
        """Every metric of the export."""
        yield CounterMetricFamily("hermes_spans_exported", "Spans that TRACES_ENDPOINT has taken", self.exported)
        dropped = dict.fromkeys(SPANS_DROPPED, 0) | self.dropped
        yield counter(
            "hermes_spans_dropped",
            "Spans given up",
            ["reason"],
            {(reason,): count for reason, count in dropped.items()},
        )
