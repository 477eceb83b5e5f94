"""The ledger: what is missing shows whatever is written, and an account is a value of its moment."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hermes.events.engine.ledger import Ledger

OUTCOMES = st.one_of(
    st.tuples(st.just("deliver"), st.integers(0, 5)),
    st.tuples(st.just("dead_letter"), st.integers(0, 5)),
    st.tuples(st.sampled_from(["queue_full", "unavailable", "circuit_open", "shutdown"]), st.integers(1, 5)),
)


@given(st.lists(OUTCOMES))
def test_what_has_no_outcome_and_is_not_in_flight_is_missing(outcomes: list[tuple[str, int]]) -> None:
    ledger = Ledger("fake", lambda: 0)
    accepted = sum(count for _, count in outcomes)
    ledger.accept(accepted)
    left = accepted
    for kind, count in outcomes:
        if kind in {"deliver", "dead_letter"}:
            getattr(ledger, kind)(count)
        else:
            ledger.drop(count, kind)
        left -= count
        account = ledger.account(left)
        assert account.balanced
        assert account.accepted == accepted
        for wrong in (left - 1, left + 1):
            assert ledger.account(wrong).missing == left - wrong
            assert not ledger.account(wrong).balanced
        assert account.delivered + account.dead_lettered + sum(account.dropped.values()) == accepted - left
    assert ledger.account(0).balanced


def test_an_account_does_not_change_afterwards() -> None:
    ledger = Ledger("fake", lambda: 0)
    ledger.accept(5)
    ledger.drop(1, "queue_full")
    before = ledger.account(4)
    ledger.drop(1, "queue_full")
    ledger.deliver(3)
    assert (before.dropped, before.delivered, before.in_flight) == ({"queue_full": 1}, 0, 4)


def test_an_account_as_plain_values_has_what_is_in_flight() -> None:
    ledger = Ledger("fake", lambda: 0)
    ledger.accept(9)
    ledger.deliver(4)
    ledger.dead_letter(1)
    ledger.drop(2, "unavailable")
    assert ledger.account(2).to_dict() == {
        "sink": "fake",
        "accepted": 9,
        "replayed": 0,
        "delivered": 4,
        "dead_lettered": 1,
        "evicted": 0,
        "spilled": 0,
        "dropped": {"unavailable": 2},
        "in_flight": 2,
    }


def test_an_account_that_counts_an_event_twice_is_not_balanced() -> None:
    ledger = Ledger("fake", lambda: 0)
    ledger.accept(2)
    ledger.deliver(2)
    assert ledger.account(0).balanced
    ledger.drop(1, "shutdown")
    assert not ledger.account(0).balanced


def test_an_account_that_spilled_what_the_journal_does_not_owe_is_not_balanced() -> None:
    ledger = Ledger("fake", lambda: 0)
    ledger.accept(2)
    ledger.spill(2)
    assert [ledger.account(0, owed).balanced for owed in (None, 2, 1, 3, 0)] == [True, True, False, False, False]
