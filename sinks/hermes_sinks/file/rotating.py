"""Rotates a full file: seals it, compresses it on request, gives it its final name, and deletes the oldest files.

    events.jsonl ── seal ──> .events-<time>-<n>.jsonl ── publish ──> events-<time>-<n>.jsonl[.gz|.zst] ── keep ──> gone

Invariants: a file with a final name is complete and on the disk; a crash between any two steps loses no line and leaves
no file twice, because the next start publishes the sealed files. Blocking; after an OSError each method may be called
again.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import structlog

from hermes.kit import sync_folder
from hermes_sinks.file.compressing import Copy, copy_of
from hermes_sinks.file.names import SUFFIXES, Names

_log = structlog.get_logger("hermes.sinks.file")


class Rotation:
    """The rotated files of ``folder``: ``keep`` of them (0: all), compressed with ``codec``.

    ::

        rotation = Rotation(folder, Names("events"), codec="gzip", keep=24)
        rotation.begin()
        rotation.grow(block)  # for each block of the current file
        rotation.seal(time.time())  # the current file is full
        rotation.publish()
    """

    def __init__(self, folder: Path, names: Names, codec: str, keep: int) -> None:
        self._folder = folder
        self._names = names
        self._codec = codec
        self._keep = keep
        self._copy: Copy | None = None

    def begin(self) -> None:
        """Begin the copy of a new file. The caller passes every block of that file to `grow`."""
        self.forget()
        if self._codec != "none":
            # A copy that cannot be written is made again when the file is full, and that attempt reports the error.
            with suppress(OSError):
                self._copy = Copy(self._folder / self._names.part, self._codec)

    def grow(self, block: bytes) -> None:
        """Add a block of the file to its copy. Never raises: the lines are safe without the copy."""
        if self._copy is not None:
            try:
                self._copy.feed(block)
            except OSError:
                self.forget()

    def forget(self) -> None:
        """Discard the copy, because the file differs from the blocks that `grow` got."""
        if self._copy is not None:
            self._copy.close()
            self._copy = None

    def seal(self, now: float) -> None:
        """Rename the full file, so that its name is free for the next file."""
        stem = self._names.next_stem(now, self._files())
        (self._folder / self._names.current).rename(self._folder / f".{stem}")
        sync_folder(self._folder)

    def publish(self) -> None:
        """Give each sealed file its final name, and delete the oldest rotated files beyond ``keep``."""
        files = self._files()
        sealed = self._names.sealed(files)
        # The copy belongs to the last file, which was sealed just now; files of an earlier process have no copy.
        copy, self._copy = self._copy, None
        try:
            for stem in sealed:
                # With any suffix: SINK_FILE_COMPRESS may have changed since the crash.
                if any(stem + suffix in files for suffix in SUFFIXES.values()):
                    # A crash came between the last two steps of `_publish_one`.
                    (self._folder / f".{stem}").unlink()
                else:
                    self._delete_oldest()
                    self._publish_one(stem, copy if stem == sealed[-1] else None)
        finally:
            # Also after an error: the next attempt makes a new copy of the plain file.
            if copy is not None:
                copy.close()
        if sealed:
            sync_folder(self._folder)

    def _publish_one(self, stem: str, copy: Copy | None) -> None:
        plain, target = self._folder / f".{stem}", self._folder / (stem + SUFFIXES[self._codec])
        if self._codec == "none":
            plain.rename(target)
        else:
            made = copy or copy_of(plain, self._folder / self._names.part, self._codec)
            try:
                made.finish(target)
            finally:
                # What could not be finished stays under the draft's name, and the next copy overwrites it.
                made.close()
            # The copy's name has to be durable before the plain file goes, or a crash could lose both.
            sync_folder(self._folder)
            plain.unlink()
        _log.info("rotated", file=target.name, bytes=target.stat().st_size)

    def _delete_oldest(self) -> None:
        """Delete the oldest rotated files, so that one more is within ``keep``."""
        rotated = self._names.rotated(self._files()) if self._keep else []
        for file in rotated[: max(0, len(rotated) - self._keep + 1)]:
            # Another program may have shipped and deleted the file.
            (self._folder / file).unlink(missing_ok=True)
            _log.info("deleted, for only so many rotated files are kept", file=file, keep=self._keep)

    def _files(self) -> set[str]:
        return {file.name for file in self._folder.iterdir()}
