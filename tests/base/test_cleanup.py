"""Clean-up: shielded from cancellation, bounded by its own time and by the one end of a stop."""

from __future__ import annotations

import threading

import pytest
import trio
from trio.testing import MockClock

from hermes.base.cleanup import clean_up, end_by, left_behind, run_to_end, time_on_threads


async def test_a_cancelled_task_still_cleans_up_within_its_time(autojump_clock: MockClock) -> None:
    cleaned = []
    with trio.move_on_after(1):
        try:
            await trio.sleep_forever()
        finally:
            with clean_up(5) as scope:
                await trio.sleep(4)
                cleaned.append(trio.current_time())
            assert not scope.cancelled_caught
            with clean_up(5) as scope:
                await trio.sleep_forever()
            assert scope.cancelled_caught
    assert cleaned == [5]
    assert trio.current_time() == 10


@pytest.mark.parametrize("begun_at", [1, 5, 20], ids=["before-the-stop", "during-the-stop", "after-its-end"])
async def test_all_clean_up_ends_with_the_stop_however_many_pieces_there_are(
    autojump_clock: MockClock, begun_at: float
) -> None:
    async def hang() -> None:
        await trio.sleep(begun_at)
        for _ in range(10):
            with clean_up(60) as scope:
                await trio.sleep_forever()
            assert scope.cancelled_caught

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hang)
        await trio.sleep(4)
        end_by(trio.current_time() + 6)
    assert trio.current_time() == max(10, begun_at)


async def test_a_later_end_gives_what_comes_then_more_time(autojump_clock: MockClock) -> None:
    end_by(1)
    with clean_up(60):
        await trio.sleep_forever()
    end_by(3)
    with clean_up(60):
        await trio.sleep_forever()
    assert trio.current_time() == 3


async def test_what_threads_may_take_is_bounded_too() -> None:
    left = time_on_threads()
    assert left(2) == 2
    end_by(trio.current_time() + 1)
    assert 0 < left(2) <= 1
    end_by(trio.current_time() - 1)
    assert left(2) == 0


async def test_a_call_that_has_begun_runs_to_its_end_though_its_caller_is_cancelled() -> None:
    limiter, begun, done = trio.CapacityLimiter(1), trio.Event(), []
    token, go_on = trio.lowlevel.current_trio_token(), threading.Event()

    def work() -> None:
        token.run_sync_soon(begun.set)
        go_on.wait()
        done.append(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: run_to_end(work, limiter=limiter))
        await begun.wait()
        nursery.cancel_scope.cancel()
        go_on.set()
    assert (done, limiter.borrowed_tokens, left_behind()) == ([1], 0, 0)
    with trio.move_on_after(0) as scope:  # one that waits for its turn has not begun
        async with limiter:
            pass
    assert scope.cancelled_caught


async def test_an_error_of_the_call_is_the_callers_and_the_next_has_its_turn() -> None:
    limiter = trio.CapacityLimiter(1)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            await run_to_end(lambda: 1 // 0, limiter=limiter)


async def test_a_call_that_hangs_is_left_behind_at_the_end_and_nobody_has_its_turn_again() -> None:
    limiter, hang = trio.CapacityLimiter(1), threading.Event()
    try:
        with trio.move_on_after(0.01) as given_up:
            end_by(trio.current_time() + 0.1)
            await run_to_end(hang.wait, limiter=limiter)
        assert given_up.cancelled_caught
        assert left_behind() == 1
        assert limiter.borrowed_tokens == 1
        with pytest.raises(trio.TooSlowError):  # nobody cancels this one, and it does not return as if it were done
            await run_to_end(hang.wait, limiter=trio.CapacityLimiter(1))
    finally:
        hang.set()
