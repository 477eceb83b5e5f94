"""The file being written: blocks of lines appended, each on the disk before the next, and what a crash tore is cut off.

Invariants: up to ``_length`` the file holds whole lines that are on the disk; whatever is behind that (a write that
failed half-way, a sync that did) is cut off before anything is appended. Nothing is believed of what others may have
done to the file meanwhile: moved or deleted, it is begun anew. One process at a time has the name in the folder, by a
lock file of its own. Blocking, one call at a time; called by the sink, on a thread.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import structlog

from hermes.kit import is_in_place, make_folder, sync_folder
from hermes_sinks.common.disk import write_all
from hermes_sinks.file.names import Names
from hermes_sinks.file.rotating import Rotation

_log = structlog.get_logger("hermes.sinks.file")
_PIECE = 2**20  # bytes read at once
_MODE = 0o640  # the folder says who may come in at all


class LineFile:
    """The file called ``name`` in ``folder``, both made if missing, rotated by size (bytes) and age (s; 0: never).

    Raises BlockingIOError where another process has it, and any other OSError where the folder cannot be used.
    """

    def __init__(self, folder: Path, name: str, max_bytes: int, max_age: float, codec: str, keep: int) -> None:
        self._names = Names(name)
        self._folder = folder
        self.path = folder / self._names.current
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._rotation = Rotation(folder, self._names, codec, keep)
        self._fd = -1
        self._length = 0
        self._began = 0.0  # Unix seconds
        make_folder(folder)
        self._lock = self._take_name()

    def append(self, blocks: Sequence[bytes], now: float) -> None:
        """Append blocks of whole lines, all on the disk when it returns; ``now`` is in Unix seconds.

        Raises OSError, and then nothing of the blocks will be found in the file.
        """
        size = sum(map(len, blocks))
        self._make_ready(now)
        if self._is_full(size, now):
            self._let_go()
            self._rotation.seal(now)
            self._make_ready(now)
        self._write(blocks)
        while not os.fstat(self._fd).st_nlink:  # deleted meanwhile; renamed, it would have the blocks
            self._make_ready(now)
            self._write(blocks)
        self._length += size
        for block in blocks:
            self._rotation.grow(block)

    def close(self) -> None:
        """Close the file, and let others have it. It is not rotated for that."""
        self._rotation.forget()
        self._let_go()
        os.close(self._lock)

    def _is_full(self, more: int, now: float) -> bool:
        aged = self._max_age and now - self._began >= self._max_age
        return self._length > 0 and bool(aged or self._length + more > self._max_bytes)

    def _write(self, blocks: Sequence[bytes]) -> None:
        try:
            for block in blocks:  # each by itself: to join them would hold up the loop too
                write_all(self._fd, block)
            os.fdatasync(self._fd)
        except OSError:
            with suppress(OSError):  # the next append does it, if this fails as well
                os.ftruncate(self._fd, self._length)
            raise

    def _take_name(self) -> int:
        """Have the name in the folder until the descriptor that is returned is closed."""
        lock = os.open(self._folder / self._names.lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise
        return lock

    def _keep_name(self) -> None:
        """Without the file of its lock the name is anybody's: take it again, or raise OSError."""
        if is_in_place(self._lock, self._folder / self._names.lock):
            return
        self._rotation.forget()
        self._let_go()
        try:
            lock = self._take_name()
        except BlockingIOError as error:
            raise OSError(error.errno, "its lock was deleted, and another process writes it now") from error
        os.close(self._lock)
        self._lock = lock

    def _make_ready(self, now: float) -> None:
        """The file is open, and ends where it should."""
        self._keep_name()
        if self._fd >= 0 and not self._is_in_place():
            self._rotation.forget()
            self._let_go()
        if self._fd < 0:
            self._rotation.publish()
            self._resume(now)
            return
        size = os.fstat(self._fd).st_size
        if size < self._length:
            _log.warning("the file was cut by another program", file=str(self.path), bytes=self._length - size)
            self._rotation.forget()
            self._length = _end_of_whole_lines(self._fd)
        if size > self._length:
            os.ftruncate(self._fd, self._length)

    def _is_in_place(self) -> bool:
        """Whether the name still stands for the file that is open."""
        if is_in_place(self._fd, self.path):
            return True
        _log.warning(
            "the file was moved or deleted by another program; a new one is begun, without what the old one holds",
            file=str(self.path),
        )
        return False

    def _resume(self, now: float) -> None:
        """Open the file where an earlier process left it, or begin it."""
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, _MODE)
        try:
            size, length = os.fstat(fd).st_size, _end_of_whole_lines(fd)
            if length < size:
                _log.warning("what a crash tore is cut off", file=str(self.path), bytes=size - length)
                os.ftruncate(fd, length)
            if not length:
                os.utime(self._lock, (now, now))
            sync_folder(self._folder)
        except OSError:
            os.close(fd)
            raise
        self._fd, self._length = fd, length
        self._began = min(now, os.fstat(self._lock).st_mtime)
        if not length:
            self._rotation.begin()

    def _let_go(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


def _end_of_whole_lines(fd: int) -> int:
    """Where the last line ends that has reached the disk.

    No line holds a zero byte, in JSON: where there is one, the file's length was on the disk before its content.
    """
    end = offset = 0
    while piece := os.pread(fd, _PIECE, offset):
        hole = piece.find(b"\0")
        if hole >= 0:
            piece = piece[:hole]
        newline = piece.rfind(b"\n")
        if newline >= 0:
            end = offset + newline + 1
        if hole >= 0:
            break
        offset += len(piece)
    return end
