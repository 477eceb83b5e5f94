"""A CPU profile by signal: where the process's CPU time goes, by thread, Trio task and line.

``ITIMER_PROF`` raises SIGPROF for every 1/hz seconds of CPU that the process burns on any thread. The handler runs on
the main thread, which is Trio's, between two bytecodes; so a busy loop cannot starve it as it starves a sampling
thread. What a tick saw is weighed by the CPU time that each thread's own clock gained since the tick before: a C call
that held a tick back for two seconds is charged two seconds, and an idle thread nothing. A thread that had little CPU
since the last tick was probably waiting when it was seen, so its time is owed until a tick finds it at work.

Invariants. The handler never raises, allocates within bounds, and gives way as soon as it has used a tenth of the
process's CPU (``skipped``). It cannot disturb system calls: Python retries its own (PEP 475), and SA_RESTART makes the
kernel retry those of C libraries. Disarming leaves the signal's old handler, and no pending signal that would kill
under it.
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

from hermes.debug import flame, pprof
from hermes.debug.aside import run_aside
from hermes.debug.exclusive import PROFILING, ProfilerUnavailable
from hermes.debug.stacks import Frame, RawStack, Sample, StackTable, merge, synthetic

DEFAULT_HZ = 100
MAX_HZ = 1000
MAX_STACKS = 20_000  # distinct (thread, task, stack); what comes after is summed up as one
MAX_THREADS = 256  # looked at in one tick
WORKING_SHARE = 2  # a thread with half of the CPU since the last tick is taken for working where it is seen
MAX_OWED_TICKS = 10  # a thread that owes the CPU of so many ticks is charged wherever it is seen
COST_DIVISOR = 10  # the handler may use one part in this many of the process's CPU
NANOSECONDS = 1_000_000_000


@dataclass(frozen=True)
class Samples:
    """A finished CPU profile.

    The values of a sample are the ticks that saw it and its CPU time in nanoseconds; its labels are the thread and, on
    the main thread, the Trio task. ``cpu_ns`` is what the process used: the samples' CPU plus ``overhead_ns``, the
    handler's own. ``skipped`` ticks were given up to stay cheap; their time is charged to the next one.
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
        """For ``go tool pprof``: sample types ``samples/count`` and ``cpu/nanoseconds``."""
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
        """For https://www.speedscope.app, weighed by CPU nanoseconds."""
        return flame.speedscope(self.samples, 1, "nanoseconds", "hermes CPU")

    def folded(self) -> bytes:
        """Folded stacks for flamegraph.pl, weighed by CPU nanoseconds."""
        return flame.folded(self.samples, 1)


async def cpu_profile(seconds: float, hz: int = DEFAULT_HZ) -> Samples:
    """Profile the whole process for ``seconds``; ``hz`` is ticks per second of CPU, 1 to ``MAX_HZ``.

    Raises ``ProfilerBusy`` while another one runs, and ``ProfilerUnavailable`` where Trio is not on the main thread or
    somebody else uses the profiling timer.
    """
    if not 1 <= hz <= MAX_HZ:
        raise ValueError(f"hz must be 1 to {MAX_HZ}, not {hz}")
    with PROFILING.hold("CPU profile", seconds):
        sampler = _Sampler(hz)
        with sampler.armed():
            await trio.sleep(seconds)
        return await run_aside(sampler.result)


class _Thread:
    """A thread's name, its CPU clock and what that showed at the last tick, and CPU time not yet charged to a stack."""

    __slots__ = ("_clock", "_seen_ns", "name", "owed_ns")

    def __init__(self, name: str, native_id: int) -> None:
        self.name = name
        # Linux's clock id for a thread: the inverted thread id, then "per thread" and "scheduler time" (kernel source,
        # include/linux/posix-timers.h, CPUCLOCK_*). An ended thread is then an OSError; the same clock by way of
        # pthread_getcpuclockid would read freed memory.
        self._clock = ~native_id << 3 | 6
        self._seen_ns = 0
        self.owed_ns = 0

    def read_ns(self) -> int:
        """CPU nanoseconds since the last call, at first since the thread's birth. OSError: the thread has ended."""
        now = time.clock_gettime_ns(self._clock)
        gained = now - self._seen_ns
        self._seen_ns = now
        return gained


class _Sampler:
    """One profile: the signal handler and what it has gathered."""

    def __init__(self, hz: int) -> None:
        self._hz = hz
        self._table = StackTable()
        self._stacks: dict[tuple[str, str, RawStack], list[int]] = {}
        self._other = [0, 0]  # ticks and CPU of stacks beyond MAX_STACKS
        self._threads: dict[int, _Thread] = {}
        self._main = threading.get_ident()
        self._most_owed = MAX_OWED_TICKS * NANOSECONDS // hz
        self._looked_at = 0
        self._inside = False
        self._ticks = self._skipped = self._overhead_ns = 0
        self._cpu_began = self._cpu_ns = 0
        self._started_ns = self._duration_ns = 0

    @contextlib.contextmanager
    def armed(self) -> Iterator[None]:
        """Sample while inside."""
        if threading.current_thread() is not threading.main_thread():
            raise ProfilerUnavailable("a CPU profile needs Trio on the process's main thread, where signals arrive")
        previous = signal.getsignal(signal.SIGPROF)
        if previous is None or signal.getitimer(signal.ITIMER_PROF)[0]:
            raise ProfilerUnavailable("the profiling timer or SIGPROF is in use by another profiler: stop that first")
        self._meet()
        try:
            self._threads[self._main].read_ns()
        except OSError as error:
            raise ProfilerUnavailable(f"this system has no CPU clock of single threads: {error}") from error
        for thread in self._threads.values():
            with contextlib.suppress(OSError):  # it may have ended just now
                thread.read_ns()
        began = time.monotonic_ns()
        self._started_ns = time.time_ns()
        self._cpu_began = self._looked_at = time.process_time_ns()
        try:
            signal.signal(signal.SIGPROF, self._tick)
            signal.siginterrupt(signal.SIGPROF, False)
            signal.setitimer(signal.ITIMER_PROF, 1 / self._hz, 1 / self._hz)
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            # Ignoring a signal discards what is pending; under SIG_DFL a late SIGPROF would end the process.
            signal.signal(signal.SIGPROF, signal.SIG_IGN)
            signal.signal(signal.SIGPROF, previous)
            self._duration_ns = time.monotonic_ns() - began
            self._cpu_ns = time.process_time_ns() - self._cpu_began

    def result(self) -> Samples:
        """What was gathered, with names. The samples' CPU and the overhead add up to the process's."""
        samples = [
            Sample(self._table.resolve(raw), (ticks, cpu), _labels(thread, task))
            for (thread, task, raw), (ticks, cpu) in self._stacks.items()
        ]
        if self._other[0]:
            samples.append(Sample((synthetic(f"[beyond {MAX_STACKS} stacks]"),), (self._other[0], self._other[1])))
        rest = self._cpu_ns - self._overhead_ns - sum(sample.values[1] for sample in samples)
        if rest > 0:  # native threads, threads that came and went between two ticks, and what is still owed
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
        # The signal interrupts its own handler too.
        if self._inside or self._overhead_ns * COST_DIVISOR > time.process_time_ns() - self._cpu_began:
            self._skipped += 1
            return
        self._inside = True
        began = time.thread_time_ns()
        try:
            self._ticks += 1
            while interrupted is not None and interrupted.f_code is _TICK:  # a late tick, just about to begin
                interrupted = interrupted.f_back
            self._look(began, interrupted)
            self._threads[self._main].read_ns()
        finally:  # an interrupt from the keyboard may be raised in here
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
            except OSError:  # the ident belongs to a younger thread by now, which the next tick meets
                del self._threads[ident]
                continue
            if ident == self._main:
                gained -= time.thread_time_ns() - began  # what this handler has used until now is not the program's
                task = _current_task()
            else:
                task = None
            thread.owed_ns += max(0, gained)
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
    """The task that the signal interrupted; None between two task steps."""
    try:
        return trio.lowlevel.current_task()
    except RuntimeError:
        return None


_TICK = _Sampler._tick.__code__  # noqa: SLF001 - our own class
_UNSEEN = Frame("[native threads and unseen time]", "", 0)


def _labels(thread: str, task: str) -> tuple[tuple[str, str], ...]:
    return (("thread", thread), ("task", task)) if task else (("thread", thread),)
