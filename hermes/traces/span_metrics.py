"""Counts the exported and dropped spans, and gives the counts to Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric

from hermes.observe.metrics import counter

SPANS_DROPPED = ("buffer_full", "refused", "shutdown", "unreachable")
"""The reasons for which a span is not exported."""


class TraceMetrics:
    """The counts of the export, in spans.

    >>> metrics = TraceMetrics()
    >>> metrics.dropped["shutdown"] += 2
    >>> sum(sample.value for metric in metrics.collect() for sample in metric.samples)
    2
    """

    def __init__(self) -> None:
        self.exported = 0
        self.dropped: Counter[str] = Counter()

    def collect(self) -> Iterator[Metric]:
        """Yield every metric of the export."""
        yield CounterMetricFamily("hermes_spans_exported", "Spans that TRACES_ENDPOINT has taken", self.exported)
        # Every reason from the start, at 0: a rate over a series that appears late misses its first step.
        dropped = dict.fromkeys(SPANS_DROPPED, 0) | self.dropped
        yield counter(
            "hermes_spans_dropped",
            "Spans given up",
            ["reason"],
            {(reason,): count for reason, count in dropped.items()},
        )
