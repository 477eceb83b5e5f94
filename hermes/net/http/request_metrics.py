"""The numbers of requests to the data and control routes of both addresses, and how Prometheus reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import Metric

from hermes.observe.metrics import SECONDS, Histogram, counter, histogram

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
"""Why the edge refuses events, or requests that might have held some."""


class RequestMetrics:
    """How long requests took, by route and status, and how many events were refused, by reason."""

    def __init__(self) -> None:
        self.rejected: Counter[str] = Counter()
        self.durations: dict[tuple[str, int], Histogram] = {}

    def expect(self, route: str, status: int) -> None:
        """Show the histogram of such requests before the first of them, for a rate needs a sample to begin with."""
        # Prometheus takes the first value of a new series for no increase, so the first request would be lost.
        self.durations.setdefault((route, status), Histogram(SECONDS))

    def observe(self, route: str, status: int, seconds: float, times: int = 1) -> None:
        """Count a request that took so long, or ``times`` alike."""
        # Not setdefault: it would make a histogram for each request, only to throw it away.
        histogram_of = self.durations.get((route, status))
        if histogram_of is None:
            histogram_of = self.durations[route, status] = Histogram(SECONDS)
        histogram_of.observe(seconds, times)

    def collect(self) -> Iterator[Metric]:
        """Every metric of the requests."""
        # Every reason from the start: an alert on the rate of a reason needs a sample before the first refusal.
        rejected = dict.fromkeys(REJECTED, 0) | self.rejected
        yield counter(
            "hermes_events_rejected",
            "Events refused",
            ["reason"],
            {(reason,): count for reason, count in rejected.items()},
        )
        yield histogram(
            "hermes_http_request_duration_seconds",
            "From the request's last byte to its response",
            ["route", "code"],
            {(route, str(code)): counted for (route, code), counted in self.durations.items()},
        )
