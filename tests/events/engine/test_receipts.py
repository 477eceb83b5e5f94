"""Requests that wait for the delivery of their events: when they are answered, and how many may wait."""

from __future__ import annotations

import itertools

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from hermes.events.ack import Outcome, Receipt
from hermes.events.engine import receipts as module
from hermes.events.engine.receipts import Receipts
from tests.events.engine.kit import Watch

Heard = list[tuple[str, Outcome, float]]


def open_receipt(receipts: Receipts, heard: Heard, name: str = "request", events: int = 1) -> Receipt:
    receipt = receipts.open(events, lambda outcome, _receipt: heard.append((name, outcome, trio.current_time())))
    assert receipt is not None
    return receipt


async def test_a_request_is_answered_when_the_last_sink_has_its_last_event(autojump_clock: None) -> None:
    heard: Heard = []
    receipts = Receipts(("a", "b"), 30.0)
    receipt = open_receipt(receipts, heard, events=3)
    for sink, count in [("a", 2), ("b", 3)]:
        receipt.note(sink, count)
    assert heard == []
    receipt.note("a", 1)
    assert [(name, outcome) for name, outcome, _ in heard] == [("request", Outcome.TAKEN)]
    assert len(receipts) == 0


@pytest.mark.parametrize(
    ("notes", "outcome"),
    [
        ([(2, 0, 0)], Outcome.TAKEN),
        ([(1, 1, 0)], Outcome.REFUSED),
        ([(0, 0, 2)], Outcome.DROPPED),
        ([(0, 1, 0), (0, 0, 1)], Outcome.DROPPED),
        ([(0, 0, 1), (1, 0, 0)], Outcome.DROPPED),
    ],
)
async def test_the_worst_that_befell_an_event_is_the_outcome(
    autojump_clock: None, notes: list[tuple[int, int, int]], outcome: Outcome
) -> None:
    heard: Heard = []
    receipt = open_receipt(Receipts(("a",), 30.0), heard, events=2)
    for note in notes:
        receipt.note("a", *note)
    assert [(name, what) for name, what, _ in heard] == [("request", outcome)]


async def test_each_expires_exactly_its_time_out_after_it_was_opened_and_later_news_change_nothing(
    autojump_clock: None,
) -> None:
    heard: Heard = []
    receipts = Receipts(("a",), 30.0)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(receipts.run)
        first = open_receipt(receipts, heard, "first")
        await trio.sleep(10)
        second = open_receipt(receipts, heard, "second")
        third = open_receipt(receipts, heard, "third")
        await trio.sleep(25)
        assert heard == [("first", Outcome.LATE, began + 30)]
        second.note("a", 1)
        first.note("a", 1)
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    assert heard[1:] == [("second", Outcome.TAKEN, began + 35), ("third", Outcome.LATE, began + 40)]
    assert third.closed
    assert first.sinks["a"].delivered == 1


async def test_one_that_is_closed_before_the_task_looks_leaves_nothing_to_wait_for(autojump_clock: None) -> None:
    heard: Heard = []
    receipts = Receipts(("a",), 30.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(receipts.run)
        await wait_all_tasks_blocked()
        open_receipt(receipts, heard).note("a", 1)
        await wait_all_tasks_blocked()
        open_receipt(receipts, heard, "late")
        await trio.sleep(31)
        nursery.cancel_scope.cancel()
    assert [(name, outcome) for name, outcome, _ in heard] == [("request", Outcome.TAKEN), ("late", Outcome.LATE)]


async def test_only_those_that_wait_count_against_the_bound(
    autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_OPEN", 10)
    heard: Heard = []
    receipts = Receipts(("a",), 30.0)
    stuck = open_receipt(receipts, heard, "stuck")
    for _ in range(1000):  # behind one that never ends
        open_receipt(receipts, heard).note("a", 1)
    assert len(receipts) == 1
    waiting = [open_receipt(receipts, heard) for _ in range(9)]
    assert receipts.open(1, lambda *_: None) is None
    waiting[4].note("a", 1)
    open_receipt(receipts, heard)
    assert receipts.open(1, lambda *_: None) is None
    assert not stuck.closed


async def test_a_crowd_that_expires_together_leaves_the_loop_to_others_between(autojump_clock: None) -> None:
    receipts = Receipts(("a",), 30.0)
    heard: Heard = []
    steps = [0]
    for number in range(3000):
        open_receipt(receipts, heard, f"request-{number}")
    with Watch(lambda: steps.append(len(heard))):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receipts.run)
            await trio.sleep(31)
            nursery.cancel_scope.cancel()
    assert [name for name, _, _ in heard] == [f"request-{number}" for number in range(3000)]
    assert max(after - before for before, after in itertools.pairwise(steps)) <= 500


async def test_at_the_end_everybody_hears_and_nobody_is_followed_any_more(autojump_clock: None) -> None:
    heard: Heard = []
    receipts = Receipts(("a",), 30.0)
    for name in ("first", "second"):
        open_receipt(receipts, heard, name)
    receipts.expire_all()
    assert [(name, outcome) for name, outcome, _ in heard] == [("first", Outcome.LATE), ("second", Outcome.LATE)]
    assert receipts.open(1, lambda *_: None) is None
    receipts.expire_all()
    assert len(heard) == 2
