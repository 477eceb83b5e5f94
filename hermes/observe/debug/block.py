"""Profiles the task steps (from one checkpoint to the next) that keep the run loop from its other tasks for too long.

A Trio instrument times each step. After a long step the task is suspended somewhere else, so its stack cannot be read
then. A watching thread reads the stack of the loop's thread several times within the threshold; the stack of a step is
the one seen most often during it. A call that never releases Python's lock is seen right after it returns, on the same
line.

Invariants: without an open profile there is neither instrument nor thread; the ring, the table of stacks and the
sightings of a step are bounded, and every step counts in the totals even if its details were evicted.
"""

from __future__ import annotations

import collections
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import trio

from hermes.observe.debug import pprof
from hermes.observe.debug.aside import run_aside
from hermes.observe.debug.exclusive import PROFILING
from hermes.observe.debug.stacks import Frame, RawStack, Sample, StackTable, merge, short_path, synthetic
from hermes.observe.debug.tasks import Wait, await_stack, waits_at

# Seconds. A step of 10 ms delays every other request by 10 ms.
DEFAULT_THRESHOLD = 0.010
# The watching thread wakes `LOOKS` times within a threshold, and takes the interpreter's lock each time.
MIN_THRESHOLD = 0.001
# Looks at the loop's thread within one threshold: a slow step is seen several times.
LOOKS = 4
# Seconds between two looks. A cancelled profile ends after at most this long.
MAX_PAUSE = 0.1
# Slow steps that the text lists.
LISTED = 20
# Slow steps kept one by one, the newest. The older ones still count in the totals.
RING = 1_000
# Distinct (task name, stack) whose time is summed. Bounded, because a task's name may be anything.
MAX_STACKS = 5_000
# Distinct stacks of one step.
MAX_SIGHTINGS = 16


class SlowStep(msgspec.Struct, frozen=True):
    """A step over the threshold.

    ``stack`` is the stack seen most often during the step, outermost frame first, empty if the step was never seen;
    ``then`` is the place where the task waited after the step.
    """

    task: str
    seconds: float
    ended_ns: int
    stack: tuple[Frame, ...]
    then: Wait


@dataclass(frozen=True)
class BlockProfile:
    """A finished block profile. Times are in seconds unless the name says otherwise.

    ``samples`` hold every slow step, summed by stack: the number of steps, and nanoseconds. ``recent`` are the newest
    slow steps; ``evicted`` counts the older ones.
    """

    samples: tuple[Sample, ...]
    recent: tuple[SlowStep, ...]
    evicted: int
    threshold: float
    started_ns: int
    duration: float
    steps: int
    busy: float
    slow_steps: int
    slow: float
    longest: float

    def pprof(self) -> bytes:
        """Return a file for ``go tool pprof``: sample types ``contentions/count`` and ``delay/nanoseconds``."""
        header = pprof.Header(
            sample_types=(pprof.ValueType("contentions", "count"), pprof.ValueType("delay", "nanoseconds")),
            period_type=pprof.ValueType("contentions", "count"),
            period=1,
            started_ns=self.started_ns,
            duration_ns=int(self.duration * 1e9),
            default="delay",
            comments=(self._summary(),),
        )
        return pprof.encode(header, self.samples)

    def json(self) -> bytes:
        """Return the totals and the recent slow steps as JSON."""
        fields = ("threshold", "duration", "steps", "busy", "slow_steps", "slow", "longest", "evicted", "recent")
        return msgspec.json.encode({name: getattr(self, name) for name in fields})

    def text(self) -> str:
        """Return the totals, the time by stack, and the ``LISTED`` longest of the recent slow steps as text."""
        lines = [self._summary(), "", f"{'ms':>9} {'steps':>6}  in all, by task and where it was"]
        for sample in sorted(self.samples, key=lambda sample: -sample.values[1]):
            steps, nanoseconds = sample.values
            lines.append(f"{nanoseconds / 1e6:>9.1f} {steps:>6}  {', '.join(value for _, value in sample.labels)}")
            lines += _places(sample.stack)
        longest = sorted(self.recent, key=lambda step: -step.seconds)[:LISTED]
        lines += [
            "",
            f"the longest {len(longest)} of the last {len(self.recent)} slow steps, and where the task waited then",
        ]
        for step in longest:
            lines.append(f"{step.seconds * 1e3:>9.1f} {'':>6}  {step.task}")
            lines += _places(step.stack)
            lines.append(f"{'':>20}then {step.then.location} {step.then.primitive}".rstrip())
        return "\n".join([*lines, ""])

    def _summary(self) -> str:
        return (
            f"{self.slow_steps:,} of {self.steps:,} task steps within {self.duration:.1f} s took longer than "
            f"{self.threshold * 1e3:g} ms: {self.slow:.3f} s of {self.busy:.3f} s busy; "
            f"the longest {self.longest:.3f} s"
        )


async def block_profile(seconds: float, threshold: float = DEFAULT_THRESHOLD) -> BlockProfile:
    """Watch the loop for ``seconds``; a step longer than ``threshold`` seconds (``MIN_THRESHOLD`` or more) is slow.

    Raises ``ProfilerBusy`` while another profile runs::

        profile = await block_profile(10.0, threshold=0.050)
        print(profile.text())
    """
    # Not `<`, because NaN compares false with everything and must be refused.
    if not threshold >= MIN_THRESHOLD:
        raise ValueError(f"threshold must be {MIN_THRESHOLD} s or more, not {threshold}")
    with PROFILING.hold("block profile", seconds):
        steps = StepRecorder(threshold)
        trio.lowlevel.add_instrument(steps)
        try:
            # `watch_for` calls check_cancelled, so the wait is not shielded from cancellation for more than MAX_PAUSE.
            # A limiter of its own, as in `run_aside`.
            await trio.to_thread.run_sync(steps.watch_for, seconds, limiter=trio.CapacityLimiter(1))
        finally:
            trio.lowlevel.remove_instrument(steps)
        return await run_aside(steps.result)


class _Sightings:
    """The stacks seen within one step; the step is identified by the object of its begin time."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.stacks: collections.Counter[RawStack] = collections.Counter()


class StepRecorder(trio.abc.Instrument):
    """The instrument and its watcher. The loop's thread writes all fields but ``_sightings``, which the watcher writes.

    ``clock`` returns seconds of real time, because a blocked loop does not stop a real clock.

    Attributes: 17, because two threads share them without a lock: each field has one writer, and no field is half read.
    """

    def __init__(self, threshold: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self._threshold = threshold
        self._clock = clock
        self._loop_thread = threading.get_ident()
        self._table = StackTable()
        self._task: trio.lowlevel.Task | None = None
        self._began: float | None = None
        self._sightings = _Sightings(-1.0)
        self._totals: dict[tuple[str, RawStack], list[float]] = {}
        self._other = [0.0, 0.0]
        self._ring: collections.deque[tuple[str, float, int, RawStack, Wait]] = collections.deque(maxlen=RING)
        self._steps = self._slow_steps = 0
        self._busy = self._slow = self._longest = 0.0
        self._opened, self._started_ns = clock(), time.time_ns()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Part of Trio's interface: a step begins."""
        self._task = task
        self._began = self._clock()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Part of Trio's interface: a step has ended."""
        # First forget the step: from here on the watching thread must not record a sighting of it.
        began, self._began, self._task = self._began, None, None
        # None: the step in which this profile was opened had begun before the instrument was added.
        if began is None:
            return
        took = self._clock() - began
        self._steps += 1
        self._busy += took
        if took > self._threshold:
            self._record(task, began, took)

    def _record(self, task: trio.lowlevel.Task, began: float, took: float) -> None:
        self._slow_steps += 1
        # Counted before the stack is looked for, so that the totals are right even without a sighting.
        self._slow += took
        self._longest = max(self._longest, took)
        sightings = self._sightings
        stack: RawStack = ()
        # `is`: two floats may be equal, but each step has its own object. The watcher may replace the sightings at any
        # time, so the field was read once.
        if sightings.began is began and sightings.stacks:
            stack = sightings.stacks.most_common(1)[0][0]
        key = (task.name, stack)
        total = self._totals.get(key)
        if total is None:
            # Beyond the bound the time still counts, in one sum without a stack.
            full = len(self._totals) >= MAX_STACKS
            total = self._other if full else self._totals.setdefault(key, [0.0, 0.0])
        total[0] += 1
        total[1] += took
        # Taken at once: a moment later the task runs again, and waits somewhere else.
        self._ring.append((task.name, took, time.time_ns(), stack, waits_at(await_stack(task))))

    def watch_for(self, seconds: float) -> None:
        """Look at the loop's thread for ``seconds``. Runs on a thread that Trio started and may cancel."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            trio.from_thread.check_cancelled()
            # A plain sleep: this thread must wake while the loop is blocked.
            time.sleep(min(left, self._threshold / LOOKS, MAX_PAUSE))
            self.look()

    def look(self) -> None:
        """Record the stack of the current step, if it has taken half the threshold. Most steps are never looked at."""
        # The loop's thread changes both at any time; the check after the capture finds a step that ended meanwhile.
        began, task = self._began, self._task
        if began is None or task is None or self._clock() - began < self._threshold / 2:
            return
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - documented, in spite of its name
        stack = self._table.capture(frame, until=task.coro.cr_frame)
        # The step ended during the capture, so the stack may belong to the next one.
        if self._began is not began:
            return
        if self._sightings.began is not began:
            self._sightings = _Sightings(began)
        stacks = self._sightings.stacks
        if stack in stacks or len(stacks) < MAX_SIGHTINGS:
            stacks[stack] += 1

    def result(self) -> BlockProfile:
        """Return the recorded steps, with names."""
        samples = [
            Sample(self._table.resolve(stack) or (_NOT_SEEN,), _values(total), (("task", name),))
            for (name, stack), total in self._totals.items()
        ]
        if self._other[0]:
            # The sum must appear, or the profile's total would be too small.
            samples.append(Sample((synthetic(f"[beyond {MAX_STACKS} stacks]"),), _values(self._other)))
        return BlockProfile(
            samples=merge(samples),
            recent=tuple(
                SlowStep(name, took, ended_ns, self._table.resolve(stack), then)
                for name, took, ended_ns, stack, then in self._ring
            ),
            evicted=self._slow_steps - len(self._ring),
            threshold=self._threshold,
            started_ns=self._started_ns,
            duration=self._clock() - self._opened,
            steps=self._steps,
            busy=self._busy,
            slow_steps=self._slow_steps,
            slow=self._slow,
            longest=self._longest,
        )


_NOT_SEEN = synthetic("[not seen]")


def _values(total: list[float]) -> tuple[int, int]:
    return int(total[0]), int(total[1] * 1e9)


def _places(stack: tuple[Frame, ...]) -> list[str]:
    """Return the lines of a stack, innermost first."""
    return [
        f"{'':>20}{short_path(frame.file)}:{frame.line} {frame.function.rpartition('.')[2]}"
        for frame in reversed(stack or (_NOT_SEEN,))
        if frame.file
    ] or [f"{'':>20}{_NOT_SEEN.function}"]
