"""Takes a heap profile with tracemalloc: the memory allocated within some seconds and still alive, by line.

A profile shows growth, not the whole heap: a leak grows while traffic flows, and older memory is not in the profile
(``memory`` has the totals).

Invariant: tracemalloc is off again however a profile ends, and its own memory is bounded (``MAX_TRACE_BYTES``).
"""

from __future__ import annotations

import contextlib
import linecache
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass

import trio

from hermes.observe.debug import pprof
from hermes.observe.debug.aside import run_aside
from hermes.observe.debug.exclusive import PROFILING, ProfilerUnavailable
from hermes.observe.debug.stacks import Frame, Sample, short_path

# Frames remembered for each allocation. Eight make tracing several times as slow.
DEFAULT_DEPTH = 1
MAX_DEPTH = 32
# Of tracemalloc's own memory. A profile that reaches the bound ends early and says so.
MAX_TRACE_BYTES = 32 << 20
# Seconds between two looks at that memory.
CHECK_INTERVAL = 0.25


@dataclass(frozen=True)
class HeapProfile:
    """A finished heap profile.

    The values of a sample are the number and the bytes of the objects that were allocated there and are alive. ``full``
    is true if the profile ended early at ``MAX_TRACE_BYTES``.
    """

    samples: tuple[Sample, ...]
    started_ns: int
    duration_ns: int
    full: bool

    def pprof(self) -> bytes:
        """Return a file for ``go tool pprof``: sample types ``inuse_objects/count`` and ``inuse_space/bytes``."""
        header = pprof.Header(
            sample_types=(pprof.ValueType("inuse_objects", "count"), pprof.ValueType("inuse_space", "bytes")),
            period_type=pprof.ValueType("space", "bytes"),
            period=1,
            started_ns=self.started_ns,
            duration_ns=self.duration_ns,
            default="inuse_space",
            comments=(self._summary(),),
        )
        return pprof.encode(header, self.samples)

    def text(self, top: int = 50) -> str:
        """Return the ``top`` lines of code by bytes, with their source. Reads source files: run it on a thread."""
        lines: dict[Frame, tuple[int, int]] = {}
        for sample in self.samples:
            objects, size = lines.get(sample.stack[-1], (0, 0))
            # By the innermost frame: the same line may be reached by several callers.
            lines[sample.stack[-1]] = (objects + sample.values[0], size + sample.values[1])
        largest = sorted(lines.items(), key=lambda item: -item[1][1])
        table = [
            f"{size:>12,} {objects:>9,}  {frame.function}  {linecache.getline(frame.file, frame.line).strip()}"
            for frame, (objects, size) in largest[:top]
        ]
        # The cut must show, or a reader would take the table for everything.
        if len(largest) > top:
            table.append(f"and {len(largest) - top:,} more lines of code")
        return "\n".join([self._summary(), "", f"{'bytes':>12} {'objects':>9}  allocated at", *table, ""])

    def _summary(self) -> str:
        objects, size = (sum(sample.values[index] for sample in self.samples) for index in (0, 1))
        early = f"; ended early, for tracing used {MAX_TRACE_BYTES >> 20} MiB" if self.full else ""
        return (
            f"allocated within {self.duration_ns / 1e9:.1f} s and still alive: "
            f"{size:,} bytes in {objects:,} objects{early}"
        )


async def heap_profile(seconds: float, depth: int = DEFAULT_DEPTH) -> HeapProfile:
    """Trace all allocations for ``seconds``; each remembers its ``depth`` innermost frames, 1 to ``MAX_DEPTH``.

    Raises ``ProfilerBusy`` while another profile runs, and ``ProfilerUnavailable`` if tracemalloc is on already::

        profile = await heap_profile(10.0)
        print(await run_aside(profile.text))
    """
    if not 1 <= depth <= MAX_DEPTH:
        raise ValueError(f"depth must be 1 to {MAX_DEPTH}, not {depth}")
    with PROFILING.hold("heap profile", seconds):
        started_ns, began = time.time_ns(), time.monotonic_ns()
        # Tracing slows every allocation, so it is on for the length of the profile and no longer.
        with _tracing(depth):
            full = await _sleep_within_bounds(seconds)
            duration_ns = time.monotonic_ns() - began
            # Before the end of `_tracing`: tracemalloc forgets everything when it is stopped.
            snapshot = await run_aside(tracemalloc.take_snapshot)
        # Outside of `_tracing`: grouping allocates a lot, and would be traced itself.
        samples = await run_aside(lambda: _group(snapshot))
    return HeapProfile(samples, started_ns, duration_ns, full)


@contextlib.contextmanager
def _tracing(depth: int) -> Iterator[None]:
    # Somebody else's trace: starting anew would clear it, and stopping would end it.
    if tracemalloc.is_tracing():
        raise ProfilerUnavailable("tracemalloc is on already (PYTHONTRACEMALLOC?): start the process without it")
    tracemalloc.start(depth)
    try:
        yield
    finally:
        tracemalloc.stop()


async def _sleep_within_bounds(seconds: float) -> bool:
    """Sleep; return early, and true, if tracing has used up its memory."""
    end = trio.current_time() + seconds
    while (left := end - trio.current_time()) > 0:
        # Checked while the profile runs: allocation is fastest in the very case that somebody wants to see.
        if tracemalloc.get_tracemalloc_memory() > MAX_TRACE_BYTES:
            return True
        await trio.sleep(min(left, CHECK_INTERVAL))
    return False


def _group(snapshot: tracemalloc.Snapshot) -> tuple[Sample, ...]:
    frames: dict[tuple[str, int], Frame] = {}

    def frame(file: str, line: int) -> Frame:
        # tracemalloc knows no function names. The place stands for the name, or viewers would add up a whole file.
        return frames.setdefault((file, line), Frame(f"{short_path(file)}:{line}", file, line))

    return tuple(
        Sample(tuple(frame(f.filename, f.lineno) for f in found.traceback), (found.count, found.size))
        for found in snapshot.statistics("traceback")
    )
