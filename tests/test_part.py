"""The seam: parts are opened, run and closed around each other, and a bug in one ends all that runs inside it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio

from hermes.config import NoSettings
from hermes.part import Inside, Part, RunningPart, in_order, run_around


@asynccontextmanager
async def unopened(_settings: NoSettings, _core: object) -> AsyncIterator[RunningPart]:
    yield RunningPart()


def part(name: str, *needs: str) -> Part:
    return Part(name, f"The part {name}", unopened, needs=needs)


def names(wanted: Sequence[str], *parts: Part) -> list[str]:
    return [each.name for each in in_order(wanted, {each.name: each for each in parts}.__getitem__)]


def test_a_part_comes_after_all_that_it_needs_and_once() -> None:
    parts = part("events", "letters", "traces"), part("letters", "store"), part("traces"), part("store"), part("idle")
    assert names(["events", "letters"], *parts) == ["store", "letters", "traces", "events"]


def test_parts_that_need_each_other_in_a_circle_are_told_by_their_names() -> None:
    with pytest.raises(ValueError, match="a → b → c → a"):
        names(["a"], part("a", "b"), part("b", "c"), part("c", "a"))


def test_a_part_that_does_not_exist_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="store"):
        names(["jobs"], part("jobs", "store"))


async def test_parts_run_around_each_other_and_end_from_the_inside_out(autojump_clock: None) -> None:
    told = []

    def running(name: str) -> RunningPart:
        async def run(inside: Inside) -> None:
            told.append(f"{name} begins")
            await inside()
            await trio.sleep(1)
            told.append(f"{name} has ended")

        return RunningPart(run=run)

    async def serve() -> None:
        told.append("serving")

    await run_around([running("log"), RunningPart(), running("engine")], serve)
    assert told == ["log begins", "engine begins", "serving", "engine has ended", "log has ended"]


async def test_a_bug_in_a_part_ends_what_runs_inside_it_although_another_task_of_it_hangs(autojump_clock: None) -> None:
    ended_at = None

    async def hang() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(60)

    async def fail() -> None:
        await trio.sleep(1)
        raise RuntimeError("a bug")

    async def run(inside: Inside) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hang)
            nursery.start_soon(fail)
            await inside()

    async def serve() -> None:
        nonlocal ended_at
        try:
            await trio.sleep_forever()
        finally:
            ended_at = trio.current_time()

    began = trio.current_time()
    with pytest.RaisesGroup(RuntimeError, flatten_subgroups=True):
        await run_around([RunningPart(run=run), RunningPart()], serve)
    assert ended_at == began + 1
    assert trio.current_time() == began + 61
