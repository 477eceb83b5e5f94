"""The counters of a run, and their summary.

Invariant: every request that was sent is answered, lost (its connection failed or it timed out), or in flight: ``sent =
answered + lost + in_flight``.
"""

from __future__ import annotations

from collections import defaultdict

import msgspec

from hermes.load.histogram import Histogram
from hermes.load.schedule import SECOND


class Latency(msgspec.Struct, frozen=True):
    """Percentiles of the time to an answer, in seconds; with a rate, counted from the due time of the request."""

    p50: float
    p90: float
    p99: float
    p99_9: float
    max: float


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of a run, or of a run so far. Rates are per second of ``elapsed``; bytes count HTTP heads and bodies.

    ``requests`` counts answered requests; ``events`` counts the events of answers with a 2xx code. ``lost`` counts
    requests without an answer, and ``errors`` counts the reasons by kind (failed attempts to connect included).
    ``unsent`` counts the requests that were due at the asked rate, but for which no connection was free before the run
    ended.
    """

    elapsed: float
    requests: int
    events: int
    requests_per_second: float
    events_per_second: float
    codes: dict[str, int]
    errors: dict[str, int]
    lost: int
    unsent: int
    latency: Latency
    bytes_sent: int
    bytes_received: int
    interrupted: bool = False


class Tally:
    """The counters of one phase of a run.

    >>> tally = Tally(started_at=0)
    >>> tally.sent, tally.answered, tally.codes[202] = 3, 2, 2
    >>> tally.in_flight
    1
    >>> tally.summary(now=SECOND, events_per_request=10).events_per_second
    20.0
    """

    # Plain attributes instead of methods: the loop writes them for every request.
    __slots__ = (
        "answered",
        "bytes_received",
        "bytes_sent",
        "codes",
        "ended_at",
        "errors",
        "latencies",
        "lost",
        "sent",
        "started_at",
        "unsent",
    )

    def __init__(self, started_at: int) -> None:
        self.started_at = started_at
        self.ended_at: int | None = None
        self.sent = 0
        self.answered = 0
        self.lost = 0
        self.unsent = 0
        self.bytes_sent = 0
        self.bytes_received = 0
        self.codes: defaultdict[int, int] = defaultdict(int)
        self.errors: dict[str, int] = {}
        self.latencies = Histogram()

    @property
    def in_flight(self) -> int:
        """The number of requests that wait for an answer."""
        return self.sent - self.answered - self.lost

    def count_error(self, kind: str) -> None:
        """Count a failure of a connection by its kind."""
        self.errors[kind] = self.errors.get(kind, 0) + 1

    def summary(self, now: int, events_per_request: int, *, interrupted: bool = False) -> Summary:
        """Return the figures so far; ``now`` is a monotonic time in nanoseconds, used while the run has not ended."""
        # At least 1 ns: a summary at the very start must not divide by zero.
        elapsed = max(1, (now if self.ended_at is None else self.ended_at) - self.started_at) / SECOND
        events = events_per_request * sum(count for code, count in self.codes.items() if 200 <= code < 300)
        p50, p90, p99, p99_9, highest = (
            value / SECOND for value in self.latencies.percentiles((50, 90, 99, 99.9, 100))
        )
        return Summary(
            elapsed=elapsed,
            requests=self.answered,
            events=events,
            requests_per_second=self.answered / elapsed,
            events_per_second=events / elapsed,
            codes={str(code): count for code, count in sorted(self.codes.items())},
            errors=dict(sorted(self.errors.items())),
            lost=self.lost,
            unsent=self.unsent,
            latency=Latency(p50, p90, p99, p99_9, highest),
            bytes_sent=self.bytes_sent,
            bytes_received=self.bytes_received,
            interrupted=interrupted,
        )
