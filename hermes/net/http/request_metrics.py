"""The durations of requests to the data and control routes of both addresses, and their metric."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import Metric

from hermes.observe.metrics import SECONDS, Histogram, histogram


class RequestMetrics:
    """The durations of requests, by route and status.

    >>> metrics = RequestMetrics()
    >>> metrics.observe("/events", 202, seconds=0.001)
    """

    def __init__(self) -> None:
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
        yield histogram(
            "hermes_http_request_duration_seconds",
            "From the request's last byte to its response",
            ["route", "code"],
            {(route, str(code)): counted for (route, code), counted in self.durations.items()},
        )
