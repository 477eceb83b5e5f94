"""`Rate`: events a second over the last ten, in bounded memory."""

from __future__ import annotations

import doctest

import pytest

import hermes.base.rate
from hermes.base.rate import WINDOW, Rate


def test_a_rate_forgets_what_is_older_than_its_window_and_stays_small() -> None:
    rate = Rate()
    for tick in range(100_000):
        rate.record(1, tick / 10)
    assert rate.per_second(9999.9) == pytest.approx(10, rel=0.11)
    assert len(rate._counts) <= WINDOW + 1
    assert rate.per_second(20_000) == 0


def test_a_first_count_is_spread_over_a_second_at_least() -> None:
    rate = Rate()
    rate.record(100, 5.0)
    assert rate.per_second(5.0) == rate.per_second(5.9) == 100
    assert rate.per_second(9.0) == 25


def test_the_example_is_right() -> None:
    assert doctest.testmod(hermes.base.rate).attempted
    assert not doctest.testmod(hermes.base.rate).failed
