"""Holds the folder of an sqlite log: locks it, keeps the watermark in it, and tells how much room its disk has.

Invariants: one process at a time has the folder; only its user can read it; the watermark, which stands in the lock
file, is never ahead of the durable records, because it is written after their commit. Blocking.
"""

from __future__ import annotations

import fcntl
import os
import zlib
from pathlib import Path
from typing import NamedTuple

from hermes.base.errors import ConfigError
from hermes.base.folders import make_folder

# Appends leave this much free, so that a trim of a full disk can write its deletions before it frees anything.
RESERVE_BYTES = 16 * 2**20
# On a small disk the reserve is one part in this many, or nothing could be appended.
_RESERVE_SHARE = 16

# Enough for the head of a journal chunk, from which its number is read.
BEGINNING_BYTES = 24
_UNKNOWN = "-"
# A fixed length, so that a new mark overwrites every byte of the mark before.
_MARK_BYTES = 2 * (20 + 1) + 2 * (2 * BEGINNING_BYTES + 1)

DATABASE = "log.db"
LOCK = "lock"
"""The name of the file that `lock_folder` locks."""

REPAIRED = "log.db.repaired"
"""The database that a repair has written, before its rename to `DATABASE`."""


def lock_folder(folder: Path) -> int:
    """Lock the folder for this process; make the folder if it is missing. Closing the returned descriptor unlocks it.

    Raises `ConfigError` if another process has the lock, or the folder cannot be made.

    >>> lock = lock_folder(Path(folder, "mine"))
    >>> os.close(lock)  # another process may lock the folder now
    """
    try:
        make_folder(folder)
        # A folder that exists already keeps its mode in `make_folder`; the records are for this user alone.
        folder.chmod(0o700)
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be used: {error}") from error
    # flock on a file of its own: SQLite's POSIX locks end when the process closes any descriptor of the database.
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise ConfigError(f"{folder}: another Hermes uses it; stop that one, or name another folder") from None
        raise ConfigError(f"{folder}: cannot be locked: {error}") from error
    return descriptor


class Watermark(NamedTuple):
    """Records from ``first`` to before ``next`` were acknowledged, and not yet trimmed.

    ``before`` holds the first `BEGINNING_BYTES` of the record before ``first``, and ``last`` those of the newest
    record; each is empty if unknown. The event journal reads the numbers of its events from these bytes.
    """

    first: int = 0
    next: int = 0
    before: bytes = b""
    last: bytes = b""


NOT_MARKED = Watermark()
"""The watermark of a log that has none yet."""


def write_watermark(lock: int, mark: Watermark) -> None:
    """Write the watermark, without a sync.

    A crash of the process does not lose the watermark; a crash of the machine may lose the last half minute of marks.

    >>> lock = lock_folder(Path(folder, "marked"))
    >>> write_watermark(lock, Watermark(first=3, next=7))
    >>> read_watermark(lock)
    Watermark(first=3, next=7, before=b'', last=b'')
    >>> os.close(lock)
    """
    beginnings = (mark.before.hex() or _UNKNOWN).encode(), (mark.last.hex() or _UNKNOWN).encode()
    # A crash of the machine may leave half of a new mark over half of the old one: the checksum finds such a mark.
    text = (b"%020d %020d %b %b" % (mark.first, mark.next, *beginnings)).ljust(_MARK_BYTES)
    # No fsync, which would cost each commit a second one: the records are durable without the mark.
    os.pwrite(lock, b"%b %08x\n" % (text, zlib.crc32(text)), 0)


def read_watermark(lock: int) -> Watermark:
    """Return the watermark; `NOT_MARKED` if there is no readable one."""
    line, _, _ = os.pread(lock, 2 * _MARK_BYTES, 0).partition(b"\n")
    text, _, checksum = line.rpartition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        return NOT_MARKED
    # Hermes's first format of the mark had no beginnings, so the list may be empty.
    first, following, *beginnings = text.split()
    known = (b"" if each == _UNKNOWN.encode() else bytes.fromhex(each.decode()) for each in beginnings)
    return Watermark(int(first), int(following), *known)


def room(folder: Path) -> int:
    """Return how many bytes may be written on the folder's disk, without the reserve.

    The reserve is for trims: SQLite writes deletions and moved pages to the write-ahead file before they free anything.
    """
    disk = os.statvfs(folder)
    reserve = min(RESERVE_BYTES, disk.f_blocks * disk.f_frsize // _RESERVE_SHARE)
    # f_bavail leaves out the blocks that only root may take; f_bfree would count them.
    return disk.f_bavail * disk.f_frsize - reserve
