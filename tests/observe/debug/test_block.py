"""The recorder of slow task steps, driven step by step on a clock of the test's own."""

import json

import pytest
import trio
from trio.testing import MockClock

from hermes.observe.debug import block as block_module
from hermes.observe.debug.block import StepRecorder, block_profile
from tests.observe.debug.decoding import decode


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now + 0.0  # a new object at each call, as from a real clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def recorder(clock: Clock) -> StepRecorder:
    return StepRecorder(0.010, clock)


def step(recorder: StepRecorder, clock: Clock, seconds: float, looks: int = 0) -> None:
    """A step of the current task; the watcher looks as often, evenly."""
    task = trio.lowlevel.current_task()
    recorder.before_task_step(task)
    for _ in range(looks):
        clock.now += seconds / looks
        recorder.look()
    if not looks:
        clock.now += seconds
    recorder.after_task_step(task)


async def test_only_steps_over_the_threshold_are_slow_but_all_are_counted(recorder: StepRecorder, clock: Clock) -> None:
    for seconds in (0.001, 0.009, 0.011, 0.5):
        step(recorder, clock, seconds)
    profile = recorder.result()
    assert (profile.steps, profile.slow_steps) == (4, 2)
    assert profile.busy == pytest.approx(0.521)
    assert profile.slow == pytest.approx(0.511)
    assert profile.longest == pytest.approx(0.5)
    assert [round(recent.seconds, 3) for recent in profile.recent] == [0.011, 0.5]


async def test_a_slow_step_has_the_stack_that_was_seen_in_it(recorder: StepRecorder, clock: Clock) -> None:
    step(recorder, clock, 0.1, looks=4)
    (slow,) = recorder.result().recent
    assert slow.task == trio.lowlevel.current_task().name
    functions = [frame.function.rpartition(".")[2] for frame in slow.stack]
    assert functions[-2:] == ["step", "look"]
    assert "test_a_slow_step_has_the_stack_that_was_seen_in_it" in functions


async def test_what_was_seen_in_a_step_is_not_charged_to_the_next(recorder: StepRecorder, clock: Clock) -> None:
    step(recorder, clock, 0.009, looks=2)
    step(recorder, clock, 0.1)
    (slow,) = recorder.result().recent
    assert slow.stack == ()
    assert recorder.result().samples[0].stack[0].function == "[not seen]"


async def test_the_watcher_leaves_short_steps_and_pauses_alone(recorder: StepRecorder, clock: Clock) -> None:
    recorder.look()
    step(recorder, clock, 0.004, looks=1)
    assert recorder._sightings.began == -1.0


async def test_the_step_in_which_recording_began_is_not_counted(recorder: StepRecorder, clock: Clock) -> None:
    recorder.after_task_step(trio.lowlevel.current_task())
    assert recorder.result().steps == 0


async def test_the_ring_keeps_the_newest_and_counts_the_evicted(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_module, "RING", 3)
    recorder = StepRecorder(0.010, clock)
    for milliseconds in (20, 30, 40, 50, 60):
        step(recorder, clock, milliseconds / 1000)
    profile = recorder.result()
    assert [round(recent.seconds, 3) for recent in profile.recent] == [0.04, 0.05, 0.06]
    assert profile.evicted == 2
    assert [(sample.values[0], round(sample.values[1] / 1e9, 3)) for sample in profile.samples] == [(5, 0.2)]


async def test_stacks_beyond_the_bound_are_summed_as_one(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_module, "MAX_STACKS", 1)
    recorder = StepRecorder(0.010, clock)
    step(recorder, clock, 0.1)
    for _ in range(2):
        step(recorder, clock, 0.2, looks=1)
    samples = {sample.stack[-1].function: sample.values[0] for sample in recorder.result().samples}
    assert samples == {"[not seen]": 1, "[beyond 1 stacks]": 2}


async def test_pprof_text_and_json_tell_the_same(recorder: StepRecorder, clock: Clock) -> None:
    for _ in range(3):
        step(recorder, clock, 0.1, looks=4)
    profile = recorder.result()
    decoded = decode(profile.pprof())
    assert decoded.sample_types == [("contentions", "count"), ("delay", "nanoseconds")]
    assert decoded.default_sample_type == "delay"
    assert sum(sample.values[0] for sample in decoded.samples) == 3
    assert sum(sample.values[1] for sample in decoded.samples) == pytest.approx(300e6)
    assert json.loads(profile.json())["slow_steps"] == 3
    assert "3 of 3 task steps" in profile.text()
    assert "    300.0      3  " in profile.text()


@pytest.mark.parametrize("threshold", [0, -1, 0.0001, float("nan")])
async def test_a_threshold_that_would_note_every_step_is_refused(threshold: float, mock_clock: MockClock) -> None:
    with pytest.raises(ValueError, match=r"threshold must be 0\.001 s or more"):
        await block_profile(1, threshold)
