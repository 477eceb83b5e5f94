"""Folders that last: made, and their names made durable, for what is in a folder without a name is lost with it.

A sync of a file does not promise that its name is kept, nor the names above it: each is an entry of the folder that it
is in. Invariant: what `make_folder` returned from is found again after a loss of power. Blocking.
"""

from __future__ import annotations

import os
from errno import ENOTDIR
from pathlib import Path


def make_folder(folder: Path, mode: int = 0o700) -> None:
    """Make the folder and its missing parents; their names are durable. One that is there stays as it is.

    Raises OSError.

    >>> make_folder(Path(folder, "mine", "of-today"))
    >>> Path(folder, "mine", "of-today").is_dir()
    True
    """
    if not folder.is_dir():
        if folder.parent != folder:
            make_folder(folder.parent, mode)
        try:
            folder.mkdir(mode, exist_ok=True)
        except FileExistsError:
            raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR), str(folder)) from None
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Sync the folder: files that were added, renamed or removed in it stay so after a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
