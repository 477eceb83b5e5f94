"""`RepeatedEvent`: each call of ``set`` wakes exactly the tasks that wait at that moment."""

from __future__ import annotations

import trio
from trio.testing import wait_all_tasks_blocked

from hermes.base.repeated_event import RepeatedEvent


async def test_each_set_wakes_all_who_wait_then_and_is_not_remembered(autojump_clock: None) -> None:
    event = RepeatedEvent()
    woken: list[tuple[str, int]] = []

    async def wait_twice(name: str) -> None:
        for turn in range(2):
            await event.wait()
            woken.append((name, turn))

    event.set()  # nobody waits: nobody will ever hear of it
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_twice, "a")
        nursery.start_soon(wait_twice, "b")
        await wait_all_tasks_blocked()
        assert woken == []
        event.set()
        event.set()  # those who were woken have not come back yet
        await wait_all_tasks_blocked()
        assert sorted(woken) == [("a", 0), ("b", 0)]
        event.set()
    assert sorted(woken) == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]


async def test_one_who_gives_up_takes_no_wake_up_from_the_others(autojump_clock: None) -> None:
    event = RepeatedEvent()
    with trio.move_on_after(1):
        await event.wait()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(event.wait)
        await wait_all_tasks_blocked()
        event.set()
