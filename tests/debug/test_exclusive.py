"""One profile of a kind at a time."""

import pytest
import trio
from trio.testing import MockClock

from hermes.debug.exclusive import Exclusive, ProfilerBusy


async def test_the_second_is_refused_and_told_when_to_come_back(mock_clock: MockClock) -> None:
    exclusive = Exclusive("CPU profile")
    with exclusive.hold(30):
        mock_clock.jump(12)
        with pytest.raises(ProfilerBusy, match=r"a CPU profile is already being taken; it ends in 18.0 s") as caught:
            exclusive.hold(5).__enter__()
    assert caught.value.retry_after == 18


async def test_the_refused_one_does_not_free_what_the_first_holds(mock_clock: MockClock) -> None:
    exclusive = Exclusive("CPU profile")
    with exclusive.hold(30):
        for _ in range(2):
            with pytest.raises(ProfilerBusy), exclusive.hold(5):
                pytest.fail("held twice")


async def test_an_overdue_holder_makes_no_negative_wait(mock_clock: MockClock) -> None:
    exclusive = Exclusive("CPU profile")
    with exclusive.hold(1):
        mock_clock.jump(5)
        with pytest.raises(ProfilerBusy) as caught:
            exclusive.hold(5).__enter__()
    assert caught.value.retry_after == 0


async def test_a_cancelled_holder_frees_it(autojump_clock: MockClock) -> None:
    exclusive = Exclusive("CPU profile")
    with trio.move_on_after(1), exclusive.hold(30):
        await trio.sleep(30)
    with exclusive.hold(1):
        assert trio.current_time() == pytest.approx(1)
