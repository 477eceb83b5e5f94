"""The numbers that Hermes keeps about itself, and how Prometheus reads them.

Hot paths add to plain integers, once a chunk or once a batch; everything else happens when somebody asks. Invariant:
the names and labels of specification §7 are an interface, there from the first scrape on. Written by the engine and by
both HTTP lanes; read by ``GET /metrics``.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
EVENTS = (1, 10, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000)

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

DROPPED = ("circuit_open", "damaged", "journal_full", "queue_full", "shutdown", "unavailable")
"""Why a delivery gives events up."""

SPANS_DROPPED = ("buffer_full", "refused", "shutdown", "unreachable")
"""Why a span is not exported."""

_SOUND_PARAMETER = re.compile(r"(?!\s*version\s*=)|\s*version=[0-9]{1,9}(\.[0-9]{1,9}){0,3}\s*$")


class Histogram:
    """Counts of values by upper bound: Prometheus's own shape, without a lock, for one thread."""

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count ``value``, ``times`` over."""
        self._counts[bisect_left(self._bounds, value)] += times
        self._total += value * times

    def buckets(self) -> tuple[list[tuple[str, float]], float]:
        """The cumulative buckets as ``(upper bound, count)`` and the sum of all values."""
        cumulative, running = [], 0
        for bound, count in zip([*map(float, self._bounds), float("inf")], self._counts, strict=True):
            running += count
            cumulative.append(("+Inf" if bound == float("inf") else repr(bound), float(running)))
        return cumulative, self._total


class SinkMetrics:
    """The numbers of one sink. In events, but for ``open_rejects``, which counts batches."""

    def __init__(self) -> None:
        self.delivered = 0
        self.dead_lettered = 0
        self.evicted: Callable[[], int] = int
        self.dropped: Counter[str] = Counter()
        self.retries = 0
        self.open_rejects = 0
        self.flush_seconds = Histogram(SECONDS)
        self.breaker_state: Callable[[], int] = int
        self.backlog: Callable[[], int] = int
        self.held: Callable[[], int] = int
        self.missing: Callable[[], int] = int


class JournalMetrics:
    """The numbers of the journal; ``bytes`` and ``capacity`` are asked for."""

    def __init__(self, size: Callable[[], int], capacity: int) -> None:
        self.commit_seconds = Histogram(SECONDS)
        self.failed_commits = 0
        self.lost_records = self.lost_events = 0
        self.unowned = 0
        self._size = size
        self._capacity = capacity

    def collect(self) -> Iterator[Metric]:
        """Every metric of the journal."""
        yield GaugeMetricFamily("hermes_journal_bytes", "Bytes of records that some sink may need", self._size())
        yield GaugeMetricFamily("hermes_journal_capacity_bytes", "JOURNAL_MAX_BYTES", self._capacity)
        yield _histogram("hermes_journal_commit_seconds", "One commit", [], {(): self.commit_seconds})
        yield CounterMetricFamily(
            "hermes_journal_failed_commits", "Commits that the storage refused", self.failed_commits
        )
        yield CounterMetricFamily(
            "hermes_journal_lost_records",
            "Records that had been acknowledged, and were gone at the start",
            self.lost_records,
        )
        yield CounterMetricFamily(
            "hermes_journal_lost_events",
            "Events of these records, where they are known",
            self.lost_events,
        )
        yield GaugeMetricFamily(
            "hermes_journals_unowned", "Journals beside this one with events that nobody delivers", self.unowned
        )


class TraceMetrics:
    """The numbers of the traces' export, in spans."""

    def __init__(self) -> None:
        self.exported = 0
        self.dropped: Counter[str] = Counter()

    def collect(self) -> Iterator[Metric]:
        """Every metric of the export."""
        yield CounterMetricFamily("hermes_spans_exported", "Spans that TRACES_ENDPOINT has taken", self.exported)
        dropped = dict.fromkeys(SPANS_DROPPED, 0) | self.dropped
        yield _counter(
            "hermes_spans_dropped",
            "Spans given up",
            ["reason"],
            {(reason,): count for reason, count in dropped.items()},
        )


class Metrics(Collector):
    """All numbers of one running Hermes. Gauges are callables that the owner of the state sets at start.

    Label values that are known beforehand are there with 0, so that a rate over the first events is not missed.
    """

    def __init__(self, sinks: Iterable[str]) -> None:
        self.received: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.batch_size = Histogram(EVENTS)
        self.requests: defaultdict[tuple[str, int], Histogram] = defaultdict(lambda: Histogram(SECONDS))
        self.sinks = {name: SinkMetrics() for name in sinks}
        self.queue_length: Callable[[], int] = int
        self.queue_capacity: Callable[[], int] = int
        self.inflight_requests: Callable[[], int] = int
        self.connections: Callable[[], int] = int
        self.connections_evicted: Callable[[], int] = int
        self.connections_refused: Callable[[], int] = int
        self.aggregates_dropped: Callable[[], int] = int
        self.dead_letters_evicted: Callable[[], int] = int
        self.journal: JournalMetrics | None = None
        self.traces: TraceMetrics | None = None
        self.loop_lag = 0.0
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def observe_request(self, route: str, status: int, seconds: float, times: int = 1) -> None:
        """Count a request that took so long, or ``times`` alike."""
        self.requests[route, status].observe(seconds, times)

    def expose(self, accept: str) -> tuple[bytes, str]:
        """The exposition that an ``Accept`` header asks for (Prometheus text or OpenMetrics), and its content type."""
        encode, content_type = choose_encoder(_readable(accept))
        return encode(self._registry), content_type

    def collect(self) -> Iterator[Metric]:
        """Every metric, for prometheus-client."""
        yield _counter(
            "hermes_events_received", "Events accepted", ["type"], {(k,): v for k, v in self.received.items()}
        )
        yield _counter(
            "hermes_events_rejected",
            "Events refused",
            ["reason"],
            {(k,): v for k, v in (dict.fromkeys(REJECTED, 0) | self.rejected).items()},
        )
        yield GaugeMetricFamily("hermes_queue_length", "Events that hold room in the queue", self.queue_length())
        yield GaugeMetricFamily("hermes_queue_capacity", "Room in the queue, in events", self.queue_capacity())
        yield _histogram("hermes_batch_size", "Events a batch", [], {(): self.batch_size})
        yield from self._collect_sinks()
        yield _histogram(
            "hermes_http_request_duration_seconds",
            "From the request's last byte to its response",
            ["route", "code"],
            {(route, str(code)): histogram for (route, code), histogram in self.requests.items()},
        )
        yield GaugeMetricFamily("hermes_inflight_requests", "Requests begun and not answered", self.inflight_requests())
        yield GaugeMetricFamily("hermes_connections", "Open connections of the fast lane", self.connections())
        yield CounterMetricFamily(
            "hermes_connections_evicted", "Idle connections that made room for newer ones", self.connections_evicted()
        )
        yield CounterMetricFamily(
            "hermes_connections_refused",
            "Connections that found every place of the control lane busy",
            self.connections_refused(),
        )
        yield GaugeMetricFamily("hermes_loop_lag_seconds", "Latest delay of a timer of the run loop", self.loop_lag)
        yield CounterMetricFamily(
            "hermes_aggregates_dropped", "Events that left /aggregates, or never fitted", self.aggregates_dropped()
        )
        yield CounterMetricFamily(
            "hermes_dead_letters_evicted", "Dead letters that made room for newer ones", self.dead_letters_evicted()
        )
        if self.journal is not None:
            yield from self.journal.collect()
        if self.traces is not None:
            yield from self.traces.collect()

    def _collect_sinks(self) -> Iterator[Metric]:
        sinks = self.sinks.items()
        yield _histogram(
            "hermes_flush_duration_seconds",
            "One write to a sink",
            ["sink"],
            {(name,): sink.flush_seconds for name, sink in sinks},
        )
        yield _counter(
            "hermes_events_delivered", "Events a sink has stored", ["sink"], {(n,): s.delivered for n, s in sinks}
        )
        yield _counter(
            "hermes_events_dropped",
            "Events a sink will never get",
            ["sink", "reason"],
            {
                (name, reason): count
                for name, sink in sinks
                for reason, count in (dict.fromkeys(DROPPED, 0) | sink.dropped).items()
            },
        )
        yield _counter(
            "hermes_events_dead_lettered",
            "Events a sink refused for good",
            ["sink"],
            {(n,): s.dead_lettered for n, s in sinks},
        )
        yield _counter(
            "hermes_events_evicted",
            "Dead-lettered events of this run whose letters made room for newer ones",
            ["sink"],
            {(n,): s.evicted() for n, s in sinks},
        )
        yield _counter("hermes_sink_retries", "Writes tried again", ["sink"], {(n,): s.retries for n, s in sinks})
        yield _counter(
            "hermes_db_circuit_open_rejects",
            "Batches refused by an open breaker",
            ["sink"],
            {(n,): s.open_rejects for n, s in sinks},
        )
        backlog = GaugeMetricFamily("hermes_sink_backlog_events", "Accepted, and no outcome yet", labels=["sink"])
        for name, sink in sinks:
            backlog.add_metric([name], sink.backlog())
        yield backlog
        held = GaugeMetricFamily("hermes_sink_held_events", "Held, for the sink refuses everything", labels=["sink"])
        for name, sink in sinks:
            held.add_metric([name], sink.held())
        yield held
        missing = GaugeMetricFamily(
            "hermes_sink_missing_events", "Accepted and nowhere, or counted twice: a bug unless 0", labels=["sink"]
        )
        for name, sink in sinks:
            missing.add_metric([name], sink.missing())
        yield missing
        state = GaugeMetricFamily("hermes_db_circuit_state", "0 closed, 1 half-open, 2 open", labels=["sink"])
        for name, sink in sinks:
            state.add_metric([name], sink.breaker_state())
        yield state


def _readable(accept: str) -> str:
    """The ranges of an ``Accept`` header without those whose version is no number: prometheus-client fails at one."""
    return ",".join(each for each in accept.split(",") if all(map(_SOUND_PARAMETER.match, each.split(";")[1:])))


def _counter(name: str, text: str, labels: list[str], values: dict[tuple[str, ...], int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _histogram(
    name: str, text: str, labels: list[str], values: dict[tuple[str, ...], Histogram]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, text, labels=labels)
    for key, histogram in values.items():
        buckets, total = histogram.buckets()
        family.add_metric(list(key), buckets, total)
    return family
