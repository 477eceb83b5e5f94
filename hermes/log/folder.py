"""The folder of a log: its files, its lock, how far records were acknowledged, and how much room is left beside it.

Invariants: one process at a time has the folder; nobody but its user can read it; the watermark, in the file of the
lock, is never ahead of what was durable, for it is written after that. The lock is a file of its own, held
with flock: SQLite's are POSIX locks on the database, which end when any descriptor of that file is closed. Blocking.
Used by the sqlite log and its offline tools.
"""

from __future__ import annotations

import fcntl
import os
import zlib
from pathlib import Path
from typing import NamedTuple

from hermes.errors import ConfigError
from hermes.folders import make_folder

RESERVE_BYTES = 16 * 2**20
_RESERVE_SHARE = 16  # of a small disk, one part in this many

BEGINNING_BYTES = 24
_UNKNOWN = "-"
_MARK_BYTES = 2 * (20 + 1) + 2 * (2 * BEGINNING_BYTES + 1)  # always as long, so that nothing of an older one is left

DATABASE = "log.db"
LOCK = "lock"
"""The name of the file that `lock_folder` locks."""

REPAIRED = "log.db.repaired"
"""The database that a repair has finished, until it has taken the place of the damaged one."""


def lock_folder(folder: Path) -> int:
    """Lock the folder for this process, and make it if it is missing. Closing the returned descriptor unlocks it.

    Raises `ConfigError`: another process has locked it, or it cannot be made.

    >>> lock = lock_folder(Path(folder, "mine"))
    >>> os.close(lock)  # another process may have it now
    """
    try:
        make_folder(folder)
        folder.chmod(0o700)
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be used: {error}") from error
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

    ``before`` is how the record before ``first`` begins, and ``last`` how the newest one does: `BEGINNING_BYTES` of
    each, none where they are not known. A user of the log that numbers what its records hold finds the numbers there.
    """

    first: int = 0
    next: int = 0
    before: bytes = b""
    last: bytes = b""


NOT_MARKED = Watermark()
"""What is known where there is no watermark."""


def write_watermark(lock: int, mark: Watermark) -> None:
    """Note the watermark. It is not synced: it outlives the process, and the machine within half a minute or so."""
    beginnings = (mark.before.hex() or _UNKNOWN).encode(), (mark.last.hex() or _UNKNOWN).encode()
    text = (b"%020d %020d %b %b" % (mark.first, mark.next, *beginnings)).ljust(_MARK_BYTES)
    os.pwrite(lock, b"%b %08x\n" % (text, zlib.crc32(text)), 0)


def read_watermark(lock: int) -> Watermark:
    """The watermark; an empty one where there is none that can be read. The first ones had no beginnings."""
    line, _, _ = os.pread(lock, 2 * _MARK_BYTES, 0).partition(b"\n")
    text, _, checksum = line.rpartition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        return NOT_MARKED
    first, following, *beginnings = text.split()
    known = (b"" if each == _UNKNOWN.encode() else bytes.fromhex(each.decode()) for each in beginnings)
    return Watermark(int(first), int(following), *known)


def room(folder: Path) -> int:
    """Bytes that may be written beside the folder, a reserve left alone.

    The reserve is what trimming a log needs: what deletes and what moves pages is itself written first.
    """
    disk = os.statvfs(folder)
    reserve = min(RESERVE_BYTES, disk.f_blocks * disk.f_frsize // _RESERVE_SHARE)
    return disk.f_bavail * disk.f_frsize - reserve
