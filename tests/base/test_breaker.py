"""The circuit breaker: its table cell by cell, exact times, calls that end late, and a state machine at random."""

import itertools
import math
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hermes.base.breaker import TRANSITIONS, Breaker, BreakerEvent, BreakerState

CLOSED, HALF_OPEN, OPEN = BreakerState.CLOSED, BreakerState.HALF_OPEN, BreakerState.OPEN


def fail(breaker: Breaker, now: float, times: int = 1) -> None:
    for _ in range(times):
        assert breaker.allow(now)
        breaker.failed(now)


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker()
    fail(breaker, now, times=3)
    assert breaker.state is OPEN
    return breaker


def half_open() -> Breaker:
    """A breaker at 30 s whose trial is under way."""
    breaker = opened()
    assert breaker.allow(30)
    assert breaker.state is HALF_OPEN
    return breaker


# The table


def test_the_states_are_the_values_of_the_metric() -> None:
    assert {state.name: state.value for state in BreakerState} == {"CLOSED": 0, "HALF_OPEN": 1, "OPEN": 2}


def closed_with_a_call() -> Breaker:
    breaker = Breaker()
    assert breaker.allow(30)
    return breaker


def closed_before_the_last_failure() -> Breaker:
    breaker = Breaker()
    fail(breaker, 30, times=2)
    assert breaker.allow(30)
    return breaker


def open_with_a_late_call() -> Breaker:
    breaker = Breaker()
    assert breaker.allow(0)
    fail(breaker, 0, times=3)
    return breaker


def half_open_without_a_trial() -> Breaker:
    breaker = half_open()
    breaker.abandoned(30)
    return breaker


# How each cell of the table is reached from outside: a breaker in the state, then what brings the event, at 30 s.
CELLS: dict[tuple[BreakerState, BreakerEvent], tuple[Callable[[], Breaker], Callable[[Breaker, float], object]]] = {
    (CLOSED, BreakerEvent.SUCCEEDED): (closed_with_a_call, Breaker.succeeded),
    (CLOSED, BreakerEvent.FAILED): (closed_with_a_call, Breaker.failed),
    (CLOSED, BreakerEvent.FAILED_TOO_OFTEN): (closed_before_the_last_failure, Breaker.failed),
    (CLOSED, BreakerEvent.ABANDONED): (closed_with_a_call, Breaker.abandoned),
    (OPEN, BreakerEvent.SUCCEEDED): (open_with_a_late_call, Breaker.succeeded),
    (OPEN, BreakerEvent.FAILED): (open_with_a_late_call, Breaker.failed),
    (OPEN, BreakerEvent.ABANDONED): (open_with_a_late_call, Breaker.abandoned),
    (OPEN, BreakerEvent.TRIAL_STARTED): (opened, Breaker.allow),
    (HALF_OPEN, BreakerEvent.SUCCEEDED): (half_open, Breaker.succeeded),
    (HALF_OPEN, BreakerEvent.FAILED): (half_open, Breaker.failed),
    (HALF_OPEN, BreakerEvent.ABANDONED): (half_open, Breaker.abandoned),
    (HALF_OPEN, BreakerEvent.TRIAL_STARTED): (half_open_without_a_trial, Breaker.allow),
}


@pytest.mark.parametrize(("state", "event"), TRANSITIONS, ids=lambda part: part.name)
def test_each_cell_of_the_table_is_what_a_breaker_does(state: BreakerState, event: BreakerEvent) -> None:
    make, act = CELLS[state, event]
    breaker = make()
    assert breaker.state is state
    act(breaker, 30)
    assert breaker.state is TRANSITIONS[state, event]


def test_the_table_is_that_of_the_specification_and_has_no_other_cell() -> None:
    moves = {(state, event): after for (state, event), after in TRANSITIONS.items() if after is not state}
    assert moves == {
        (CLOSED, BreakerEvent.FAILED_TOO_OFTEN): OPEN,
        (OPEN, BreakerEvent.TRIAL_STARTED): HALF_OPEN,
        (HALF_OPEN, BreakerEvent.SUCCEEDED): CLOSED,
        (HALF_OPEN, BreakerEvent.FAILED): OPEN,
    }
    missing = set(itertools.product(BreakerState, BreakerEvent)) - set(TRANSITIONS)
    assert missing == {
        (CLOSED, BreakerEvent.TRIAL_STARTED),  # a call of a closed breaker is no trial
        (OPEN, BreakerEvent.FAILED_TOO_OFTEN),  # only a closed breaker counts up to `failures`
        (HALF_OPEN, BreakerEvent.FAILED_TOO_OFTEN),
    }


# Opening


def test_it_opens_at_the_third_consecutive_failure_and_not_before() -> None:
    breaker = Breaker()
    fail(breaker, 0, times=2)
    assert breaker.state is CLOSED
    fail(breaker, 0)
    assert breaker.state is OPEN
    assert not breaker.allow(0)


def test_a_success_breaks_the_row_of_failures() -> None:
    breaker = Breaker()
    for _ in range(5):
        fail(breaker, 0, times=2)
        assert breaker.allow(0)
        breaker.succeeded(0)
    assert breaker.state is CLOSED
    fail(breaker, 0, times=3)
    assert breaker.state is OPEN


def test_an_abandoned_call_neither_counts_as_a_failure_nor_breaks_the_row() -> None:
    breaker = Breaker()
    fail(breaker, 0, times=2)
    for _ in range(5):
        assert breaker.allow(0)
        breaker.abandoned(0)
    assert breaker.state is CLOSED
    fail(breaker, 0)
    assert breaker.state is OPEN


def test_concurrent_calls_count_in_the_order_in_which_they_end() -> None:
    breaker = Breaker()
    for _ in range(4):
        assert breaker.allow(0)
    breaker.failed(1)
    breaker.failed(2)
    breaker.succeeded(3)
    breaker.failed(4)
    assert breaker.state is CLOSED


@pytest.mark.parametrize("failures", [1, 2, 7])
def test_the_number_of_failures_is_configurable(failures: int) -> None:
    breaker = Breaker(failures=failures)
    fail(breaker, 0, times=failures - 1)
    assert breaker.state is CLOSED
    fail(breaker, 0)
    assert breaker.state is OPEN


# Open, and the trial


def test_no_call_is_allowed_for_exactly_thirty_seconds_and_each_refusal_counts() -> None:
    breaker = opened(now=100.5)
    for now in (100.5, 101.0, 130.0, math.nextafter(130.5, 0)):
        assert not breaker.allow(now)
    assert breaker.rejects == 4
    assert breaker.state is OPEN
    assert breaker.allow(130.5)
    assert breaker.state is HALF_OPEN
    assert breaker.rejects == 4


def test_remaining_tells_the_seconds_to_the_next_trial() -> None:
    breaker = Breaker()
    assert breaker.remaining(0) == 0
    fail(breaker, 10, times=3)
    assert [breaker.remaining(now) for now in (10, 25, 40, 50)] == [30, 15, 0, 0]
    assert breaker.allow(50)
    assert breaker.remaining(50) == 0
    breaker.failed(60)
    assert breaker.remaining(61) == 29


def test_the_time_it_stays_open_is_configurable() -> None:
    breaker = Breaker(failures=1, open_for=0.25)
    fail(breaker, 1)
    assert not breaker.allow(1.125)
    assert breaker.allow(1.25)
    breaker = Breaker(failures=1, open_for=0)
    fail(breaker, 1)
    assert breaker.allow(1)
    assert breaker.state is HALF_OPEN


def test_half_open_allows_one_trial_and_refuses_the_others() -> None:
    breaker = half_open()
    assert [breaker.allow(now) for now in (30, 31, 1000)] == [False] * 3
    assert breaker.rejects == 3


def test_a_successful_trial_closes_it_and_the_count_of_failures_begins_anew() -> None:
    breaker = half_open()
    breaker.succeeded(31)
    assert breaker.state is CLOSED
    fail(breaker, 31, times=2)
    assert breaker.state is CLOSED
    assert breaker.allow(31)


def test_a_failed_trial_opens_it_again_for_the_whole_time() -> None:
    breaker = half_open()
    breaker.failed(35)
    assert breaker.state is OPEN
    assert not breaker.allow(math.nextafter(65, 0))
    assert breaker.allow(65)
    assert breaker.state is HALF_OPEN


def test_an_abandoned_trial_frees_its_place_for_one_more_at_once() -> None:
    breaker = half_open()
    breaker.abandoned(31)
    assert breaker.state is HALF_OPEN
    assert breaker.allow(31)
    assert not breaker.allow(31)
    breaker.succeeded(32)
    assert breaker.state is CLOSED


# Calls from before the breaker opened


@pytest.mark.parametrize("end", [Breaker.succeeded, Breaker.failed, Breaker.abandoned])
def test_a_late_result_neither_closes_an_open_breaker_nor_prolongs_it(end: Callable[[Breaker, float], None]) -> None:
    breaker = open_with_a_late_call()
    end(breaker, 10)
    assert breaker.state is OPEN
    assert breaker.remaining(10) == 20
    assert not breaker.allow(math.nextafter(30, 0))
    assert breaker.allow(30)
    breaker.succeeded(30)
    fail(breaker, 31, times=2)
    assert breaker.state is CLOSED  # a late failure is not counted for the time after the trial either


@pytest.mark.parametrize("end", [Breaker.succeeded, Breaker.failed, Breaker.abandoned])
def test_the_trial_waits_for_calls_from_before_so_that_its_result_is_its_own(
    end: Callable[[Breaker, float], None],
) -> None:
    breaker = open_with_a_late_call()
    assert not breaker.allow(40)
    assert breaker.state is OPEN
    assert breaker.rejects == 1
    end(breaker, 45)
    assert breaker.state is OPEN
    assert breaker.allow(45)
    assert breaker.state is HALF_OPEN


# What is refused


@pytest.mark.parametrize("end", [Breaker.succeeded, Breaker.failed, Breaker.abandoned])
def test_the_end_of_a_call_that_was_never_allowed_is_an_error(end: Callable[[Breaker, float], None]) -> None:
    breaker = Breaker()
    with pytest.raises(RuntimeError, match="exactly once"):
        end(breaker, 0)
    assert breaker.allow(0)
    breaker.succeeded(0)
    with pytest.raises(RuntimeError, match="exactly once"):
        end(breaker, 0)
    assert breaker.state is CLOSED


@pytest.mark.parametrize(
    ("failures", "open_for", "complaint"),
    [(0, 30, "failures is 0"), (-1, 30, "failures is -1"), (3, -0.5, "open_for is -0.5"), (3, math.nan, "is nan")],
)
def test_an_impossible_threshold_is_refused_by_name(failures: int, open_for: float, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Breaker(failures=failures, open_for=open_for)


# At random


class AnyCallsInAnyOrder(RuleBasedStateMachine):
    """Calls that begin and end at random moments, and what must hold whatever they do.

    Judged from what was asked and answered: `opened_at` is when the breaker last opened, None while it is closed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(failures=3, open_for=30)
        self.now = 0.0
        self.under_way = 0
        self.refused = 0
        self.failed_in_a_row = 0
        self.opened_at: float | None = None

    @rule(seconds=st.sampled_from([0.5, 10.0, 29.5, 30.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def a_call_wants_to_begin(self) -> None:
        before = self.breaker.state
        allowed = self.breaker.allow(self.now)
        if self.opened_at is None:
            assert allowed
        else:
            assert allowed is (self.under_way == 0 and self.now >= self.opened_at + 30)
            assert self.breaker.state is (HALF_OPEN if allowed else before)
        self.under_way += allowed
        self.refused += not allowed

    @precondition(lambda self: self.under_way)
    @rule()
    def a_call_succeeds(self) -> None:
        before = self.breaker.state
        self.breaker.succeeded(self.now)
        self.under_way -= 1
        if before is not OPEN:
            self.failed_in_a_row, self.opened_at = 0, None
            assert self.breaker.state is CLOSED

    @precondition(lambda self: self.under_way)
    @rule()
    def a_call_fails(self) -> None:
        before = self.breaker.state
        self.breaker.failed(self.now)
        self.under_way -= 1
        if before is OPEN:
            return
        self.failed_in_a_row += 1
        if before is HALF_OPEN or self.failed_in_a_row == 3:
            self.opened_at = self.now
            assert self.breaker.state is OPEN
        else:
            assert self.breaker.state is CLOSED

    @precondition(lambda self: self.under_way)
    @rule()
    def a_call_is_abandoned(self) -> None:
        before = self.breaker.state
        self.breaker.abandoned(self.now)
        self.under_way -= 1
        assert self.breaker.state is before

    @invariant()
    def never_two_calls_when_half_open(self) -> None:
        assert self.breaker.state is not HALF_OPEN or self.under_way <= 1

    @invariant()
    def open_or_half_open_from_the_opening_to_the_success_of_a_trial(self) -> None:
        assert (self.breaker.state is CLOSED) is (self.opened_at is None)

    @invariant()
    def remaining_is_the_rest_of_the_open_window(self) -> None:
        window = 0.0 if self.opened_at is None else max(0.0, self.opened_at + 30 - self.now)
        assert self.breaker.remaining(self.now) == window

    @invariant()
    def every_refusal_is_counted(self) -> None:
        assert self.breaker.rejects == self.refused


AnyCallsInAnyOrder.TestCase.settings = settings(max_examples=200, stateful_step_count=60)
test_whatever_calls_do = AnyCallsInAnyOrder.TestCase
