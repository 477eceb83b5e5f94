"""The folder of a log: its files, its lock, and how much room is left beside it.

Invariants: one process at a time has the folder; nobody but its user can read it. The lock is a file of its own, held
with flock: SQLite's are POSIX locks on the database, which end when any descriptor of that file is closed. Blocking.
Used by the sqlite log and its offline tools.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from hermes.errors import ConfigError

RESERVE_BYTES = 16 * 2**20
_RESERVE_SHARE = 16  # of a small disk, one part in this many

DATABASE = "log.db"
LOCK = "lock"
REPAIRED = "log.db.repaired"
"""The database that a repair has finished, until it has taken the place of the damaged one."""


def lock_folder(folder: Path) -> int:
    """Have the folder, made if it is missing, for this process alone until the descriptor that is returned is closed.

    Raises `ConfigError`.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
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


def sync_folder(folder: Path) -> None:
    """Make the names in the folder durable: those that were added, changed or taken away."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def room(folder: Path) -> int:
    """Bytes that may be written beside the folder, a reserve left alone.

    The reserve is what trimming a log needs: what deletes and what moves pages is itself written first.
    """
    disk = os.statvfs(folder)
    reserve = min(RESERVE_BYTES, disk.f_blocks * disk.f_frsize // _RESERVE_SHARE)
    return disk.f_bavail * disk.f_frsize - reserve
