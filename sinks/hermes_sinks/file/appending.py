"""Appends blocks of lines durably to the file being written, and cuts off lines that a crash has torn.

Invariants: up to ``_length`` the file holds whole lines that are on the disk; bytes behind that point, from a write or
a sync that failed, are cut off before the next append. If another program has moved or deleted the file, a new file is
begun. One process at a time has the name in the folder, by a lock file. Blocking, one call at a time.
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
# Bytes read at once.
_PIECE = 2**20
# The permissions of the folder decide further who may read.
_MODE = 0o640


class LineFile:
    """The file called ``name`` in ``folder``, both made if missing, rotated by size (bytes) and age (s; 0: never).

    Raises BlockingIOError if another process has the file, any other OSError if the folder cannot be used. ::

        file = LineFile(folder, "events", max_bytes=2**27, max_age=3600, codec="zstd", keep=0)
        file.append([b'{"id": "1"}\\n'], time.time())  # on the disk now
        file.close()

    Parameters: 6, because each is one setting of the sink, and the sink alone makes these files.
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
        """Append blocks of whole lines durably. ``now`` is in Unix seconds.

        Raises OSError; then the file will hold no line of the blocks.
        """
        size = sum(map(len, blocks))
        # First: this finds the length of a file that an earlier process has left.
        self._make_ready(now)
        if self._is_full(size, now):
            self._let_go()
            self._rotation.seal(now)
            self._make_ready(now)
        self._write(blocks)
        # Deleted during the write: the blocks are gone with the file. A renamed file still has them.
        while not os.fstat(self._fd).st_nlink:
            self._make_ready(now)
            self._write(blocks)
        # Only now are the lines on the disk, so only now does the copy get them.
        self._length += size
        for block in blocks:
            self._rotation.grow(block)

    def close(self) -> None:
        """Close the file without a rotation, and unlock its name for other processes."""
        self._rotation.forget()
        self._let_go()
        os.close(self._lock)

    def _is_full(self, more: int, now: float) -> bool:
        aged = self._max_age and now - self._began >= self._max_age
        # A batch that is larger than a file gets a file of its own, so an empty file is never full.
        return self._length > 0 and bool(aged or self._length + more > self._max_bytes)

    def _write(self, blocks: Sequence[bytes]) -> None:
        try:
            # One by one: joining them would hold the interpreter lock, and so the loop.
            for block in blocks:
                write_all(self._fd, block)
            # fdatasync is enough: it writes the new length too, without which the data could not be read.
            os.fdatasync(self._fd)
        except OSError:
            # If this fails too, the next append cuts the file.
            with suppress(OSError):
                os.ftruncate(self._fd, self._length)
            raise

    def _take_name(self) -> int:
        """Lock the name in the folder; closing the returned descriptor unlocks the name."""
        lock = os.open(self._folder / self._names.lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            # The lock ends with the process: a crash leaves none behind.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise
        return lock

    def _keep_name(self) -> None:
        """Lock the name again if the lock file was deleted: another process could lock the name now. Raises OSError."""
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
        """Open the file if needed, and cut it to its last whole line."""
        self._keep_name()
        if self._fd >= 0 and not self._is_in_place():
            # The copy is of the file that was moved or deleted.
            self._rotation.forget()
            self._let_go()
        if self._fd < 0:
            self._rotation.publish()
            self._resume(now)
            return
        size = os.fstat(self._fd).st_size
        if size < self._length:
            _log.warning("the file was cut by another program", file=str(self.path), bytes=self._length - size)
            # The copy holds lines that the file no longer has.
            self._rotation.forget()
            self._length = _end_of_whole_lines(self._fd)
        if size > self._length:
            os.ftruncate(self._fd, self._length)

    def _is_in_place(self) -> bool:
        """Return whether the name still leads to the open file."""
        if is_in_place(self._fd, self.path):
            return True
        _log.warning(
            "the file was moved or deleted by another program; a new one is begun, without what the old one holds",
            file=str(self.path),
        )
        return False

    def _resume(self, now: float) -> None:
        """Open the file that an earlier process left, or begin a new one."""
        # O_APPEND: after a cut the next line stands at the new end, and not behind a hole.
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, _MODE)
        try:
            size, length = os.fstat(fd).st_size, _end_of_whole_lines(fd)
            if length < size:
                _log.warning("what a crash tore is cut off", file=str(self.path), bytes=size - length)
                os.ftruncate(fd, length)
            # The lock file keeps the age across restarts: appends change the time of the file itself.
            if not length:
                os.utime(self._lock, (now, now))
            # A new file is durable only with its name.
            sync_folder(self._folder)
        except OSError:
            os.close(fd)
            raise
        self._fd, self._length = fd, length
        # The clock may have been set back since: then the file counts as begun now.
        self._began = min(now, os.fstat(self._lock).st_mtime)
        if not length:
            self._rotation.begin()

    def _let_go(self) -> None:
        if self._fd >= 0:
            # Forgotten first: Linux frees the descriptor even if close(2) reports an error.
            fd, self._fd = self._fd, -1
            os.close(fd)


def _end_of_whole_lines(fd: int) -> int:
    """Return the end of the last line that has reached the disk."""
    # JSON has no zero byte. After a crash a zero byte shows that the length reached the disk before the content.
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
