"""The counts of refused events, by reason, and their metric."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import Metric

from hermes.observe.metrics import counter

REJECTED = (
    "crowded",
    "encoding",
    "invalid",
    "journal_failed",
    "journal_full",
    "malformed",
    "queue_full",
    "too_large",
    "too_many",
    "unauthorized",
)
"""The reasons why the data routes refuse events, or requests that might have held some."""


class RefusalCounts:
    """Counts refusals of events in ``by_reason``, for the answers, the status and Prometheus.

    >>> counts = RefusalCounts()
    >>> counts.by_reason["queue_full"] += 1
    >>> [metric.name for metric in counts.collect()]
    ['hermes_events_rejected']
    """

    def __init__(self) -> None:
        # Public: a refusal is one addition, on the way of requests that come in floods.
        self.by_reason: Counter[str] = Counter()

    def collect(self) -> Iterator[Metric]:
        """Yield the metric."""
        # Every reason from the start: an alert on the rate of a reason needs a sample before the first refusal.
        counts = dict.fromkeys(REJECTED, 0) | self.by_reason
        labelled: dict[tuple[str, ...], int] = {(reason,): count for reason, count in counts.items()}
        yield counter("hermes_events_rejected", "Events refused", ["reason"], labelled)
