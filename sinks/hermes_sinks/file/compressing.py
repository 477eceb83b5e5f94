"""The compressed copy of a file of lines, which grows beside it and takes its place when it is full.

It is one gzip member or zstd frame, so every reader takes it whole, and a writer of small batches compresses as well
as one of large ones. Invariant: it is worth nothing before `Copy.finish`; whatever goes wrong, a new one is made of the
plain file. Blocking. Used by the rotation.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Protocol

import zstandard

from hermes_sinks.common.disk import write_all

_GZIP = 16 + zlib.MAX_WBITS
_PIECE = 2**20  # bytes of the plain file in memory at once


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


def _compressor(codec: str) -> _Compressor:
    if codec == "gzip":
        return zlib.compressobj(wbits=_GZIP)
    return zstandard.ZstdCompressor(write_checksum=True).compressobj()


class Copy:
    """A compressed copy at ``path``; ``codec`` is ``gzip`` or ``zstd``. Every method raises OSError."""

    def __init__(self, path: Path, codec: str) -> None:
        self._path = path
        self._compressor = _compressor(codec)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)

    def feed(self, data: bytes) -> None:
        """Append what the plain file has got."""
        write_all(self._fd, self._compressor.compress(data))

    def finish(self, target: Path) -> None:
        """End the copy, make it durable and call it ``target``; the folder is the caller's to sync."""
        write_all(self._fd, self._compressor.flush())
        os.fsync(self._fd)
        self._path.rename(target)
        self.close()

    def close(self) -> None:
        """Let go of the file, finished or not."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


def copy_of(plain: Path, path: Path, codec: str) -> Copy:
    """A compressed copy of what is in ``plain``. Raises OSError."""
    copy = Copy(path, codec)
    try:
        with plain.open("rb") as file:
            while piece := file.read(_PIECE):
                copy.feed(piece)
    except OSError:
        copy.close()
        raise
    return copy
