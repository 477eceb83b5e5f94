"""The simulated disk: rows in files, of which only what was synced is sure to survive the loss of power.

Invariants: after a loss of power a file holds everything that was synced and, of what was written since, a part that
begins at the oldest write; the row after that part may be torn. When only the process dies, everything written is
there. A sync that failed has written nothing, and what was to be synced is gone. A dead process neither writes nor
learns of anything any more. The log and the dead letters of the simulation live here; the timetable makes the trouble.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

import trio

from tests.simulation.trace import Trace


class Change(NamedTuple):
    """A row that is written, or deleted (no ``data``). One that is written ``whole`` is there as it was or as it is."""

    key: int
    data: bytes | None
    whole: bool


@dataclass
class Trouble:
    """What is wrong with the disk now. ``latency`` in seconds, of a sync or of a read."""

    failing: bool = False
    unreadable: bool = False
    full: bool = False
    latency: float = 0.0

    @property
    def any(self) -> bool:
        """Whether a start may fail because of it."""
        return self.failing or self.unreadable or self.full


@dataclass
class File:
    """A file: ``rows`` as the process sees them, ``durable`` as a loss of power leaves them, and what lies between."""

    name: str
    rows: dict[int, bytes] = field(default_factory=dict)
    durable: dict[int, bytes] = field(default_factory=dict)
    unsynced: list[Change] = field(default_factory=list)


class Disk:
    """Files by name, which outlive the processes that write them. ``torn`` counts rows that a crash has torn."""

    def __init__(self, random: Random, trace: Trace, latency: float) -> None:
        self.trouble = Trouble(latency=latency)
        self.usual_latency = latency
        self.torn = 0
        self._random = random
        self._trace = trace
        self._files: dict[str, File] = {}

    def file(self, name: str) -> File:
        """The file of this name, made if there is none."""
        return self._files.setdefault(name, File(name))

    def is_writing(self, name: str) -> bool:
        """Whether a row of this file is written and not yet synced."""
        return any(change.data for change in self.file(name).unsynced)

    def mount(self) -> Mount:
        """The disk for a new process."""
        return Mount(self)

    def crash(self, *, power: bool) -> None:
        """The process is gone, and if it was for want of ``power``, so is what was not synced, or a part of that."""
        for file in self._files.values():
            kept = len(file.unsynced) if not power else self._random.randint(0, len(file.unsynced))
            for change in file.unsynced[:kept]:
                _apply(file.durable, change)
            lost = file.unsynced[kept:]
            torn = bool(lost) and self._tear(file, lost[0])
            if file.unsynced:
                self._trace.note("disk", file.name, f"lost={len(lost)}", f"kept={kept}", f"torn={torn}")
            file.unsynced.clear()
            file.rows = dict(file.durable)

    def _tear(self, file: File, change: Change) -> bool:
        if not change.data or change.whole or self._random.random() < 0.5:
            return False
        file.durable[change.key] = change.data[: self._random.randrange(len(change.data))]
        self.torn += 1
        return True

    async def pause(self) -> None:
        """The time that the disk takes for anything."""
        await trio.sleep(self.trouble.latency * self._random.uniform(0.5, 1.5))

    def commit(self, file: File, count: int) -> None:
        """Make the oldest ``count`` changes durable, or raise OSError (EIO, ENOSPC), and then they are gone."""
        changes = file.unsynced[:count]
        del file.unsynced[:count]
        code = 0
        if self.trouble.failing:
            code = errno.EIO
        elif self.trouble.full and any(change.data for change in changes):
            code = errno.ENOSPC
        self._trace.note("disk", file.name, errno.errorcode.get(code, "synced"), len(changes))
        if not code:
            for change in changes:
                _apply(file.durable, change)
            return
        file.rows = dict(file.durable)
        for change in file.unsynced:
            _apply(file.rows, change)
        raise OSError(code, "the simulated disk says so")


class Mount:
    """The disk as one process sees it, until the process is ``dead``."""

    def __init__(self, disk: Disk) -> None:
        self.dead = False
        self._disk = disk

    def rows(self, name: str) -> dict[int, bytes]:
        """The rows of a file, to look at."""
        return self._disk.file(name).rows

    def write(self, name: str, key: int, data: bytes | None, *, whole: bool = False) -> None:
        """Write a row, or delete it (None); durable with the next sync. ``whole``: never torn, as a rename does it."""
        if not self.dead:
            file, change = self._disk.file(name), Change(key, data, whole)
            file.unsynced.append(change)
            _apply(file.rows, change)

    async def sync(self, name: str) -> None:
        """Make what was written to the file durable. Raises OSError."""
        file = self._disk.file(name)
        count = len(file.unsynced)
        await self._take_time()
        self._disk.commit(file, count)

    async def read(self) -> None:
        """The time that a read takes. Raises OSError."""
        await self._take_time()
        if self._disk.trouble.unreadable:
            raise OSError(errno.EIO, "the simulated disk cannot be read")

    async def _take_time(self) -> None:
        if not self.dead:
            await self._disk.pause()
        if self.dead:
            raise OSError(errno.EIO, "the process is dead, and this must concern nobody")


def _apply(rows: dict[int, bytes], change: Change) -> None:
    if change.data is None:
        rows.pop(change.key, None)
    else:
        rows[change.key] = change.data
