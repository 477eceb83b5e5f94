"""Takes a CPU profile by signal: the process's CPU time by thread, Trio task and line.

``ITIMER_PROF`` raises SIGPROF for every 1/hz seconds of CPU time that the process uses on any thread. A tick charges to
each thread the CPU time that the thread's own clock gained since the tick before: a C call that delayed a tick by two
seconds is charged two seconds, and an idle thread nothing. A thread that had little CPU time since the last tick was
probably waiting when the tick saw it; its time is charged later, at a tick that finds it working.

Invariants. The handler never raises, allocates within bounds, and skips ticks as soon as it has used a tenth of the
process's CPU time (``skipped``). Disarming restores the signal's old handler.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

import trio

from hermes.observe.debug import flame, pprof
from hermes.observe.debug.aside import run_aside
from hermes.observe.debug.exclusive import PROFILING, ProfilerUnavailable
from hermes.observe.debug.stacks import Frame, RawStack, Sample, StackTable, merge, synthetic

DEFAULT_HZ = 100
MAX_HZ = 1000
# Distinct (thread, task, stack). Further stacks are added up as one.
MAX_STACKS = 20_000
# Threads looked at in one tick: the handler's time grows with them.
MAX_THREADS = 256
# A thread that used half of the CPU time since the last tick counts as working at the place where the tick sees it.
WORKING_SHARE = 2
# A thread with the uncharged CPU time of this many ticks is charged at the place where the tick sees it.
MAX_OWED_TICKS = 10
# The handler may use one part in this many of the process's CPU time.
COST_DIVISOR = 10
NANOSECONDS = 1_000_000_000


@dataclass(frozen=True)
class Samples:
    """A finished CPU profile.

    The values of a sample are the number of its ticks and its CPU time in nanoseconds; its labels are the thread and,
    on the main thread, the Trio task. ``cpu_ns`` is the CPU time of the process: the samples' plus ``overhead_ns``, the
    handler's own. ``skipped`` ticks were given up to stay cheap; their time is charged to the next tick.
    """

    samples: tuple[Sample, ...]
    hz: int
    started_ns: int
    duration_ns: int
    cpu_ns: int
    overhead_ns: int
    ticks: int
    skipped: int

    def pprof(self) -> bytes:
        """Return a file for ``go tool pprof``: sample types ``samples/count`` and ``cpu/nanoseconds``."""
        header = pprof.Header(
            sample_types=(pprof.ValueType("samples", "count"), pprof.ValueType("cpu", "nanoseconds")),
            period_type=pprof.ValueType("cpu", "nanoseconds"),
            period=NANOSECONDS // self.hz,
            started_ns=self.started_ns,
            duration_ns=self.duration_ns,
            default="cpu",
            comments=(f"{self.ticks} ticks, {self.skipped} skipped", f"profiler's own CPU: {self.overhead_ns} ns"),
        )
        return pprof.encode(header, self.samples)

    def speedscope(self) -> bytes:
        """Return a file for https://www.speedscope.app, weighed by CPU nanoseconds."""
        return flame.speedscope(self.samples, 1, "nanoseconds", "hermes CPU")

    def folded(self) -> bytes:
        """Return folded stacks for flamegraph.pl, weighed by CPU nanoseconds."""
        return flame.folded(self.samples, 1)


async def cpu_profile(seconds: float, hz: int = DEFAULT_HZ) -> Samples:
    """Profile the whole process for ``seconds``; ``hz`` is ticks per second of CPU time, 1 to ``MAX_HZ``.

    Raises ``ProfilerBusy`` while another profile runs, and ``ProfilerUnavailable`` if Trio is not on the main thread or
    other code uses the profiling timer::

        samples = await cpu_profile(10.0)
        Path("hermes.pb.gz").write_bytes(await run_aside(samples.pprof))
    """
    if not 1 <= hz <= MAX_HZ:
        raise ValueError(f"hz must be 1 to {MAX_HZ}, not {hz}")
    with PROFILING.hold("CPU profile", seconds):
        sampler = _Sampler(hz)
        with sampler.armed():
            await trio.sleep(seconds)
        return await run_aside(sampler.result)


class _Thread:
    """A thread's name, its CPU clock with the last reading, and its CPU time that is not yet charged to a stack."""

    __slots__ = ("_clock", "_seen_ns", "name", "owed_ns")

    def __init__(self, name: str, native_id: int) -> None:
        self.name = name
        # Linux's clock id for a thread: the inverted thread id, then "per thread" and "scheduler time" (kernel source,
        # include/linux/posix-timers.h, CPUCLOCK_*). For an ended thread it raises OSError; pthread_getcpuclockid would
        # read freed memory.
        self._clock = ~native_id << 3 | 6
        self._seen_ns = 0
        self.owed_ns = 0

    def read_ns(self) -> int:
        """Return the CPU nanoseconds since the last call, at first since the thread began.

        Raises OSError if the thread has ended.
        """
        now = time.clock_gettime_ns(self._clock)
        gained = now - self._seen_ns
        self._seen_ns = now
        return gained


class _Sampler:
    """One profile: the signal handler and its counts.

    Attributes: 16, because the handler runs a hundred times a second in the midst of other code, and only counts.
    """

    def __init__(self, hz: int) -> None:
        self._hz = hz
        self._table = StackTable()
        self._stacks: dict[tuple[str, str, RawStack], list[int]] = {}
        # Ticks and CPU time of the stacks beyond MAX_STACKS.
        self._other = [0, 0]
        self._threads: dict[int, _Thread] = {}
        self._main = threading.get_ident()
        # In nanoseconds of CPU time, so that it holds for every rate of ticks.
        self._most_owed = MAX_OWED_TICKS * NANOSECONDS // hz
        self._looked_at = 0
        self._inside = False
        self._ticks = self._skipped = self._overhead_ns = 0
        self._cpu_began = self._cpu_ns = 0
        self._started_ns = self._duration_ns = 0

    @contextlib.contextmanager
    def armed(self) -> Iterator[None]:
        """Sample while inside of the block."""
        if threading.current_thread() is not threading.main_thread():
            raise ProfilerUnavailable("a CPU profile needs Trio on the process's main thread, where signals arrive")
        # The profiler takes over a signal and a timer of the whole process, and must not break another profiler's.
        previous = signal.getsignal(signal.SIGPROF)
        # None: C code installed the handler, and Python could not restore it.
        if previous is None or signal.getitimer(signal.ITIMER_PROF)[0]:
            raise ProfilerUnavailable("the profiling timer or SIGPROF is in use by another profiler: stop that first")
        # Each thread's clock is read once before the first tick, since a first reading counts from the thread's
        # beginning.
        self._meet()
        try:
            self._threads[self._main].read_ns()
        except OSError as error:
            raise ProfilerUnavailable(f"this system has no CPU clock of single threads: {error}") from error
        for thread in self._threads.values():
            # The thread may have ended since `_meet`.
            with contextlib.suppress(OSError):
                thread.read_ns()
        began = time.monotonic_ns()
        self._started_ns = time.time_ns()
        self._cpu_began = self._looked_at = time.process_time_ns()
        try:
            # A handler in Python runs on the main thread, which is Trio's, between two bytecodes. A busy loop cannot
            # starve it, as it starves a sampling thread.
            signal.signal(signal.SIGPROF, self._tick)
            # SA_RESTART makes the kernel retry the system calls of C libraries; Python retries its own (PEP 475).
            signal.siginterrupt(signal.SIGPROF, False)
            signal.setitimer(signal.ITIMER_PROF, 1 / self._hz, 1 / self._hz)
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            # Ignoring a signal discards a pending one. If the old handler is SIG_DFL, a late SIGPROF would end the
            # process.
            signal.signal(signal.SIGPROF, signal.SIG_IGN)
            signal.signal(signal.SIGPROF, previous)
            self._duration_ns = time.monotonic_ns() - began
            self._cpu_ns = time.process_time_ns() - self._cpu_began

    def result(self) -> Samples:
        """Return the samples with names. The samples' CPU time and the overhead add up to the process's."""
        samples = [
            Sample(self._table.resolve(raw), (ticks, cpu), _labels(thread, task))
            for (thread, task, raw), (ticks, cpu) in self._stacks.items()
        ]
        if self._other[0]:
            samples.append(Sample((synthetic(f"[beyond {MAX_STACKS} stacks]"),), (self._other[0], self._other[1])))
        rest = self._cpu_ns - self._overhead_ns - sum(sample.values[1] for sample in samples)
        # The rest is the time of native threads, of threads that lived between two ticks, and uncharged time.
        if rest > 0:
            samples.append(Sample((_UNSEEN,), (0, rest)))
        return Samples(
            samples=merge(samples),
            hz=self._hz,
            started_ns=self._started_ns,
            duration_ns=self._duration_ns,
            cpu_ns=self._cpu_ns,
            overhead_ns=self._overhead_ns,
            ticks=self._ticks,
            skipped=self._skipped,
        )

    def _tick(self, _signal: int, interrupted: FrameType | None) -> None:
        # The signal interrupts its own handler too. Over the bound of the cost, skip the tick: the next one charges
        # its time.
        if self._inside or self._overhead_ns * COST_DIVISOR > time.process_time_ns() - self._cpu_began:
            self._skipped += 1
            return
        self._inside = True
        began = time.thread_time_ns()
        try:
            self._ticks += 1
            # A late tick may interrupt a handler that is about to begin; the program's frame is below the handler.
            while interrupted is not None and interrupted.f_code is _TICK:
                interrupted = interrupted.f_back
            self._look(began, interrupted)
            # Read for its effect: the time of the handler itself is not charged at the next tick.
            self._threads[self._main].read_ns()
        # `finally`, because Ctrl-C may raise KeyboardInterrupt within the handler.
        finally:
            self._overhead_ns += time.thread_time_ns() - began
            self._inside = False

    def _look(self, began: int, interrupted: FrameType | None) -> None:
        frames = sys._current_frames()  # noqa: SLF001 - documented, in spite of its name
        if not frames.keys() <= self._threads.keys():
            self._meet()
        now = time.process_time_ns()
        elapsed, self._looked_at = now - self._looked_at, now
        for ident, frame in itertools.islice(frames.items(), MAX_THREADS):
            thread = self._threads.get(ident)
            if thread is None:
                continue
            try:
                gained = thread.read_ns()
            # The thread has ended, and a younger one has its ident. The next tick meets the younger one.
            except OSError:
                del self._threads[ident]
                continue
            if ident == self._main:
                # The CPU time that this handler has used so far is not the program's.
                gained -= time.thread_time_ns() - began
                task = _current_task()
            else:
                task = None
            thread.owed_ns += max(0, gained)
            # A task on the main thread is always charged: the signal interrupted it at work.
            if task is None and gained * WORKING_SHARE < elapsed and thread.owed_ns < self._most_owed:
                continue
            if task is not None:
                key = (thread.name, task.name, self._table.capture(interrupted, until=task.coro.cr_frame))
            elif ident == self._main:
                key = (thread.name, "(run loop)", self._table.capture(interrupted))
            else:
                key = (thread.name, "", self._table.capture(frame))
            self._record(key, thread.owed_ns)
            thread.owed_ns = 0

    def _record(self, key: tuple[str, str, RawStack], gained: int) -> None:
        entry = self._stacks.get(key)
        if entry is None:
            entry = self._other if len(self._stacks) >= MAX_STACKS else self._stacks.setdefault(key, [0, 0])
        entry[0] += 1
        entry[1] += gained

    def _meet(self) -> None:
        """Bring the table of threads up to date."""
        alive = {thread.ident: thread for thread in threading.enumerate()}
        for gone in self._threads.keys() - alive.keys():
            del self._threads[gone]
        for ident, thread in alive.items():
            if ident is not None and thread.native_id is not None and ident not in self._threads:
                self._threads[ident] = _Thread(thread.name, thread.native_id)


def _current_task() -> trio.lowlevel.Task | None:
    """Return the task that the signal interrupted; None between two task steps."""
    try:
        return trio.lowlevel.current_task()
    except RuntimeError:
        return None


_TICK = _Sampler._tick.__code__  # noqa: SLF001 - our own class
_UNSEEN = Frame("[native threads and unseen time]", "", 0)


def _labels(thread: str, task: str) -> tuple[tuple[str, str], ...]:
    return (("thread", thread), ("task", task)) if task else (("thread", thread),)
