"""When requests of the open loop are due."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes.load.schedule import SECOND, Schedule


@pytest.mark.parametrize(
    ("now", "due"),
    [(-1, 0), (0, 0), (99, 0), (100, 1), (100 + SECOND // 4 - 1, 1), (100 + SECOND // 4, 2), (100 + SECOND, 5)],
)
def test_the_first_request_is_due_at_the_start_and_the_others_at_even_distances(now: int, due: int) -> None:
    assert Schedule(start=100, rate=4).due_by(now) == due


@given(st.integers(0, 10**15), st.floats(0.001, 1e6, allow_nan=False), st.integers(0, 10**7))
def test_both_directions_agree(start: int, rate: float, number: int) -> None:
    schedule = Schedule(start, rate)
    due_at = schedule.due_at(number)
    assert schedule.due_by(due_at) >= number + 1
    assert schedule.due_by(due_at - 1) <= number


def test_a_long_run_does_not_drift() -> None:
    schedule = Schedule(start=0, rate=5000)
    assert schedule.due_at(5000 * 3600) == 3600 * SECOND
    assert schedule.due_by(3600 * SECOND - 1) == 5000 * 3600
