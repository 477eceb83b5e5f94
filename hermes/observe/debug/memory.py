"""Measures the process: resident memory, the collector's counts, and a census of live objects by type.

No tracing is needed, so the summary can be taken at any time. The census looks at a bounded number of objects and says
whether it estimated.

Invariant: no code of the counted objects runs (``type(x)``, never ``x.__class__``).
"""

from __future__ import annotations

import collections
import gc
import itertools
import os
import resource
import sys
import threading
from pathlib import Path

import msgspec

from hermes.observe.debug.aside import run_aside

# Objects looked at, in about a tenth of a second. A larger heap is sampled evenly.
MAX_COUNTED = 500_000
TOP = 40


class Generation(msgspec.Struct, frozen=True):
    """One generation of the garbage collector: objects allocated since its last run, and its runs so far."""

    pending: int
    collections: int
    collected: int
    uncollectable: int


class TypeCount(msgspec.Struct, frozen=True):
    """A type and the number of its live objects."""

    type: str
    objects: int


class MemorySummary(msgspec.Struct, frozen=True):
    """Sizes in bytes; None if the system does not report the size.

    ``tracked_objects`` are the objects that the collector looks at: containers and instances, not strings, bytes or
    numbers. ``frozen_objects`` were removed from the collector by ``gc.freeze`` and are not in the census.
    ``allocated_blocks`` are the blocks of Python's allocator, whatever their content. ``estimated`` is true if the
    census counted only every n-th object.
    """

    rss: int | None
    peak_rss: int
    swap: int | None
    threads: int
    allocated_blocks: int
    generations: tuple[Generation, ...]
    tracked_objects: int
    frozen_objects: int
    types: tuple[TypeCount, ...]
    estimated: bool

    def json(self) -> bytes:
        """Return the summary as indented JSON."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2)

    def text(self) -> str:
        """Return the summary as text for people."""
        about = "about " if self.estimated else ""
        rss, peak, swap = (_mebibytes(size) for size in (self.rss, self.peak_rss, self.swap))
        lines = [
            f"resident memory   {rss}, at most {peak}, swapped {swap}",
            f"threads           {self.threads}",
            f"allocator         {self.allocated_blocks:,} blocks",
            f"tracked objects   {self.tracked_objects:,}, and {self.frozen_objects:,} frozen",
            "",
            "generation   pending   collections   collected   uncollectable",
        ]
        lines += [
            f"{number:>10} {g.pending:>9,} {g.collections:>13,} {g.collected:>11,} {g.uncollectable:>15,}"
            for number, g in enumerate(self.generations)
        ]
        lines += ["", f"{'objects':>12}  type"]
        lines += [f"{about + format(entry.objects, ','):>12}  {entry.type}" for entry in self.types]
        return "\n".join([*lines, ""])


async def memory_summary(top: int = TOP) -> MemorySummary:
    """Return the present summary; ``top`` is the number of types named. Takes about a tenth of a second, on a thread.

    ::

        summary = await memory_summary(top=10)
        print(summary.text())
    """
    return await run_aside(lambda: _summarise(top))


def _summarise(top: int) -> MemorySummary:
    # Before the list of objects, which would count as memory of the process itself.
    status = _process_status()
    objects = gc.get_objects()
    # Rounded up, so that the bound holds; 1 if there are no objects.
    step = -(-len(objects) // MAX_COUNTED) or 1
    census = collections.Counter(map(type, itertools.islice(objects, 0, None, step)))
    tracked = len(objects)
    # The list keeps every object of the process alive.
    del objects
    return MemorySummary(
        rss=status.get("VmRSS"),
        # ru_maxrss is in KiB on Linux; it serves where there is no procfs.
        peak_rss=status.get("VmHWM", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024),
        swap=status.get("VmSwap"),
        threads=threading.active_count(),
        # Strings, bytes and numbers show here only; the collector does not track them.
        allocated_blocks=sys.getallocatedblocks(),
        generations=tuple(
            Generation(pending, stats["collections"], stats["collected"], stats["uncollectable"])
            for pending, stats in zip(gc.get_count(), gc.get_stats(), strict=True)
        ),
        tracked_objects=tracked,
        frozen_objects=gc.get_freeze_count(),
        types=tuple(
            TypeCount(f"{kind.__module__}.{kind.__qualname__}", count * step) for kind, count in census.most_common(top)
        ),
        estimated=step > 1,
    )


def _process_status() -> dict[str, int]:
    """Return the sizes in /proc/self/status in bytes; empty if there is no procfs."""
    try:
        text = Path(f"/proc/{os.getpid()}/status").read_text()
    except OSError:
        return {}
    # Every size in this file is in kB, which the kernel means as KiB (proc(5)).
    fields = (line.split() for line in text.splitlines() if line.endswith(" kB"))
    return {name.rstrip(":"): int(size) * 1024 for name, size, _unit in fields}


def _mebibytes(size: int | None) -> str:
    return "unknown" if size is None else f"{size / (1 << 20):,.1f} MiB"
