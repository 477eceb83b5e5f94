"""Calls on threads: what fails leaves nothing behind, and what is a bug keeps its traceback."""

from __future__ import annotations

import gc
import time
import traceback
import weakref
from collections.abc import Awaitable, Callable

import pytest
import trio

from hermes.base.cleanup import run_to_end
from hermes.base.errors import LogFull
from hermes.base.threads import run_on_thread


class Load:
    """Something that can be waited for to be freed."""


def fail(_load: Load, kind: type[Exception]) -> None:
    try:
        raise KeyError("how it came about")
    except KeyError as cause:
        raise kind("it") from cause


@pytest.mark.parametrize("run", [run_on_thread, run_to_end])
@pytest.mark.parametrize("kind", [OSError, LogFull])
async def test_an_expected_error_holds_nothing_of_the_call(
    run: Callable[..., Awaitable[object]], kind: type[Exception]
) -> None:
    limiter = trio.CapacityLimiter(1)

    async def attempt() -> weakref.ref[Load]:
        load = Load()
        cause = None
        try:
            await run(fail, load, kind, limiter=limiter)
        except kind as error:
            cause = type(error.__cause__)
        assert cause is KeyError
        return weakref.ref(load)

    gc.collect()
    gc.disable()
    try:
        held = await attempt()
        assert await run(len, "another", limiter=limiter) == 7  # the thread of the call holds it until it has another
        assert held() is None
    finally:
        gc.enable()


def go_on(_load: Load) -> None:
    while True:
        time.sleep(0.001)
        trio.from_thread.check_cancelled()


async def test_a_cancelled_call_that_looks_for_it_holds_nothing_either() -> None:
    limiter = trio.CapacityLimiter(1)

    async def attempt() -> weakref.ref[Load]:
        load = Load()
        with trio.move_on_after(0.01) as scope:
            await run_on_thread(go_on, load, limiter=limiter)
        assert scope.cancelled_caught
        return weakref.ref(load)

    gc.collect()
    gc.disable()
    try:
        held = await attempt()
        assert await run_on_thread(len, "another", limiter=limiter) == 7
        assert held() is None
    finally:
        gc.enable()


async def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        await run_on_thread(fail, Load(), ZeroDivisionError, limiter=trio.CapacityLimiter(1))
    assert "fail" in [frame.name for frame in traceback.extract_tb(raised.value.__traceback__)]
