"""The metrics are an interface: every name and label of the specification from the first scrape, in both formats."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from hermes.base.errors import BatchRejected
from hermes.events.engine.collectors import IntakeMetrics, SinkMetrics
from hermes.events.ingest.refusal_counts import RefusalCounts
from hermes.net.http.request_metrics import RequestMetrics
from hermes.observe.loop_lag import LoopLag
from hermes.observe.metrics import EVENTS, SECONDS, Histogram, Metrics, MetricSource
from hermes.testing import ScriptedSink, unavailable
from tests.events.engine.kit import engine_running, make_bench, make_engine, running

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

# Specification §7: the samples by name, with their labels (but a histogram's `le`), and their type.
SPECIFIED = {
    "hermes_events_received_total": ({"type"}, "counter"),
    "hermes_events_rejected_total": ({"reason"}, "counter"),
    "hermes_queue_length": (set(), "gauge"),
    "hermes_queue_capacity": (set(), "gauge"),
    "hermes_batch_size": (set(), "histogram"),
    "hermes_flush_duration_seconds": ({"sink"}, "histogram"),
    "hermes_events_delivered_total": ({"sink"}, "counter"),
    "hermes_events_dropped_total": ({"sink", "reason"}, "counter"),
    "hermes_events_dead_lettered_total": ({"sink"}, "counter"),
    "hermes_events_evicted_total": ({"sink"}, "counter"),
    "hermes_sink_held_events": ({"sink"}, "gauge"),
    "hermes_sink_missing_events": ({"sink"}, "gauge"),
    "hermes_db_circuit_state": ({"sink"}, "gauge"),
    "hermes_db_circuit_open_rejects_total": ({"sink"}, "counter"),
    "hermes_http_request_duration_seconds": ({"route", "code"}, "histogram"),
    "hermes_inflight_requests": (set(), "gauge"),
    "hermes_loop_lag_seconds": (set(), "gauge"),
    "process_resident_memory_bytes": (set(), "gauge"),
    "process_cpu_seconds_total": (set(), "counter"),
    "python_gc_collections_total": ({"generation"}, "counter"),
    "python_info": ({"implementation", "major", "minor", "patchlevel", "version"}, "gauge"),
}
FORMATS: dict[str, Callable[[str], Iterable[Metric]]] = {"": parse_text, OPENMETRICS: parse_openmetrics}


def scrape(metrics: Metrics, accept: str = "") -> dict[str, Metric]:
    """The families of an exposition, by the names of their samples without the endings of a histogram."""
    text, content_type = metrics.expose(accept)
    assert ("openmetrics" in content_type) is bool(accept)
    families = {}
    for family in FORMATS[accept](text.decode()):
        families[family.name + ("_total" if family.type == "counter" else "")] = family
    return families


def value(metrics: MetricSource, name: str, **labels: str) -> float:
    """One sample, by its full name and labels."""
    for family in metrics.collect():
        for sample in family.samples:
            if (sample.name, sample.labels) == (name, labels):
                return float(sample.value)
    raise AssertionError(f"no sample {name} {labels}")


@pytest.mark.parametrize("accept", FORMATS, ids=["text", "openmetrics"])
async def test_every_name_is_there_before_anything_has_happened(accept: str) -> None:
    engine = make_engine({"a": ScriptedSink()}).engine
    metrics = Metrics(*engine.metrics, RequestMetrics(), RefusalCounts())
    families = scrape(metrics, accept)
    edges = {"hermes_inflight_requests", "hermes_loop_lag_seconds"}
    assert SPECIFIED.keys() - edges <= families.keys()
    assert all(families[name].type == kind for name, (_, kind) in SPECIFIED.items() if name not in edges)


async def test_known_label_values_are_there_with_zero() -> None:
    metrics = Metrics(*make_engine({"a": ScriptedSink()}).engine.metrics, RequestMetrics(), RefusalCounts())
    assert value(metrics, "hermes_events_rejected_total", reason="queue_full") == 0
    assert value(metrics, "hermes_events_dropped_total", sink="a", reason="circuit_open") == 0
    assert value(metrics, "hermes_db_circuit_state", sink="a") == 0


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", "text/plain"),
        ("*/*", "text/plain"),
        (OPENMETRICS, "application/openmetrics-text"),
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5", "application/openmetrics-text"),
    ],
)
def test_the_format_is_the_one_that_was_asked_for(accept: str, expected: str) -> None:
    text, content_type = Metrics(LoopLag()).expose(accept)
    assert content_type.startswith(expected)
    assert text.endswith(b"# EOF\n") is (expected != "text/plain")


async def test_values_move_with_what_happens(autojump_clock: None) -> None:
    sink = ScriptedSink.following(None, BatchRejected({0: "bad"}), *unavailable(3))
    bench = make_bench(sink, name="a", breaker_open=3600.0)
    async with running(bench):
        for _ in range(4):
            bench.offer_events(2)
            await trio.sleep(1)
        read = SinkMetrics([bench.delivery])
        assert value(read, "hermes_events_delivered_total", sink="a") == 3
        assert value(read, "hermes_events_dead_lettered_total", sink="a") == 1
        assert value(read, "hermes_events_dropped_total", sink="a", reason="circuit_open") == 4
        assert value(read, "hermes_db_circuit_open_rejects_total", sink="a") == 2
        assert value(read, "hermes_db_circuit_state", sink="a") == 2
        assert value(read, "hermes_sink_retries_total", sink="a") == 2
        assert value(read, "hermes_flush_duration_seconds_count", sink="a") == 5
        assert value(read, "hermes_batch_size_sum") == 8
        assert value(read, "hermes_batch_size_bucket", le="10.0") == 4


async def test_the_queue_shows_what_holds_room(autojump_clock: None) -> None:
    engine = make_engine({"a": ScriptedSink()})
    metrics = IntakeMetrics(engine.intake, engine.aggregator)
    async with engine_running(engine):
        assert engine.offer(7)
        assert value(metrics, "hermes_queue_length") == 7
    assert value(metrics, "hermes_queue_length") == 0


# The histogram


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(1, 5)), max_size=50))
def test_a_histogram_counts_every_value_in_each_bucket_that_holds_it(values: list[tuple[float, int]]) -> None:
    histogram = Histogram(SECONDS)
    for seconds, times in values:
        histogram.observe(seconds, times)
    buckets, total = histogram.buckets()
    for bound, count in buckets:
        assert count == sum(times for seconds, times in values if seconds <= float(bound))
    assert buckets[-1][0] == "+Inf"
    assert math.isclose(total, sum(seconds * times for seconds, times in values))


def test_a_value_on_a_bound_is_in_its_bucket() -> None:
    histogram = Histogram(EVENTS)
    histogram.observe(10)
    assert dict(histogram.buckets()[0])["10.0"] == 1
    assert dict(histogram.buckets()[0])["1.0"] == 0


async def test_a_name_with_quotes_and_line_breaks_cannot_break_the_exposition() -> None:
    engine = make_engine({"a": ScriptedSink()})
    engine.aggregator.received['evil"} 1\nhermes_fake 5\n'] = 3
    metrics = Metrics(*engine.engine.metrics)
    assert "hermes_fake" not in scrape(metrics)
    assert sum(sample.value for sample in scrape(metrics)["hermes_events_received_total"].samples) == 3
