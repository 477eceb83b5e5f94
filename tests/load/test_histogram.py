"""The histogram against the sorted list of what was recorded."""

from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes.load.histogram import MAX_VALUE, Histogram

PERCENTS = (0.0, 50.0, 90.0, 99.0, 99.9, 100.0)
values = st.one_of(
    st.integers(0, 300), st.integers(0, 10**7), st.integers(0, MAX_VALUE), st.integers(0, 42).map(lambda bit: 1 << bit)
)


def nearest_rank(ordered: list[int], percent: float) -> int:
    return ordered[max(1, ceil(round(percent * len(ordered) / 100, 6))) - 1]


@given(st.lists(values, min_size=1, max_size=400))
def test_every_percentile_is_within_a_hundredth_of_the_sorted_list(recorded: list[int]) -> None:
    histogram = Histogram()
    histogram.record(recorded)
    ordered = sorted(recorded)
    for percent, found in zip(PERCENTS, histogram.percentiles(PERCENTS), strict=True):
        assert found == pytest.approx(nearest_rank(ordered, percent), rel=1 / 128)


@given(st.lists(values, max_size=60), st.lists(values, max_size=60))
def test_recording_in_parts_is_recording_at_once(first: list[int], second: list[int]) -> None:
    parts, whole = Histogram(), Histogram()
    parts.record(first)
    parts.record(second)
    whole.record(first + second)
    assert parts.percentiles(PERCENTS) == whole.percentiles(PERCENTS)
    assert (parts.count, parts.minimum, parts.maximum) == (whole.count, whole.minimum, whole.maximum)


def test_small_values_and_both_ends_are_exact() -> None:
    histogram = Histogram()
    histogram.record([*range(101), 7_654_321])
    assert histogram.percentiles([0, 50, 100]) == [0, 50, 7_654_321]
    assert (histogram.minimum, histogram.maximum) == (0, 7_654_321)


def test_percents_may_come_in_any_order() -> None:
    histogram = Histogram()
    histogram.record(list(range(100)))
    assert histogram.percentiles([99, 1, 50]) == [98, 0, 49]


def test_an_empty_histogram_reads_zero() -> None:
    histogram = Histogram()
    histogram.record([])
    assert histogram.percentiles([50, 100]) == [0.0, 0.0]


def test_a_value_beyond_the_largest_is_counted_and_kept_as_the_maximum() -> None:
    histogram = Histogram()
    histogram.record([MAX_VALUE * 50, 1])
    assert histogram.count == 2
    assert histogram.percentiles([50, 100]) == [1, MAX_VALUE * 50]


def test_a_negative_value_is_refused_and_nothing_is_counted() -> None:
    histogram = Histogram()
    with pytest.raises(ValueError, match="-3"):
        histogram.record([5, -3])
    assert histogram.count == 0


@pytest.mark.parametrize("percent", [-1, 100.1])
def test_a_percent_out_of_range_is_refused(percent: float) -> None:
    with pytest.raises(ValueError, match="percent"):
        Histogram().percentiles([percent])
