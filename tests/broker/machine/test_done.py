"""What a group has done: as a set says, for any order, and in little memory."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes.broker.machine import done as module
from hermes.broker.machine.done import Done

STEPS = st.lists(st.one_of(st.integers(0, 12), st.integers(0, 40).map(lambda offset: -offset)), max_size=40)
"""The first, second, ... open offset is done; or, negative, all below an offset are."""


@given(st.integers(0, 9), STEPS)
def test_the_watermark_and_the_ranges_are_those_of_a_set(watermark: int, steps: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", 4)
        done, marked = Done(watermark), set(range(watermark))
        for step in steps:
            if step < 0:
                done.raise_to(-step)
                marked |= set(range(-step))
            else:
                offset = [each for each in range(100) if each not in marked][step]
                done.add(offset)
                marked.add(offset)
            assert done.watermark == next(each for each in range(100) if each not in marked)
            ranges = list(done.ranges())
            assert {each for start, end in ranges for each in range(start, end)} == {
                each for each in marked if each > done.watermark
            }
            # Two that touch would be one.
            assert all(end < start for (_, end), (start, _) in pairwise(ranges))
            assert [each in done for each in range(100)] == [each in marked for each in range(100)]
            again = Done(done.watermark, ranges)
            assert list(again.ranges()) == list(done.copy().ranges()) == ranges


ROWS = 100 * module._BLOCK


def test_a_message_at_the_bottom_that_stays_makes_a_million_above_it_no_memory() -> None:
    done = Done(0)
    for offset in range(1, ROWS):
        done.add(offset)
    assert (len(done._partial), len(done._full)) == (1, 99)
    done.add(0)
    assert (done.watermark, len(done._partial), len(done._full)) == (ROWS, 0, 0)


def test_blocks_below_the_watermark_are_forgotten() -> None:
    done = Done(0)
    for offset in range(0, ROWS, 2):
        done.add(offset)
    done.raise_to(ROWS // 2)
    assert (done.watermark, len(done._partial)) == (ROWS // 2 + 1, 50)
    for offset in range(done.watermark, ROWS, 2):
        done.add(offset)
    assert (done.watermark, len(done._partial), len(done._full)) == (ROWS, 0, 0)
    # The watermark passes the last offset of a block one by one, and that block has a byte that was set before.
    done.add(ROWS + 1)
    for offset in (ROWS, *range(ROWS + 2, ROWS + module._BLOCK)):
        done.add(offset)
    assert (done.watermark, len(done._partial), len(done._full)) == (ROWS + module._BLOCK, 0, 0)
