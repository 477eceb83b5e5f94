"""Stores Parquet files in a folder, or in a bucket behind the S3 protocol. Blocking; raises OSError.

Invariant: a file with its final name is whole and durable; a second file of the same name replaces the first. Several
threads may call a store at once.
"""

from __future__ import annotations

import errno
import os
import threading
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from pyarrow import fs

from hermes import ConfigError
from hermes.kit import LOCK, is_in_place, lock_folder, make_folder, sync_folder
from hermes_sinks.common.disk import write_all
from hermes_sinks.parquet.settings import Bucket, ParquetSettings

# Seconds.
CONNECT_TIMEOUT = 5.0
# Of a request, before the engine's own retries.
ATTEMPTS = 2


class Store(Protocol):
    """A place for files.

    ::

        store: Store = FolderStore(Path("parquet"))
        store.put("date=2026-11-21/type=song_played", "part-1.parquet", content)
        store.close()
    """

    def put(self, folder: str, name: str, content: memoryview) -> None:
        """Store a file in a folder; make a missing folder."""

    def close(self) -> None:
        """Release the place."""


class FolderStore:
    """A folder, made for this user alone if missing. Raises `hermes.ConfigError` if another process has the folder."""

    # Files are written in ``.writing`` and moved from there, because readers ignore names that begin with a dot.

    def __init__(self, root: Path) -> None:
        self._root = root
        self._writing = root / ".writing"
        self._numbers = count()
        # Several threads may find at once that the lock file is gone.
        self._retaking = threading.Lock()
        make_folder(root)
        self._lock = lock_folder(self._writing)
        # Drafts that a crash has left.
        for file in self._writing.iterdir():
            if file.name.endswith(".part"):
                file.unlink()

    def put(self, folder: str, name: str, content: memoryview) -> None:
        """Write a durable file, and move the file to its folder; make a missing folder."""
        self._keep_folder()
        place = self._root / folder
        # A number for each draft: the thread of a cancelled write may still write the same file.
        draft = self._writing / f"{name}.{next(self._numbers)}.part"
        try:
            fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)
            try:
                write_all(fd, content)
                # Before the rename: a file with its name has to be whole, also after a crash.
                os.fsync(fd)
            finally:
                os.close(fd)
            make_folder(place, 0o750)
            draft.rename(place / name)
        except OSError:
            # The next start deletes it.
            with suppress(OSError):
                draft.unlink()
            raise
        # The rename is durable only with its folder.
        sync_folder(place)

    def close(self) -> None:
        """Unlock the folder for other processes."""
        os.close(self._lock)

    def _keep_folder(self) -> None:
        """Lock the folder again if the lock file was deleted, or another process could lock it too. Raises OSError."""
        with self._retaking:
            if is_in_place(self._lock, self._writing / LOCK):
                return
            # Perhaps its disk is not mounted: making the folder would fill another disk.
            if not self._root.is_dir():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._root))
            try:
                lock = lock_folder(self._writing)
            except ConfigError as error:
                raise OSError(str(error)) from error
            os.close(self._lock)
            self._lock = lock


class BucketStore:
    """A bucket, or a prefix in a bucket. The first `put` connects to the server."""

    def __init__(self, bucket: Bucket, settings: ParquetSettings) -> None:
        endpoint = urlsplit(settings.endpoint)
        self._root = f"{bucket.name}/{bucket.prefix}"
        self._files = fs.S3FileSystem(
            access_key=settings.access_key or None,
            secret_key=settings.secret_key or None,
            # Servers other than Amazon's mostly ignore the region. Without a region, the library asks Amazon's metadata
            # service, which does not exist elsewhere.
            region=settings.region or ("us-east-1" if settings.endpoint else None),
            endpoint_override=endpoint.netloc or None,
            scheme=endpoint.scheme or "https",
            connect_timeout=CONNECT_TIMEOUT,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
            # A small file is one request.
            allow_delayed_open=True,
        )

    def put(self, folder: str, name: str, content: memoryview) -> None:
        """Upload the file."""
        # The server shows the object only when the upload is complete.
        with self._files.open_output_stream(f"{self._root}{folder}/{name}") as stream:
            stream.write(content)

    def close(self) -> None:
        """Do nothing: the connections end with this object."""
