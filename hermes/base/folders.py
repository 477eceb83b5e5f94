"""Makes folders, and makes their names durable. Blocking.

Invariant: after `make_folder` has returned, the folder is found again even after a loss of power.
"""

from __future__ import annotations

import os
from errno import ENOTDIR
from pathlib import Path


def make_folder(folder: Path, mode: int = 0o700) -> None:
    """Make the folder and its missing parents, with durable names. An existing folder is not changed.

    Raises OSError.

    >>> make_folder(Path(folder, "mine", "of-today"))
    >>> Path(folder, "mine", "of-today").is_dir()
    True
    """
    if not folder.is_dir():
        # The root is its own parent, and so is the working folder, `.`.
        if folder.parent != folder:
            make_folder(folder.parent, mode)
        try:
            # Another process may have made the folder since the look above.
            folder.mkdir(mode, exist_ok=True)
        except FileExistsError:
            # mkdir says "File exists" for a file in the place of the folder.
            raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR), str(folder)) from None
        # A name is an entry of the folder above: to sync a file, or its own folder, does not keep the names above. The
        # parent was synced by the call for it.
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Sync the folder: the names of files that were added, renamed or removed survive a crash of the machine."""
    # O_DIRECTORY: for a file in the place of the folder an error, because its sync would keep no name.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
