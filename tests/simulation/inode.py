"""One file of the simulated disk: what of it is durable, and which of its pages were written since.

Invariant: `Inode.lose_power` makes of it what the platters may have: everything that was synced, and of the other
sectors any. Pure but for the read of what is synced. Kept by the disk.
"""

from __future__ import annotations

import copy
from pathlib import Path
from random import Random

PAGE = 4096  # bytes that the kernel's cache keeps together
SECTOR = 512  # bytes that a disk writes whole


class Inode:
    """A file, or a folder. ``dirty`` are the pages that a sync would write; ``gone`` is what a deleted one had."""

    def __init__(self, name: str, *, folder: bool = False) -> None:
        self.name = name
        self.folder = folder
        self.durable = bytearray()
        self.dirty: set[int] = set()
        self.gone: bytes | None = None
        self.mtime = 0.0

    def copy(self, name: str) -> Inode:
        """The same file for the next process, which knows it by this name."""
        other = copy.copy(self)
        other.name = name
        other.durable = bytearray(self.durable)
        other.dirty = set(self.dirty)
        return other

    def write(self, offset: int, length: int) -> None:
        """So much was written there."""
        if length:
            self.dirty.update(range(offset // PAGE, (offset + length - 1) // PAGE + 1))

    def truncate(self, size: int) -> None:
        """It ends there now: what the disk has behind that is zero, when it is synced."""
        self.dirty.update(range(size // PAGE, len(self.durable) // PAGE + 1))

    def sync(self, path: Path, half_done: Random | None) -> None:
        """Make what ``path`` has durable; ``half_done``: some pages of it, and the others are forgotten."""
        pages = sorted(self.dirty)
        self.dirty.clear()
        with path.open("rb", buffering=0) as file:
            size = file.seek(0, 2)
            for page in pages:
                if page * PAGE >= size or (half_done is not None and half_done.random() < 0.5):
                    continue
                file.seek(page * PAGE)
                self._put(page * PAGE, file.read(PAGE))
        if half_done is None:
            del self.durable[size:]
            self.durable.extend(bytes(size - len(self.durable)))

    def lose_power(self, cache: bytes, chance: Random) -> bytes:
        """What is left of it, of which the cache has had this. Everything that is left is durable."""
        if len(cache) < len(self.durable) and chance.random() < 0.5:
            del self.durable[len(cache) :]
        sectors = [
            place
            for page in sorted(self.dirty)
            for place in range(page * PAGE, min((page + 1) * PAGE, len(cache)), SECTOR)
            if cache[place : place + SECTOR] != self.durable[place : place + SECTOR]
        ]
        how = chance.choice(("none", "all", "first", "any"))
        if how == "first":
            del sectors[chance.randint(0, len(sectors)) :]
        for place in sectors:
            if how in ("all", "first") or (how == "any" and chance.random() < 0.5):
                self._put(place, cache[place : place + SECTOR])
        self.dirty.clear()
        return bytes(self.durable)

    def _put(self, place: int, data: bytes) -> None:
        self.durable.extend(bytes(max(0, place - len(self.durable))))
        self.durable[place : place + len(data)] = data
