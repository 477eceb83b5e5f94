"""`Pace`: a backlog is read as fast as the setting says, whatever the sizes of the records."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hermes.events.engine.pace
from hermes.events.engine.pace import Pace


def test_the_example_is_right() -> None:
    found = doctest.testmod(hermes.events.engine.pace)
    assert found.attempted
    assert not found.failed


@given(st.lists(st.integers(1, 5000), min_size=20, max_size=200))
def test_reads_of_any_size_keep_the_floor_without_arrivals(sizes: list[int]) -> None:
    pace, now = Pace(1.5, 1000), 100.0
    for size in sizes:
        pace.owe(size, now)
        while pause := pace.pause(now):
            assert 0 < pause <= 1
            now += pause
    assert now - 100.0 == pytest.approx(sum(sizes) / 1000, abs=0.011)


def test_arrivals_above_the_floor_raise_the_pace_by_the_factor() -> None:
    pace = Pace(2.0, 10)
    for second in range(20):
        pace.record_arrival(1000, float(second))
    pace.owe(1000, 19.0)
    assert pace.pause(19.0) == pytest.approx(0.5)
