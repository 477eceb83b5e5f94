"""The registry behind ``GET /metrics``, and helpers with which its sources describe their numbers.

Each part keeps its own numbers, and is, or has, a `MetricSource`. Invariant: a source gets the objects that it reads
when the source is made, so that no metric shows 0 because nobody feeds it.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
EVENTS = (1, 10, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000)

# prometheus-client compares the version as numbers, and raises for one like `version=abc`.
_SOUND_PARAMETER = re.compile(r"(?!\s*version\s*=)|\s*version=[0-9]{1,9}(\.[0-9]{1,9}){0,3}\s*$")


class Histogram:
    """Counts of values by upper bound, in the form of Prometheus. For one thread.

    >>> counted = Histogram((1.0, 5.0))
    >>> counted.observe(3.0, times=2)
    >>> counted.buckets()
    ([('1.0', 0.0), ('5.0', 2.0), ('+Inf', 2.0)], 6.0)
    """

    # Not prometheus-client's own, which takes a lock for each value: a hot path observes once a request.

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    @classmethod
    def merged(cls, bounds: Sequence[float], parts: Iterable[Histogram]) -> Histogram:
        """One histogram with the counts of all ``parts``, which have the same bounds."""
        whole = cls(bounds)
        for part in parts:
            whole._add(part._counts, part._total)  # noqa: SLF001 - another of this class
        return whole

    def _add(self, counts: Sequence[int], total: float) -> None:
        self._counts = [one + other for one, other in zip(self._counts, counts, strict=True)]
        self._total += total

    def observe(self, value: float, times: int = 1) -> None:
        """Count ``value``, ``times`` over."""
        # To the left: a bucket of Prometheus includes its upper bound (``le``).
        self._counts[bisect_left(self._bounds, value)] += times
        self._total += value * times

    def buckets(self) -> tuple[list[tuple[str, float]], float]:
        """The cumulative buckets as ``(upper bound, count)`` and the sum of all values."""
        # Kept apart and summed up here: a scrape is rare, and `observe` then touches one count.
        cumulative, running = [], 0
        for bound, count in zip([*map(float, self._bounds), float("inf")], self._counts, strict=True):
            running += count
            # The spelling that prometheus-client gives to bounds: "1.0", and "+Inf" for the last one.
            cumulative.append(("+Inf" if bound == float("inf") else repr(bound), float(running)))
        return cumulative, self._total


class MetricSource(Protocol):
    """The owner of some numbers, or a collector that reads the owner's numbers when Prometheus asks."""

    def collect(self) -> Iterable[Metric]:
        """Every metric of the source, also if the value is still 0."""
        # A rate needs a sample before the first event: a series that appears with its first value misses that step.
        ...


class Metrics:
    """The registry of all sources of one running Hermes, with prometheus-client's own of the process.

    >>> class Queue:
    ...     def collect(self):
    ...         yield GaugeMetricFamily("queue_length", "Items that wait", 3)
    >>> b"queue_length 3.0" in Metrics(Queue()).expose("text/plain")[0]
    True
    """

    def __init__(self, *sources: MetricSource) -> None:
        # Not the library's global registry: a second service in the same process, as in the tests, would meet its
        # names.
        self._registry = CollectorRegistry()
        # The library gives these three to its global registry alone.
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        # No two sources may have a metric of the same name: Prometheus refuses such a page.
        for source in sources:
            self._registry.register(_Registered(source))

    def expose(self, accept: str) -> tuple[bytes, str]:
        """The exposition that an ``Accept`` header asks for (Prometheus text or OpenMetrics), and its content type."""
        encode, content_type = choose_encoder(_readable(accept))
        return encode(self._registry), content_type

    def collect(self) -> Iterator[Metric]:
        """Every metric of every source."""
        return iter(self._registry.collect())


class _Registered(Collector):
    """Adapts a source to prometheus-client."""

    # prometheus-client's Collector is an abstract class: a part's own class need not inherit from it.

    def __init__(self, source: MetricSource) -> None:
        self._source = source

    def collect(self) -> Iterable[Metric]:
        return self._source.collect()


def _readable(accept: str) -> str:
    """An ``Accept`` header without the ranges whose version is not a number."""
    # Without the first piece: the type of a range is no parameter.
    return ",".join(each for each in accept.split(",") if all(map(_SOUND_PARAMETER.match, each.split(";")[1:])))


def counter(name: str, text: str, labels: Sequence[str], values: Mapping[tuple[str, ...], int]) -> CounterMetricFamily:
    """A family of counters; a key of ``values`` has the values of ``labels``, in their order.

    >>> counter("drops", "Dropped events", ["sink"], {("postgres",): 3}).samples[0].labels
    {'sink': 'postgres'}
    """
    family = CounterMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def gauge(name: str, text: str, labels: Sequence[str], values: Mapping[tuple[str, ...], float]) -> GaugeMetricFamily:
    """A family of gauges; a key of ``values`` has the values of ``labels``, in their order.

    >>> gauge("lag_seconds", "Age of the oldest event", ["sink"], {("postgres",): 0.5}).samples[0].value
    0.5
    """
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def histogram(
    name: str, text: str, labels: Sequence[str], values: Mapping[tuple[str, ...], Histogram]
) -> HistogramMetricFamily:
    """A family of histograms; a key of ``values`` has the values of ``labels``, in their order.

    >>> histogram("write_seconds", "Duration of a write", ["sink"], {("postgres",): Histogram((1.0,))}).name
    'write_seconds'
    """
    family = HistogramMetricFamily(name, text, labels=labels)
    for key, counted in values.items():
        buckets, total = counted.buckets()
        family.add_metric(list(key), buckets, total)
    return family
