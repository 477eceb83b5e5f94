"""What blocks the run loop, seen by a real watcher thread in real time."""

import hashlib
import itertools
import json
import time
from types import FunctionType

import pytest
import trio

from hermes.observe.debug import answer
from hermes.observe.debug.block import BlockProfile, block_profile
from hermes.observe.debug.exclusive import ProfilerBusy


async def sleep_blocking() -> None:
    while True:
        time.sleep(0.06)  # noqa: ASYNC251 - the fault under test
        await trio.sleep(0.05)


async def hash_blocking() -> None:
    while True:
        hashlib.pbkdf2_hmac("sha256", b"", b"", 150_000)
        await trio.sleep(0.05)


async def count_blocking() -> None:
    while True:
        end = time.monotonic() + 0.06
        while time.monotonic() < end:
            pass
        await trio.sleep(0.05)


async def watch(function: FunctionType, seconds: float = 1.0) -> BlockProfile:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(function)
        profile = await block_profile(seconds)
        nursery.cancel_scope.cancel()
    return profile


@pytest.mark.parametrize(("function", "offset"), [(sleep_blocking, 2), (hash_blocking, 2), (count_blocking, 3)])
async def test_a_blocking_step_is_reported_with_its_line(function: FunctionType, offset: int) -> None:
    profile = await watch(function)
    worst = max(profile.samples, key=lambda sample: sample.values[1])
    name = f"{__name__}.{function.__name__}"
    line = function.__code__.co_firstlineno + offset
    assert worst.labels == (("task", name),)
    assert worst.stack[0].function == name
    assert worst.stack[0].line in {line, line + 1}  # a loop of two lines, or one
    assert profile.slow_steps >= 1  # of many that are due: on a busy machine one step may take most of the time
    assert profile.longest >= 0.03
    step = max((step for step in profile.recent if step.task == name), key=lambda step: step.seconds)
    assert step.then.primitive == "trio.sleep"


async def test_a_loop_that_is_not_blocked_has_no_slow_steps() -> None:
    async def well_behaved() -> None:
        for _ in itertools.count():
            await trio.sleep(0.001)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(well_behaved)
        profile = await block_profile(0.5, threshold=0.4)
        nursery.cancel_scope.cancel()
    assert profile.steps > 20
    assert profile.slow_steps == 0
    assert "0 of " in profile.text()


async def test_a_cancelled_watch_ends_soon_and_leaves_no_instrument(no_rest: None) -> None:
    began = time.monotonic()
    with trio.move_on_after(0.2) as scope:
        await block_profile(60)
    assert scope.cancelled_caught
    assert time.monotonic() - began < 10
    profile = await block_profile(0.1)  # neither busy nor instrumented twice
    assert profile.duration < 10


async def test_a_second_watch_is_refused_while_one_runs() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(block_profile, 0.4)
        await trio.sleep(0.1)
        with pytest.raises(ProfilerBusy, match="a block profile is already being taken"):
            await block_profile(0.1)


async def test_the_answer_is_text_or_json_on_request(no_rest: None) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sleep_blocking)
        text = await answer("/debug/pprof/block", {"seconds": "0.5", "debug": "1"})
        document = await answer("/debug/pprof/block", {"seconds": "0.5", "format": "json", "threshold_ms": "20"})
        nursery.cancel_scope.cancel()
    line = sleep_blocking.__code__.co_firstlineno + 2
    assert f"test_debug_block.py:{line} sleep_blocking" in text.body.decode()
    told = json.loads(document.body)
    assert told["threshold"] == pytest.approx(0.02)
    assert any(step["task"] == f"{__name__}.sleep_blocking" for step in told["recent"])
