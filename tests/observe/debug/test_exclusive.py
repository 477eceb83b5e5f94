"""One profile at a time, of whatever kind, and a rest after each."""

import pytest
import trio
from trio.testing import MockClock

from hermes.observe.debug import answer
from hermes.observe.debug.exclusive import Exclusive, ProfilerBusy, Turns
from hermes.observe.debug.heap import heap_profile


async def test_the_second_is_refused_and_told_when_to_come_back(mock_clock: MockClock) -> None:
    exclusive = Exclusive(0.8)
    with exclusive.hold("CPU profile", 30):
        mock_clock.jump(12)
        with pytest.raises(ProfilerBusy, match=r"a CPU profile is already being taken; it ends in 18.0 s") as caught:
            exclusive.hold("heap profile", 5).__enter__()
    assert caught.value.retry_after == 18


async def test_the_refused_one_does_not_free_what_the_first_holds(mock_clock: MockClock) -> None:
    exclusive = Exclusive(0.8)
    with exclusive.hold("CPU profile", 30):
        for _ in range(2):
            with pytest.raises(ProfilerBusy), exclusive.hold("CPU profile", 5):
                pytest.fail("held twice")


async def test_an_overdue_holder_makes_no_negative_wait(mock_clock: MockClock) -> None:
    exclusive = Exclusive(0.8)
    with exclusive.hold("CPU profile", 1):
        mock_clock.jump(5)
        with pytest.raises(ProfilerBusy) as caught:
            exclusive.hold("CPU profile", 5).__enter__()
    assert caught.value.retry_after == 0


async def test_a_cancelled_holder_frees_it_after_a_rest_for_what_it_took(autojump_clock: MockClock) -> None:
    exclusive = Exclusive(0.8)
    with trio.move_on_after(1), exclusive.hold("CPU profile", 30):
        await trio.sleep(30)
    with pytest.raises(ProfilerBusy, match=r"a profile was just taken, and the service has a rest of 0\.2 s"):
        exclusive.hold("CPU profile", 1).__enter__()
    await trio.sleep(0.25)
    with exclusive.hold("CPU profile", 1):
        assert trio.current_time() == pytest.approx(1.25)


async def test_those_who_ask_without_end_get_no_more_than_their_part_of_the_time(autojump_clock: MockClock) -> None:
    profiles, views = Exclusive(0.8), Turns(0.2)
    held = {"profiles": 0.0, "views": 0.0}

    async def profile() -> None:
        while True:
            try:
                with profiles.hold("CPU profile", 2):
                    await trio.sleep(2)
                    held["profiles"] += 2
            except ProfilerBusy:
                await trio.sleep(0.5)

    async def view() -> None:
        while True:
            async with views.turn():
                await trio.sleep(2)
                held["views"] += 2

    with trio.move_on_after(1000):
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(profile)
                nursery.start_soon(view)
    assert held == {"profiles": pytest.approx(800, abs=4), "views": pytest.approx(200, abs=4)}


def test_the_rest_of_an_earlier_run_of_trio_is_over() -> None:
    exclusive = Exclusive(0.5)

    views = Turns(0.5)

    async def use() -> None:
        with exclusive.hold("CPU profile", 10):
            await trio.sleep(10)
        async with views.turn():
            await trio.sleep(10)
        assert trio.current_time() == 20

    trio.run(use, clock=MockClock(autojump_threshold=0))
    trio.run(use, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("second", ["profile", "heap", "block"])
async def test_while_a_profile_of_one_kind_is_taken_no_other_is(second: str, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(heap_profile, 10)
        await trio.sleep(1)
        refused = await answer(f"/debug/pprof/{second}", {"seconds": "1"})
        assert (refused.status, refused.headers["Retry-After"]) == (503, "9")
        assert b"a heap profile is already being taken" in refused.body
