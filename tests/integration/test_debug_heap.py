"""A leak, found while it leaks; the task tree of a program with nurseries, as a client gets them."""

import re

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from hermes.observe.debug import answer
from hermes.observe.debug.heap import heap_profile

leak: list[bytes] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    leak.clear()


async def leak_by_turns() -> None:
    for _ in range(100):
        leak.append(bytes(10_486))
        bytes(100_000)  # garbage at once, which is no leak
        await trio.lowlevel.checkpoint()  # a sleep may take so long on a busy machine that the profile ends before
    await trio.sleep_forever()


async def test_a_leak_of_a_mebibyte_is_the_first_line() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(leak_by_turns)
        profile = await heap_profile(1)
        nursery.cancel_scope.cancel()
    top = max(profile.samples, key=lambda sample: sample.values[1])
    assert top.stack[-1].line == leak_by_turns.__code__.co_firstlineno + 2
    assert top.values[0] == pytest.approx(100, abs=5)
    assert top.values[1] == pytest.approx(1 << 20, rel=0.05)


async def test_a_client_sees_the_leaking_line_with_its_source() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(leak_by_turns)
        found = await answer("/debug/pprof/heap", {"seconds": "1", "debug": "1"})
        nursery.cancel_scope.cancel()
    first = found.body.decode().splitlines()[3]
    assert re.search(r"test_debug_heap\.py:\d+  leak\.append\(bytes\(10_486\)\)$", first)


async def test_a_client_sees_nurseries_and_their_tasks() -> None:
    async def supervise(task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as crew:
            crew.start_soon(trio.sleep_forever, name="first mate")
            crew.start_soon(trio.sleep_forever, name="cook")
            task_status.started()

    async with trio.open_nursery() as nursery:
        await nursery.start(supervise)
        await wait_all_tasks_blocked()
        found = await answer("/debug/pprof/goroutine", {"debug": "2"})
        nursery.cancel_scope.cancel()
    lines = [line.strip() for line in found.body.decode().splitlines()]
    at = next(
        at for at, line in enumerate(lines) if line.startswith("nursery in ") and line.endswith("supervise: 2 tasks")
    )
    assert lines[at + 1].startswith("* cook  [waits in ")
    assert any(line.startswith("* first mate") for line in lines[at:])
