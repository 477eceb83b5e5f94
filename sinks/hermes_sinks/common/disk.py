"""What the sinks that keep files of their own do to a disk, beside what the standard library has. Blocking.

Called by the file sink and by the parquet sink, on threads.
"""

from __future__ import annotations

import os
from pathlib import Path

from hermes.kit import sync_folder

__all__ = ["make_folder", "sync_folder", "write_all"]


def make_folder(folder: Path, mode: int = 0o700) -> None:
    """Make the folder, and what is missing above it, durably. One that is there stays as it is. Raises OSError."""
    if not folder.is_dir():
        if folder.parent != folder:
            make_folder(folder.parent, mode)
        folder.mkdir(mode, exist_ok=True)
        sync_folder(folder.parent)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of ``data``, however often it takes. Raises OSError, and then any part of it may be written."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
