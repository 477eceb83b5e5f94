"""Admission: room in events and in bytes, who waits and in which order, and what a refusal advises."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hermes.events.engine.admission import MAX_WAITERS, Admission


class Answers(list[tuple[str, bool]]):
    """Who was told what, in order."""


def waiting(admission: Admission, count: int, size: int, answers: Answers, name: str) -> object:
    return admission.wait(count, size, lambda taken: answers.append((name, taken)))


# Room


def test_events_come_in_until_the_room_is_full() -> None:
    admission = Admission(10, 1000)
    assert all(admission.admit(1, 1) for _ in range(10))
    assert not admission.admit(1, 1)
    assert (admission.events, admission.bytes, admission.accepted) == (10, 10, 10)


def test_a_request_comes_in_whole_or_not_at_all() -> None:
    admission = Admission(10, 1000)
    assert admission.admit(7, 7)
    assert not admission.admit(4, 4)
    assert (admission.events, admission.bytes, admission.accepted) == (7, 7, 7)
    assert admission.admit(3, 3)


def test_room_is_bounded_in_bytes_too() -> None:
    admission = Admission(10, 100)
    assert admission.admit(1, 60)
    assert not admission.admit(1, 41)
    assert admission.admit(1, 40)


def test_a_body_larger_than_all_the_room_comes_into_the_empty_house_alone() -> None:
    admission = Admission(10, 100)
    assert admission.admit(1, 500)
    assert not admission.admit(1, 1)
    admission.leave(1, 500, 0)
    assert admission.admit(1, 1)
    assert not admission.admit(1, 500)


def test_who_leaves_makes_room() -> None:
    admission = Admission(10, 100)
    assert admission.admit(10, 100)
    admission.leave(4, 40, 0)
    assert admission.admit(4, 40)
    assert not admission.admit(1, 0)
    assert admission.accepted == 14


# Waiting


def test_waiters_come_in_first_come_first_served_and_each_is_told_once() -> None:
    admission, answers = Admission(10, 1000), Answers()
    assert admission.admit(10, 10)
    for name in "abc":
        waiting(admission, 4, 4, answers, name)
    admission.leave(4, 4, 0)
    assert answers == [("a", True)]
    admission.leave(5, 5, 0)
    assert answers == [("a", True), ("b", True)]
    admission.leave(10, 10, 0)
    assert answers == [("a", True), ("b", True), ("c", True)]


def test_a_large_request_is_not_overtaken_by_small_ones() -> None:
    admission, answers = Admission(10, 1000), Answers()
    assert admission.admit(8, 8)
    waiting(admission, 5, 5, answers, "large")
    waiting(admission, 1, 1, answers, "small")
    assert not admission.admit(1, 1)
    assert answers == []
    admission.leave(3, 3, 0)
    assert answers == [("large", True)]
    admission.leave(1, 1, 0)
    assert answers == [("large", True), ("small", True)]


def test_who_finds_room_does_not_wait() -> None:
    admission, answers = Admission(10, 1000), Answers()
    waiting(admission, 4, 4, answers, "a")
    assert answers == [("a", True)]


def test_calling_off_makes_way_for_the_next_and_later_does_nothing() -> None:
    admission, answers = Admission(10, 1000), Answers()
    assert admission.admit(8, 8)
    call_off = admission.wait(5, 5, lambda taken: answers.append(("large", taken)))
    waiting(admission, 2, 2, answers, "small")
    call_off()
    assert answers == [("large", False), ("small", True)]
    call_off()
    assert len(answers) == 2
    assert (admission.events, admission.accepted) == (10, 10)


def test_calling_off_after_it_came_in_does_nothing() -> None:
    admission, answers = Admission(10, 1000), Answers()
    call_off = admission.wait(1, 1, lambda taken: answers.append(("a", taken)))
    call_off()
    assert answers == [("a", True)]
    assert admission.events == 1


def test_those_who_wait_are_bounded_in_bytes_as_those_inside() -> None:
    admission, answers = Admission(1, 100), Answers()
    assert admission.admit(1, 100)
    waiting(admission, 1, 60, answers, "a")
    waiting(admission, 1, 41, answers, "b")
    assert answers == [("b", False)]
    waiting(admission, 1, 40, answers, "c")
    assert answers == [("b", False)]


def test_a_body_larger_than_all_the_room_may_wait_alone() -> None:
    admission, answers = Admission(10, 100), Answers()
    assert admission.admit(1, 1)
    waiting(admission, 1, 500, answers, "huge")
    waiting(admission, 1, 1, answers, "small")
    assert answers == [("small", False)]
    admission.leave(1, 1, 0)
    assert answers == [("small", False), ("huge", True)]


def test_waiters_who_come_back_with_more_as_soon_as_they_are_in_do_not_nest() -> None:
    admission = Admission(1, 10**6)
    assert admission.admit(1, 1)
    told = 0

    def come_back(taken: bool) -> None:
        nonlocal told
        told += 1
        if told < 10_000:
            admission.wait(1, 1, come_back)
            admission.leave(1, 1, 0.0)

    admission.wait(1, 1, come_back)
    admission.leave(1, 1, 0.0)
    assert told == 10_000
    assert admission.events == 1


def test_a_crowd_that_waits_is_bounded_in_number_too() -> None:
    admission = Admission(1, 10**9)
    assert admission.admit(1, 1)
    answers: list[bool] = []
    for _ in range(MAX_WAITERS + 1):
        admission.wait(1, 1, answers.append)
    assert answers == [False]


def test_dismissed_waiters_are_told_and_the_house_stays_open() -> None:
    admission, answers = Admission(1, 100), Answers()
    assert admission.admit(1, 1)
    waiting(admission, 1, 1, answers, "a")
    waiting(admission, 1, 1, answers, "b")
    admission.dismiss_waiters()
    assert answers == [("a", False), ("b", False)]
    admission.leave(1, 1, 0)
    assert admission.admit(1, 1)
    assert len(answers) == 2


def test_a_closed_house_lets_nobody_in_and_nobody_wait() -> None:
    admission, answers = Admission(10, 100), Answers()
    assert admission.admit(10, 10)
    waiting(admission, 1, 1, answers, "before")
    admission.close()
    assert answers == [("before", False)]
    admission.leave(10, 10, 0)
    assert not admission.admit(1, 1)
    waiting(admission, 1, 1, answers, "after")
    assert answers == [("before", False), ("after", False)]
    assert (admission.events, admission.accepted) == (0, 10)


# Retry-After


def test_retry_after_is_the_time_that_the_queue_takes_to_drain_at_the_latest_rate() -> None:
    admission = Admission(1000, 10**6)
    assert admission.admit(1000, 1000)
    for second in range(10):
        admission.leave(20, 20, 100.0 + second)
    # 200 events in the nine seconds since the first; 800 are left
    assert admission.retry_after(109.0) == 30  # 36 s, but never more than 30
    admission.leave(600, 600, 109.0)
    assert admission.retry_after(109.0) == 3  # 200 left at 88.9 a second


@pytest.mark.parametrize(("left", "expected"), [(1, 1), (500, 5), (501, 6), (2999, 30), (3000, 30), (9000, 30)])
def test_retry_after_is_whole_seconds_from_1_to_30(left: int, expected: int) -> None:
    admission = Admission(10**6, 10**6)
    assert admission.admit(left + 100, 0)
    admission.leave(100, 0, 50.0)  # 100 a second
    assert admission.retry_after(50.5) == expected


def test_retry_after_of_a_queue_that_does_not_drain_is_the_longest() -> None:
    admission = Admission(10, 100)
    assert admission.admit(10, 10)
    assert admission.retry_after(0) == 30
    admission.leave(1, 1, 5)
    assert admission.retry_after(5) < 30
    assert admission.retry_after(16) == 30  # nothing has left in the last ten seconds


def test_retry_after_of_an_empty_queue_is_the_shortest() -> None:
    assert Admission(10, 100).retry_after(0) == 1


# Any order of everything, against a model


class AdmissionMachine(RuleBasedStateMachine):
    """Admission against the plainest model: a list of those inside and a queue of those outside."""

    def __init__(self) -> None:
        super().__init__()
        self.admission = Admission(20, 200)
        self.inside: list[tuple[int, int]] = []
        self.outside: deque[tuple[int, int, int]] = deque()
        self.answers: dict[int, bool] = {}
        self.call_offs: dict[int, object] = {}
        self.expected: dict[int, bool] = {}
        self.closed = False
        self.numbers = 0

    def fits(self, count: int, size: int) -> bool:
        events = sum(count for count, _ in self.inside)
        room = events + count <= 20 and (sum(size for _, size in self.inside) + size <= 200 or not events)
        return room and not self.closed

    def let_in(self) -> None:
        while self.outside and self.fits(*self.outside[0][:2]):
            count, size, number = self.outside.popleft()
            self.inside.append((count, size))
            self.expected[number] = True

    @rule(count=st.integers(1, 25), size=st.integers(0, 250))
    def admit(self, count: int, size: int) -> None:
        expected = not self.outside and self.fits(count, size)
        assert self.admission.admit(count, size) is expected
        if expected:
            self.inside.append((count, size))

    @rule(count=st.integers(1, 20), size=st.integers(0, 250))
    def wait(self, count: int, size: int) -> None:
        number = self.numbers
        self.numbers += 1
        if self.closed or (self.outside and sum(size for _, size, _ in self.outside) + size > 200):
            self.expected[number] = False
        else:
            self.outside.append((count, size, number))
            self.let_in()

        def tell(taken: bool) -> None:
            assert number not in self.answers, "told twice"
            self.answers[number] = taken

        self.call_offs[number] = self.admission.wait(count, size, tell)

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        count, size = self.inside.pop(data.draw(st.integers(0, len(self.inside) - 1)))
        self.let_in()
        self.admission.leave(count, size, 0)

    @precondition(lambda self: self.call_offs)
    @rule(data=st.data())
    def call_off(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.call_offs)))
        if number not in self.expected:
            self.outside = deque(waiter for waiter in self.outside if waiter[2] != number)
            self.expected[number] = False
            self.let_in()
        call_off = self.call_offs[number]
        assert callable(call_off)
        call_off()

    @rule()
    def dismiss(self) -> None:
        self.expected.update({number: False for _, _, number in self.outside})
        self.outside.clear()
        self.admission.dismiss_waiters()

    @precondition(lambda self: self.numbers > 10)
    @rule()
    def close(self) -> None:
        self.closed = True
        self.admission.close()
        self.expected.update({number: False for _, _, number in self.outside})
        self.outside.clear()

    @invariant()
    def agrees(self) -> None:
        assert self.answers == self.expected
        assert self.admission.events == sum(count for count, _ in self.inside)
        assert self.admission.bytes == sum(size for _, size in self.inside)


TestAdmissionAgainstTheModel = AdmissionMachine.TestCase
TestAdmissionAgainstTheModel.settings = settings(max_examples=60, stateful_step_count=40)
