"""Makes the compressed copy of a file of lines; the copy grows with the file and replaces the file when it is full.

Invariant: the copy is incomplete before `Copy.finish`; after any error a new copy is made of the plain
file. Blocking.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Protocol

import zstandard

from hermes_sinks.common.disk import write_all

# zlib's way to ask for a gzip header.
_GZIP = 16 + zlib.MAX_WBITS
# Bytes of the plain file in memory at once.
_PIECE = 2**20


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


def _compressor(codec: str) -> _Compressor:
    if codec == "gzip":
        return zlib.compressobj(wbits=_GZIP)
    # A checksum, which gzip always has, and zstd only if told.
    return zstandard.ZstdCompressor(write_checksum=True).compressobj()


class Copy:
    """A compressed copy at ``path``; ``codec`` is ``gzip`` or ``zstd``. Every method raises OSError.

    ::

        copy = Copy(folder / ".events.part", "zstd")
        copy.feed(block)
        copy.finish(folder / "events-20261121T101500Z-0001.jsonl.zst")
    """

    def __init__(self, path: Path, codec: str) -> None:
        self._path = path
        # One compressor for the whole file: the copy is one gzip member or one zstd frame, so that every reader reads
        # all of it, and small batches compress as well as large ones.
        self._compressor = _compressor(codec)
        # O_TRUNC: an earlier process may have left an incomplete copy.
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)

    def feed(self, data: bytes) -> None:
        """Compress bytes that the plain file has got."""
        write_all(self._fd, self._compressor.compress(data))

    def finish(self, target: Path) -> None:
        """End the copy, make it durable and rename it to ``target``. The caller syncs the folder."""
        write_all(self._fd, self._compressor.flush())
        # Before the rename: a file with its final name has to be complete, also after a crash.
        os.fsync(self._fd)
        self._path.rename(target)
        self.close()

    def close(self) -> None:
        """Close the file, finished or not."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


def copy_of(plain: Path, path: Path, codec: str) -> Copy:
    """Return a compressed copy of the content of ``plain``. Raises OSError.

    ::

        copy = copy_of(folder / ".events-20261121T101500Z-0001.jsonl", folder / ".events.part", "gzip")
        copy.finish(folder / "events-20261121T101500Z-0001.jsonl.gz")
    """
    copy = Copy(path, codec)
    try:
        with plain.open("rb") as file:
            while piece := file.read(_PIECE):
                copy.feed(piece)
    except OSError:
        copy.close()
        raise
    return copy
