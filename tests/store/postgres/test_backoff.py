"""The pool's back-off, a pure object: times and chance are given."""

from __future__ import annotations

import pytest

from hermes.store.postgres.backoff import DialBackoff


def test_pauses_double_up_to_the_longest() -> None:
    backoff = DialBackoff(shortest=0.05, longest=1.0)
    now, pauses = 0.0, []
    for _ in range(7):
        backoff.failed(now, chance=1.0)
        pauses.append(backoff.not_before - now)
        now = backoff.not_before
    assert pauses == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0])


def test_chance_shortens_a_pause_by_half_at_most() -> None:
    backoff = DialBackoff(shortest=1.0, longest=1.0)
    backoff.failed(10.0, chance=0.0)
    assert backoff.not_before == 10.5


def test_attempts_that_fail_together_count_once() -> None:
    backoff = DialBackoff(shortest=1.0, longest=8.0)
    for _ in range(20):
        backoff.failed(0.0, chance=1.0)
    assert (backoff.failures, backoff.not_before) == (1, 1.0)


def test_success_ends_the_pauses() -> None:
    backoff = DialBackoff()
    backoff.failed(5.0, chance=1.0)
    backoff.succeeded()
    assert (backoff.failures, backoff.not_before) == (0, 0.0)


def test_a_server_that_is_down_for_weeks_is_dialed_still() -> None:
    backoff = DialBackoff(shortest=0.05, longest=1.0)
    now = 0.0
    for _ in range(5_000):
        backoff.failed(now, chance=1.0)
        now = backoff.not_before
    assert backoff.not_before < 5_001
