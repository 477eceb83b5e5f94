"""The simulated disk: what the kernel's cache has of each file, and what of that a loss of power leaves.

The files are real ones, beneath a folder in memory: all reads, locks and names are the kernel's. What writes, syncs,
renames or deletes there tells the disk of it: SQLite by `vfs`, Python by `calls`. The folder is the cache; the disk
knows beside it what is durable. Invariants, all of them Linux's:

- A sync that returned has made the file's pages durable, and one of a folder its names. Names are made durable in the
  order in which they were changed, content and length of a file by sectors, in any order, each whole.
- When only the process dies, the cache stays, and with it which pages were not synced.
- A sync that failed has written some of its pages and takes all of them for clean ("fsyncgate"): no later sync writes
  them, unless they are written again.
- A disk that is full refuses what makes a file longer, where it is written or where it is synced.

Every start of the service gets a folder of its own, a copy made at the end of the one before; the old process may do to
the old one whatever it likes. The timetable makes the trouble; the oracle reads copies.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import trio

from tests.simulation.inode import Inode
from tests.simulation.trace import Trace

DATA = "data"
"""HERMES_DATA_DIR, which the first start of the service makes."""

MEMORY = Path("/dev/shm")
_LOOK_SECONDS = 0.05
_FREE_BLOCKS = 2**20


@dataclass
class Trouble:
    """What is wrong with the disk now. ``latency`` in seconds, of each call on a thread."""

    failing: bool = False
    """No sync succeeds: EIO."""
    unwritable: bool = False
    """No write succeeds: EIO."""
    unreadable: bool = False
    full: bool = False
    """Nothing gets longer, and ``statvfs`` says so."""
    over_quota: bool = False
    """Nothing gets longer, and nobody says so before the sync: ENOSPC."""
    hanging: bool = False
    """No call comes back."""
    latency: float = 0.0


@dataclass
class _Change:
    """Names of one folder that were changed at once: each with its file, or None for a name that is gone."""

    folder: str
    names: dict[str, Inode | None]


class Disk:
    """Files which outlive the processes that write them. Leaving the block of `open_disk` deletes them.

    ``failures`` counts what it has refused, ``torn`` the files that a loss of power has left as they never were.
    ``on_change`` is called before anything is changed, with the file's name.
    """

    def __init__(self, place: Path, random: Random, trace: Trace, latency: float) -> None:
        self.trouble = Trouble(latency=latency)
        self.usual_latency = latency
        self.failures = self.torn = self.syncs = 0
        self.random = random
        self.trace = trace
        self.on_change: Callable[[str], None] | None = None
        self.scratch = place / "scratch"
        self._place = place
        self._copying = False
        self.mount = Mount(self, place / "0", {}, {}, [])
        self._fill({})

    def find(self, path: str) -> tuple[Mount, str] | None:
        """The mount that a path is in, and its name there; None for a path that is elsewhere."""
        mount = self.mount
        if self._copying:
            return None
        if path == str(mount.root):
            return mount, ""
        root = f"{mount.root}/"
        if path.startswith(root):
            return mount, path[len(root) :]
        if path.startswith(f"{self._place}/") and not path.startswith(f"{self.scratch}/"):
            return DEAD, ""
        return None

    def crash(self, *, power: bool) -> None:
        """The process is gone, and if it was for want of ``power``, so is what was not synced, or a part of that."""
        old = self.mount
        old.dead = True
        number = int(old.root.name) + 1
        names = old.survivors() if power else dict(old.names)
        copies: dict[Inode, Inode] = {}
        contents: dict[Inode, bytes] = {}
        for name, inode in sorted(names.items()):
            cache = old.content(inode)
            copies[inode] = copy = inode.copy(name)
            contents[copy] = cache
            copy.gone = None
            if power and not inode.folder:
                contents[copy] = left = copy.lose_power(cache, self.random)
                self.torn += left not in (cache, bytes(inode.durable))
                self.trace.note("disk", name, len(cache), "left", len(left), "torn" * (left != cache))
        durable = {name: copies.setdefault(inode, inode.copy(name)) for name, inode in old.durable_names.items()}
        new = {name: copies[inode] for name, inode in names.items()}
        changes = [
            _Change(
                change.folder,
                {name: inode and copies.setdefault(inode, inode.copy(name)) for name, inode in change.names.items()},
            )
            for change in old.unsynced
        ]
        if power:
            durable, changes = dict(new), []
        self.mount = Mount(self, self._place / str(number), new, durable, changes)
        self._fill(contents)

    def _fill(self, contents: dict[Inode, bytes]) -> None:
        self._copying = True
        self.mount.fill(contents)
        self._copying = False

    async def pause(self, is_over: Callable[[], bool]) -> None:
        """About half of the time that a call takes, more while the disk hangs; none for a process that is gone."""
        if not is_over():
            await trio.sleep(self.trouble.latency * self.random.uniform(0, 1))
        while self.trouble.hanging and not is_over():  # noqa: ASYNC110 - the timetable sets it
            await trio.sleep(_LOOK_SECONDS)

    def refuse(self, code: int) -> OSError:
        """The error to raise for what the disk does not do."""
        self.failures += 1
        return OSError(code, os.strerror(code))


class Mount:
    """The disk as one process sees it, until the process is ``dead``: then nothing can be changed any more.

    ``names`` are relative to ``root``. ``durable_names`` are those that a loss of power leaves, ``unsynced`` what was
    changed since, in order.
    """

    def __init__(
        self,
        disk: Disk | None,
        root: Path,
        names: dict[str, Inode],
        durable_names: dict[str, Inode],
        unsynced: list[_Change],
    ) -> None:
        self.root = root
        self.dead = disk is None
        self.version = 0
        self.names = names
        self.durable_names = durable_names
        self.unsynced = unsynced
        self._disk = disk

    def fill(self, contents: dict[Inode, bytes]) -> None:
        """Make the folder and the files in it."""
        self.root.mkdir(parents=True)
        for name, inode in sorted(self.names.items()):
            path = self.root / name
            if inode.folder:
                path.mkdir(0o700)
            else:
                path.write_bytes(contents[inode])
                path.chmod(0o600)
                os.utime(path, (inode.mtime, inode.mtime))

    def content(self, inode: Inode) -> bytes:
        """What the cache has of a file."""
        if inode.folder:
            return b""
        if inode.gone is not None:
            return inode.gone
        path = self.root / inode.name
        inode.mtime = path.stat().st_mtime
        return path.read_bytes()

    def survivors(self) -> dict[str, Inode]:
        """The names that a loss of power leaves now."""
        assert self._disk is not None
        names = dict(self.durable_names)
        for change in self.unsynced[: self._disk.random.randint(0, len(self.unsynced))]:
            _apply(names, change)
        return {name: inode for name, inode in names.items() if all(folder in names for folder in _folders(name))}

    # --- what a process does ---------------------------------------------------------------------------------------

    def begin(self, name: str) -> Disk:
        """Something is about to be changed. Raises OSError for a process that is dead, or dies of this."""
        disk = self._disk
        if disk is not None and not self.dead and disk.on_change is not None:
            disk.on_change(name)
        if disk is None or self.dead:
            raise OSError(errno.EIO, "the process is dead, and this must concern nobody")
        self.version += 1
        return disk

    def check_readable(self) -> None:
        """Raises OSError where nothing can be read."""
        if self._disk is not None and not self.dead and self._disk.trouble.unreadable:
            raise self._disk.refuse(errno.EIO)

    def change_names(self, folder: str, names: dict[str, Inode | None]) -> None:
        """Names of a folder are about to be changed."""
        self.begin(next(iter(names)))
        for name, inode in names.items():
            before = self.names.get(name)
            if before is not None and before not in names.values() and not before.folder:
                before.gone = self.content(before)
            if inode is not None:
                inode.name = name
        change = _Change(folder, names)
        _apply(self.names, change)
        self.unsynced.append(change)

    def create(self, name: str, *, folder: bool = False) -> Inode:
        """A file or a folder is about to be made."""
        disk = self.begin(name)
        if disk.trouble.unwritable or disk.trouble.full:
            raise disk.refuse(errno.EIO if disk.trouble.unwritable else errno.ENOSPC)
        inode = Inode(name, folder=folder)
        self.change_names(parent(name), {name: inode})
        return inode

    def write(self, inode: Inode, offset: int, length: int) -> int:
        """So much is about to be written there. Returns how much of it may be. Raises OSError."""
        disk = self.begin(inode.name)
        if disk.trouble.unwritable:
            raise disk.refuse(errno.EIO)
        if disk.trouble.full and offset + length > self._size(inode):
            length = disk.random.choice((0, disk.random.randrange(length + 1)))
            if not length:
                raise disk.refuse(errno.ENOSPC)
        inode.write(offset, length)
        return length

    def truncate(self, inode: Inode, size: int) -> None:
        """The file is about to get another length. Raises OSError."""
        disk = self.begin(inode.name)
        if disk.trouble.unwritable:
            raise disk.refuse(errno.EIO)
        inode.truncate(size)

    def sync(self, inode: Inode) -> None:
        """Make the file, or a folder's names, durable. Raises OSError."""
        disk = self.begin(inode.name)
        longer = not inode.folder and inode.gone is None and self._size(inode) > len(inode.durable)
        code = errno.EIO if disk.trouble.failing else errno.ENOSPC if disk.trouble.over_quota and longer else 0
        disk.trace.note("disk", inode.name, errno.errorcode.get(code, "synced"), len(inode.dirty))
        disk.syncs += 1
        if inode.folder:
            if code:
                raise disk.refuse(code)
            self._sync_names(inode.name)
        elif inode.gone is None:
            inode.sync(self.root / inode.name, disk.random if code else None)
        if code:
            raise disk.refuse(code)

    def _sync_names(self, folder: str) -> None:
        for change in self.unsynced:
            if change.folder == folder:
                _apply(self.durable_names, change)
        self.unsynced = [change for change in self.unsynced if change.folder != folder]

    def sync_names(self, folder: str) -> None:
        """What SQLite does after it has made a file: its folder is synced."""
        self.sync(self.names.get(folder) or Inode("", folder=True))

    def has_room(self) -> bool:
        """What ``statvfs`` tells."""
        return self._disk is None or not self._disk.trouble.full

    def _size(self, inode: Inode) -> int:
        return (self.root / inode.name).stat().st_size


DEAD = Mount(None, Path("/nowhere"), {}, {}, [])
"""What every process has that is gone."""


def parent(name: str) -> str:
    """The folder of a name; the empty one is the root."""
    return name.rpartition("/")[0]


def _folders(name: str) -> Iterator[str]:
    while name := parent(name):
        yield name


def _apply(names: dict[str, Inode], change: _Change) -> None:
    for name, inode in change.names.items():
        if inode is None:
            names.pop(name, None)
        else:
            names[name] = inode


@contextmanager
def open_disk(random: Random, trace: Trace, latency: float) -> Iterator[Disk]:
    """An empty disk, in memory where the machine has a folder there."""
    with tempfile.TemporaryDirectory(prefix="hermes-simulation-", dir=MEMORY if MEMORY.is_dir() else None) as place:
        yield Disk(Path(place), random, trace, latency)
