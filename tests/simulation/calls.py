"""Python's own calls on the simulated disk: those of `os` that change something are told to the disk first.

The lock and the watermark of the journal's folder, the syncs of folders and the file sink come this way.
Invariant: a path that is not on the disk, and a descriptor of one, gets the real call and nothing else. What a file
object of `open` writes is not seen; nothing that has to last is written so. Entered by the run.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

from tests.simulation.disk import Disk, Mount, parent
from tests.simulation.inode import Inode

_REAL = SimpleNamespace(**vars(os))

Opened = tuple[Mount, Inode]


class _Calls:
    """The calls. ``opened`` are the descriptors that are on the disk."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._opened: dict[int, Opened] = {}

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        place = self._place(path) if dir_fd is None else None
        if place is None:
            return int(_REAL.open(path, flags, mode, dir_fd=dir_fd))
        mount, name = place
        inode = mount.names.get(name) if name else Inode("", folder=True)
        if inode is None and flags & os.O_CREAT:
            inode = mount.create(name)
        elif inode is not None and flags & os.O_TRUNC:
            mount.truncate(inode, 0)
        descriptor = int(_REAL.open(path, flags, mode))
        if inode is not None:
            self._opened[descriptor] = mount, inode
        return descriptor

    def close(self, fd: int) -> None:
        self._opened.pop(fd, None)
        _REAL.close(fd)

    def write(self, fd: int, data: Any) -> int:
        if (opened := self._opened.get(fd)) is None:
            return int(_REAL.write(fd, data))
        mount, inode = opened
        # Every writer here appends.
        allowed = mount.write(inode, _REAL.fstat(fd).st_size, memoryview(data).nbytes)
        return int(_REAL.write(fd, memoryview(data)[:allowed]))

    def pwrite(self, fd: int, data: Any, offset: int) -> int:
        if (opened := self._opened.get(fd)) is None:
            return int(_REAL.pwrite(fd, data, offset))
        mount, inode = opened
        allowed = mount.write(inode, offset, len(data))
        return int(_REAL.pwrite(fd, data[:allowed], offset))

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        if (opened := self._opened.get(fd)) is not None:
            opened[0].check_readable()
        return bytes(_REAL.pread(fd, size, offset))

    def ftruncate(self, fd: int, length: int) -> None:
        if (opened := self._opened.get(fd)) is not None:
            opened[0].truncate(opened[1], length)
        _REAL.ftruncate(fd, length)

    def fsync(self, fd: int) -> None:
        if (opened := self._opened.get(fd)) is None:
            _REAL.fsync(fd)
        else:
            opened[0].sync(opened[1])

    fdatasync = fsync

    def rename(self, source: Any, target: Any) -> None:
        place, there = self._place(source), self._place(target)
        if place is not None and there is not None:
            mount, name = place
            if there[1] != name and name in mount.names:
                mount.change_names(parent(there[1]), {name: None, there[1]: mount.names[name]})
        _REAL.rename(source, target)

    replace = rename

    def unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        place = self._place(path) if dir_fd is None else None
        if place is not None and place[1] in place[0].names:
            place[0].change_names(parent(place[1]), {place[1]: None})
        _REAL.unlink(path, dir_fd=dir_fd)

    remove = unlink

    def mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        self._make(path, folder=True)
        _REAL.mkdir(path, mode, dir_fd=dir_fd)

    def mknod(self, path: Any, mode: int = 0o600, device: int = 0, *, dir_fd: int | None = None) -> None:
        self._make(path, folder=False)
        _REAL.mknod(path, mode, device, dir_fd=dir_fd)

    def statvfs(self, path: Any) -> Any:
        found = _REAL.statvfs(path)
        place = None if isinstance(path, int) else self._place(path)
        if place is None:
            return found
        free = 2**30 // found.f_frsize if place[0].has_room() else 0
        return SimpleNamespace(f_bavail=free, f_blocks=2**34 // found.f_frsize, f_frsize=found.f_frsize)

    def _make(self, path: Any, *, folder: bool) -> None:
        if (place := self._place(path)) is not None and place[1]:
            if _REAL.path.lexists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
            if not _REAL.path.isdir(_REAL.path.dirname(path)):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
            place[0].create(place[1], folder=folder)

    def _place(self, path: Any) -> tuple[Mount, str] | None:
        return None if isinstance(path, int) else self._disk.find(os.fsdecode(path))


_NAMES = (
    *("open", "close", "write", "pwrite", "pread", "ftruncate", "fsync", "fdatasync"),
    *("rename", "replace", "unlink", "remove", "mkdir", "mknod", "statvfs"),
)


@contextmanager
def calls_on(disk: Disk) -> Iterator[None]:
    """While the block runs, what Python does to the folder of the disk, it does to the disk."""
    calls = _Calls(disk)
    with mock.patch.multiple(os, **{name: getattr(calls, name) for name in _NAMES}):
        yield
