"""Heap profiles on the virtual clock, and the memory summary. tracemalloc itself is real; it needs no time."""

import gc
import json
import tracemalloc

import pytest
import trio
from trio.testing import MockClock

from hermes.observe.debug import heap as heap_module
from hermes.observe.debug import memory as memory_module
from hermes.observe.debug.exclusive import ProfilerBusy, ProfilerUnavailable
from hermes.observe.debug.heap import heap_profile
from hermes.observe.debug.memory import memory_summary
from tests.observe.debug.decoding import decode


class Held:
    pass


async def allocate_at(at: float, kept: list[bytearray]) -> None:
    await trio.sleep(at)
    kept.append(bytearray(300_000))
    bytearray(900_000)


async def test_what_is_alive_is_reported_by_line_and_what_is_gone_is_not(autojump_clock: MockClock) -> None:
    kept: list[bytearray] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(allocate_at, 5, kept)
        profile = await heap_profile(10)
    assert trio.current_time() == pytest.approx(10)
    largest = max(profile.samples, key=lambda sample: sample.values[1])
    line = allocate_at.__code__.co_firstlineno + 2
    assert largest.stack[-1].function == f"observe/debug/test_heap.py:{line}"
    assert 300_000 <= largest.values[1] < 310_000
    assert not profile.full
    assert f"test_heap.py:{line}  kept.append(bytearray(300_000))" in profile.text()


async def test_what_was_there_before_is_not_in_it(autojump_clock: MockClock) -> None:
    before = bytearray(5_000_000)
    profile = await heap_profile(1)
    assert sum(sample.values[1] for sample in profile.samples) < len(before) / 2


async def test_its_pprof_has_objects_and_bytes(autojump_clock: MockClock) -> None:
    kept: list[bytearray] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(allocate_at, 1, kept)
        profile = await heap_profile(2, depth=4)
    decoded = decode(profile.pprof())
    assert decoded.sample_types == [("inuse_objects", "count"), ("inuse_space", "bytes")]
    assert decoded.default_sample_type == "inuse_space"
    top = next(iter(decoded.totals(1)))
    assert top == f"observe/debug/test_heap.py:{allocate_at.__code__.co_firstlineno + 2}"
    assert any(len(sample.stack) == 4 for sample in decoded.samples)


async def test_tracing_ends_with_the_profile_cancelled_or_not(autojump_clock: MockClock) -> None:
    await heap_profile(1)
    assert not tracemalloc.is_tracing()
    await trio.sleep(1)  # the rest after a profile
    with trio.move_on_after(1) as scope:
        await heap_profile(60)
    assert scope.cancelled_caught
    assert not tracemalloc.is_tracing()


async def test_a_second_heap_profile_is_refused_while_one_runs(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(heap_profile, 10)
        await trio.sleep(4)
        with pytest.raises(ProfilerBusy, match=r"a heap profile is already being taken; it ends in 6\.0 s"):
            await heap_profile(1)
        assert tracemalloc.is_tracing()


async def test_a_tracemalloc_that_somebody_else_turned_on_stays_on(autojump_clock: MockClock) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ProfilerUnavailable, match="PYTHONTRACEMALLOC"):
            await heap_profile(1)
        assert tracemalloc.is_tracing()
    finally:
        tracemalloc.stop()


async def test_a_profile_that_fills_its_memory_ends_early_and_says_so(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heap_module, "MAX_TRACE_BYTES", 1 << 20)
    kept: list[object] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_allocate_many, kept)
        profile = await heap_profile(100)
    assert profile.full
    assert 5 <= trio.current_time() < 6
    assert "ended early, for tracing used 1 MiB" in profile.text()


async def _allocate_many(kept: list[object]) -> None:
    await trio.sleep(5)
    kept += (bytearray(1) for _ in range(50_000))


@pytest.mark.parametrize("depth", [0, 33])
async def test_a_depth_out_of_bounds_is_refused(depth: int, mock_clock: MockClock) -> None:
    with pytest.raises(ValueError, match="depth must be 1 to 32"):
        await heap_profile(1, depth)


async def test_the_summary_counts_live_objects_by_type(monkeypatch: pytest.MonkeyPatch) -> None:
    # However large the heap is: it has what earlier tests and imports left.
    monkeypatch.setattr(memory_module, "MAX_COUNTED", 1 << 40)
    held = [Held() for _ in range(3_000)]
    summary = await memory_summary(top=1_000)
    counted = {entry.type: entry.objects for entry in summary.types}
    assert counted[f"{__name__}.Held"] == len(held)
    assert not summary.estimated
    assert summary.rss is not None
    assert 0 < summary.rss <= summary.peak_rss * 1.1
    assert len(summary.generations) == 3
    assert summary.tracked_objects >= len(held)


async def test_a_large_heap_is_sampled_evenly_and_said_to_be_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_module, "MAX_COUNTED", len(gc.get_objects()) // 4)
    held = [Held() for _ in range(20_000)]
    summary = await memory_summary(top=1_000)
    counted = {entry.type: entry.objects for entry in summary.types}
    assert summary.estimated
    assert counted[f"{__name__}.Held"] == pytest.approx(len(held), rel=0.05)
    assert "about " in summary.text()


async def test_the_summary_is_text_and_json_and_names_no_more_types_than_asked() -> None:
    summary = await memory_summary(top=5)
    document = json.loads(summary.json())
    assert len(document["types"]) == 5
    assert f"tracked objects   {summary.tracked_objects:,}" in summary.text()
