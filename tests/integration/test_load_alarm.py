"""The generator's timer: it cannot be waited for on the virtual clock, since the kernel keeps its time."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator

import pytest
import trio

from hermes.load.alarm import Alarm


@pytest.fixture
def alarm() -> Iterator[Alarm]:
    alarm = Alarm()
    yield alarm
    alarm.close()


def readable(alarm: Alarm) -> bool:
    return bool(select.select([alarm.fd], [], [], 0)[0])


async def test_it_goes_off_at_its_moment_and_not_before(alarm: Alarm) -> None:
    moment = time.monotonic_ns() + 20_000_000
    alarm.set(moment)
    assert not readable(alarm)
    with trio.fail_after(5):
        await trio.lowlevel.wait_readable(alarm.fd)
    assert time.monotonic_ns() >= moment


def test_a_moment_that_is_past_is_now(alarm: Alarm) -> None:
    alarm.set(time.monotonic_ns() - 1)
    assert readable(alarm)


def test_it_is_off_until_it_is_set_and_after_it_was_silenced(alarm: Alarm) -> None:
    assert not readable(alarm)
    alarm.silence()
    moment = time.monotonic_ns()
    for _ in range(2):
        alarm.set(moment)
        assert readable(alarm)
        alarm.silence()
        assert not readable(alarm)


def test_a_later_moment_takes_the_place_of_an_earlier_one(alarm: Alarm) -> None:
    alarm.set(time.monotonic_ns())
    alarm.set(time.monotonic_ns() + 10**12)
    assert not readable(alarm)
