"""SQLite on the simulated disk: its own file layer for Unix, but what changes a file is told to the disk first.

The library that Python's sqlite3 stands on lets a program register a layer of its own between SQLite and the system.
This one is a copy of SQLite's, in which a few entries of its tables are ours: reads, locks and shared memory are the
real ones. So driver, library and file format are those of the service, and the only thing that is not real is what
survives. Chosen before: apsw's layers are another copy of SQLite and another driver; LD_PRELOAD and FUSE need a
compiler or a kernel's module and know no virtual clock.

Invariant: a file that is not on a simulated disk gets the real calls alone. Entered by the run, for as long as it
takes; connections that are left open by a crash go on to work, on a disk that is dead.

The tables are those of https://www.sqlite.org/c3ref/vfs.html and https://www.sqlite.org/c3ref/io_methods.html.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.simulation.disk import Disk, Mount, parent
from tests.simulation.inode import Inode

_POINTER = ctypes.sizeof(ctypes.c_void_p)
_VFS_SLOTS, _NAME, _OPEN, _DELETE, _RANDOMNESS = 21, 3, 5, 6, 13
_FILE_SLOTS, _CLOSE, _READ, _WRITE, _TRUNCATE, _SYNC = 19, 1, 2, 3, 4, 5

_OK, _IOERR_READ, _FULL, _IOERR_WRITE, _IOERR_FSYNC, _IOERR_TRUNCATE = 0, 266, 13, 778, 1034, 1546
_IOERR_DELETE, _CANTOPEN = 2570, 14

_OPEN_CREATE = 0x4
_SYNCED_NAMES = 0x800 | 0x4000 | 0x80000  # a journal, a super-journal, a write-ahead file

_int, _pointer, _i64 = ctypes.c_int, ctypes.c_void_p, ctypes.c_int64
_OPEN_TYPE = ctypes.CFUNCTYPE(_int, _pointer, _pointer, _pointer, _int, _pointer)
_DELETE_TYPE = ctypes.CFUNCTYPE(_int, _pointer, _pointer, _int)
_RANDOMNESS_TYPE = ctypes.CFUNCTYPE(_int, _pointer, _int, _pointer)
_CLOSE_TYPE = ctypes.CFUNCTYPE(_int, _pointer)
_MOVE_TYPE = ctypes.CFUNCTYPE(_int, _pointer, _pointer, _int, _i64)  # of xRead and xWrite
_TRUNCATE_TYPE = ctypes.CFUNCTYPE(_int, _pointer, _i64)
_SYNC_TYPE = ctypes.CFUNCTYPE(_int, _pointer, _int)


class _OpenFile:
    def __init__(self, mount: Mount, inode: Inode, flags: int) -> None:
        self.mount = mount
        self.inode = inode
        self.syncs_its_name = bool(flags & _OPEN_CREATE and flags & _SYNCED_NAMES)


class _Layer:
    """The layer, made once in a process and never freed, for a connection may outlive the run that has made it."""

    def __init__(self) -> None:
        library = ctypes.CDLL(getattr(_sqlite3, "__file__", None))
        find = library.sqlite3_vfs_find
        find.restype, find.argtypes = _pointer, [ctypes.c_char_p]
        self._register, self._unregister = library.sqlite3_vfs_register, library.sqlite3_vfs_unregister
        self._register.argtypes, self._unregister.argtypes = [_pointer, _int], [_pointer]
        self._randomness = library.sqlite3_randomness
        self._randomness.argtypes, self._randomness.restype = [_int, _pointer], None
        self._real = find(b"unix")
        slots = (_pointer * _VFS_SLOTS).from_address(self._real)
        self._real_open, self._real_delete = _OPEN_TYPE(slots[_OPEN] or 0), _DELETE_TYPE(slots[_DELETE] or 0)
        self._name = ctypes.create_string_buffer(b"simulated")
        self._ours = [_OPEN_TYPE(self._open), _DELETE_TYPE(self._delete), _RANDOMNESS_TYPE(self._fill)]
        self._table = (_pointer * _VFS_SLOTS)(*slots)
        self._table[_NAME] = ctypes.addressof(self._name)
        for slot, function in zip((_OPEN, _DELETE, _RANDOMNESS), self._ours, strict=True):
            self._table[slot] = ctypes.cast(function, _pointer).value
        self._methods: dict[int, Any] = {}
        self._kept: list[Any] = []
        self._files: dict[int, _OpenFile] = {}
        self._disk: Disk | None = None
        self.broken: list[BaseException] = []

    @contextmanager
    def serving(self, disk: Disk) -> Iterator[None]:
        """While the block runs, what this process opens goes through the layer, and its chance is the disk's."""
        self._disk = disk
        self._register(ctypes.addressof(self._table), 1)
        self._randomness(0, None)  # it is seeded anew
        try:
            yield
        finally:
            self._disk = None
            self._unregister(ctypes.addressof(self._table))
            self._register(self._real, 1)
            self._randomness(0, None)
            broken, self.broken = self.broken, []
        if broken:
            raise broken[0]

    def _call(self, function: Callable[[], int], failed: int) -> int:
        """An error that leaves a callback is lost on its way through C: an OSError is a code, any other a bug."""
        try:
            return function()
        except OSError as error:
            return _FULL if failed == _IOERR_WRITE and error.errno == errno.ENOSPC else failed
        except BaseException as error:  # noqa: BLE001 - raised again at the end of the run
            self.broken.append(error)
            return failed

    # --- the file system -------------------------------------------------------------------------------------------

    def _open(self, _vfs: int, path: int | None, file: int, flags: int, out: int | None) -> int:
        def call() -> int:
            place = self._place(path)
            if place is None:
                return self._real_open(self._real, path, file, flags, out)
            mount, name = place
            inode = mount.names.get(name)
            if inode is None and flags & _OPEN_CREATE:
                inode = mount.create(name)
            code = self._real_open(self._real, path, file, flags, out)
            if code == _OK and inode is not None:
                self._files[file] = _OpenFile(mount, inode, flags)
                methods = _pointer.from_address(file)
                methods.value = self._replace(methods.value or 0)
            return code

        return self._call(call, _CANTOPEN)

    def _delete(self, _vfs: int, path: int, sync: int) -> int:
        def call() -> int:
            place = self._place(path)
            if place is not None and place[1] in place[0].names:
                mount, name = place
                mount.change_names(parent(name), {name: None})
                code = self._real_delete(self._real, path, 0)
                if sync:
                    mount.sync_names(parent(name))
                return code
            return self._real_delete(self._real, path, sync)

        return self._call(call, _IOERR_DELETE)

    def _fill(self, _vfs: int, size: int, place: int) -> int:
        data = os.urandom(size) if self._disk is None else self._disk.random.randbytes(size)
        ctypes.memmove(place, data, size)
        return size

    def _place(self, path: int | None) -> tuple[Mount, str] | None:
        if self._disk is None or not path:
            return None
        return self._disk.find(os.fsdecode(ctypes.string_at(path)))

    # --- a file ----------------------------------------------------------------------------------------------------

    def _replace(self, table: int) -> int:
        """A copy of SQLite's table of what can be done to a file, with ours in it."""
        if table not in self._methods:
            slots = (_pointer * _FILE_SLOTS).from_address(table)
            ours = (_pointer * _FILE_SLOTS)(*slots)
            close, truncate = _CLOSE_TYPE(slots[_CLOSE] or 0), _TRUNCATE_TYPE(slots[_TRUNCATE] or 0)
            read, write = _MOVE_TYPE(slots[_READ] or 0), _MOVE_TYPE(slots[_WRITE] or 0)
            functions = {
                _CLOSE: _CLOSE_TYPE(lambda file: self._close(close, file)),
                _READ: _MOVE_TYPE(lambda file, data, size, place: self._read(read, file, data, size, place)),
                _WRITE: _MOVE_TYPE(lambda file, data, size, place: self._write(write, file, data, size, place)),
                _TRUNCATE: _TRUNCATE_TYPE(lambda file, size: self._truncate(truncate, file, size)),
                _SYNC: _SYNC_TYPE(lambda file, _flags: self._sync(file)),
            }
            for slot, function in functions.items():
                ours[slot] = ctypes.cast(function, _pointer).value
            self._kept += [ours, functions, close, truncate, read, write]
            self._methods[table] = ctypes.addressof(ours)
        return int(self._methods[table])

    def _close(self, real: Any, file: int) -> int:
        self._files.pop(file, None)
        return int(real(file))

    def _read(self, real: Any, file: int, data: int, size: int, place: int) -> int:
        def call() -> int:
            self._files[file].mount.check_readable()
            return int(real(file, data, size, place))

        return self._call(call, _IOERR_READ)

    def _write(self, real: Any, file: int, data: int, size: int, place: int) -> int:
        def call() -> int:
            opened = self._files[file]
            written = opened.mount.write(opened.inode, place, size)
            code = int(real(file, data, written, place))
            return code if written == size else _FULL

        return self._call(call, _IOERR_WRITE)

    def _truncate(self, real: Any, file: int, size: int) -> int:
        def call() -> int:
            opened = self._files[file]
            opened.mount.truncate(opened.inode, size)
            return int(real(file, size))

        return self._call(call, _IOERR_TRUNCATE)

    def _sync(self, file: int) -> int:
        def call() -> int:
            opened = self._files[file]
            opened.mount.sync(opened.inode)
            if opened.syncs_its_name:
                opened.mount.sync_names(parent(opened.inode.name))
                opened.syncs_its_name = False
            return _OK

        return self._call(call, _IOERR_FSYNC)


_LAYER = _Layer()


@contextmanager
def sqlite_on(disk: Disk) -> Iterator[None]:
    """While the block runs, SQLite's files that are in the folder of the disk are on it."""
    with _LAYER.serving(disk):
        yield
