"""Checks whether the names of open files still stand for the open files.

A file that is deleted or renamed while open goes on taking writes and syncs, and nobody ever finds the written data.

Invariant: names are compared by device and inode. A name that did not exist at first is learnt once the file exists.
"""

from __future__ import annotations

import os
from pathlib import Path


class FileGone(OSError):
    """A file was deleted or renamed while open. The message names the file and says what to do."""


class Names:
    """The names of files that are open, or will be. Blocking.

    >>> path = Path(folder, "journal")
    >>> _ = path.write_bytes(b"record")
    >>> names = Names(path)
    >>> path.unlink()
    >>> names.gone() == path
    True
    """

    def __init__(self, *paths: Path) -> None:
        self._seen: dict[Path, tuple[int, int] | None] = dict.fromkeys(paths)
        # Learns the names now, from the files that are open.
        self.gone()

    def gone(self) -> Path | None:
        """Return the first name that no longer stands for its file, or None."""
        for path, seen in self._seen.items():
            found = _identify(path)
            # SQLite creates its sidecars at the first write; their names are learnt then.
            if seen is None:
                self._seen[path] = found
            elif found != seen:
                return path
        return None

    def check(self) -> None:
        """Raise `FileGone` if one of the names no longer stands for its file."""
        if (path := self.gone()) is not None:
            raise FileGone(f"{path} was deleted or renamed while in use: put it back, or restart Hermes to begin anew")


def is_in_place(descriptor: int, path: Path) -> bool:
    """Whether ``path`` still names the open file: False after the file was deleted or renamed.

    >>> path = Path(folder, "events")
    >>> with path.open("ab") as file:
    ...     before = is_in_place(file.fileno(), path)
    ...     path.unlink()
    ...     before, is_in_place(file.fileno(), path)
    (True, False)
    """
    found = os.fstat(descriptor)
    return _identify(path) == (found.st_dev, found.st_ino)


def _identify(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    # Also for a folder that may not be searched: nobody could find the file there.
    except OSError:
        return None
    # No other file gets the inode while this one is open; another file may have the same time and size.
    return found.st_dev, found.st_ino
