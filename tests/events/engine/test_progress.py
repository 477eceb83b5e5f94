"""The progress of a sink beside a plain set of settled records."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes.events.engine.progress import MOST_RANGES, Progress, ProgressState

SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=40)
"""How many events are in each record."""


def gaps_of(settled: set[int], begin: int, stop: int) -> list[tuple[int, int]]:
    """Runs of what is not settled, by looking at each."""
    gaps: list[tuple[int, int]] = []
    for index in range(begin, stop):
        if index in settled:
            continue
        if gaps and gaps[-1][1] == index:
            gaps[-1] = gaps[-1][0], index + 1
        else:
            gaps.append((index, index + 1))
    return gaps


@given(st.data(), SIZES, st.integers(0, 1000), st.integers(0, 1000))
def test_it_agrees_with_a_set(data: st.DataObject, sizes: list[int], begin: int, before: int) -> None:
    progress = Progress(begin, before)
    settled: set[int] = set()
    end = begin + len(sizes)
    size = dict(enumerate(sizes, begin))
    while len(settled) < len(sizes):
        start, stop = data.draw(st.sampled_from(gaps_of(settled, begin, end)), "gap")
        first = data.draw(st.integers(start, stop - 1), "from")
        last = data.draw(st.integers(first + 1, stop), "to")
        if data.draw(st.booleans(), "all below") and last > progress.cursor:
            records = set(range(begin, last)) - settled
            count = before + sum(size[index] for index in range(begin, last))
            assert progress.unsettled_below(last, count) == sum(size[index] for index in records)
            progress.settle_below(last, sum(size[index] for index in records))
        else:
            records = set(range(first, last))
            progress.settle(first, last, sum(size[index] for index in records))
        settled |= records
        assert progress.settled == before + sum(size[index] for index in settled)
        assert progress.gaps(end) == gaps_of(settled, begin, end)
        assert progress.gaps(first) == gaps_of(settled, begin, first)
        assert progress.cursor == next((index for index in range(begin, end) if index not in settled), end)
        assert len(progress._stops) == len(progress._starts) == len(progress._events)
        again = Progress.restore(msgspec.json.decode(msgspec.json.encode(progress.state()), type=ProgressState), end)
        assert (again.cursor, again.settled, again.gaps(end)) == (progress.cursor, progress.settled, progress.gaps(end))
    assert progress.state() == ProgressState(end, before + sum(sizes))


@given(st.data(), SIZES)
def test_a_log_that_has_lost_its_end_takes_back_what_was_settled_there(data: st.DataObject, sizes: list[int]) -> None:
    progress = Progress(0, 0)
    settled = data.draw(st.sets(st.sampled_from(range(len(sizes)))))
    for index in settled:
        progress.settle(index, index + 1, sizes[index])
    end = data.draw(st.integers(0, len(sizes)))
    again = Progress.restore(progress.state(), end)
    believed = set(range(end)) - {index for gap in again.gaps(end) for index in range(*gap)}
    assert believed <= settled
    assert again.cursor == min(progress.cursor, end)
    # What the cursor has passed stays counted: those events are gone, and have had their outcome.
    counted = believed | set(range(progress.cursor))
    assert again.settled == sum(sizes[index] for index in counted)


def test_a_saved_state_is_bounded_and_says_less_than_is_settled_rather_than_more() -> None:
    progress = Progress(0, 0)
    for number in range(MOST_RANGES + 500):
        progress.settle(2 * number + 1, 2 * number + 2, 3)
    state = progress.state()
    assert len(state.done) == MOST_RANGES
    assert state.settled == 3 * MOST_RANGES
    assert state.done[-1] == (2 * MOST_RANGES - 1, 2 * MOST_RANGES, 3)
    assert len(msgspec.json.encode(state)) < 50_000


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 0, 2], [0, 2, 1], [2, 0, 1], [1, 2, 0]])
def test_neighbours_become_one_in_whatever_order_they_come(order: list[int]) -> None:
    progress = Progress(10, 100)
    for number in order:
        progress.settle(20 + 2 * number, 22 + 2 * number, 5)
    assert progress.state() == ProgressState(10, 115, ((20, 26, 15),))
    progress.settle(10, 20, 1)
    assert progress.state() == ProgressState(26, 116)
