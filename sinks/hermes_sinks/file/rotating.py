"""What becomes of a file that is full: it is sealed, compressed if that is wanted, named, and one day deleted.

    events.jsonl ── seal ──> .events-<time>-<n>.jsonl ── publish ──> events-<time>-<n>.jsonl[.gz|.zst] ── keep ──> gone

Invariants: a file with a final name is complete and on the disk; a crash between any two steps loses no line and leaves
no file twice, for what is sealed is published by the next start. Blocking; every method raises OSError, and may then be
called again. Called by the file being written.
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
    """The rotated files of ``folder``: ``keep`` of them (0: all), compressed with ``codec``."""

    def __init__(self, folder: Path, names: Names, codec: str, keep: int) -> None:
        self._folder = folder
        self._names = names
        self._codec = codec
        self._keep = keep
        self._copy: Copy | None = None

    def begin(self) -> None:
        """A new file is begun: from now on `grow` hears of all that is in it."""
        self.forget()
        if self._codec != "none":
            # A copy that cannot be written is made again when the file is full; that is the time to complain.
            with suppress(OSError):
                self._copy = Copy(self._folder / self._names.part, self._codec)

    def grow(self, block: bytes) -> None:
        """The file has got ``block``. Never raises: the lines are safe without their copy."""
        if self._copy is not None:
            try:
                self._copy.feed(block)
            except OSError:
                self.forget()

    def forget(self) -> None:
        """The file is not what `grow` has heard of."""
        if self._copy is not None:
            self._copy.close()
            self._copy = None

    def seal(self, now: float) -> None:
        """The file being written is full: its name is free for the next one."""
        stem = self._names.next_stem(now, self._files())
        (self._folder / self._names.current).rename(self._folder / f".{stem}")
        sync_folder(self._folder)

    def publish(self) -> None:
        """Give what is sealed its final name, and delete the oldest of what has one if there is too much of it."""
        files = self._files()
        sealed = self._names.sealed(files)
        # The copy is that of the last one, which was sealed just now; what a process before left has none.
        copy, self._copy = self._copy, None
        try:
            for stem in sealed:
                if any(stem + suffix in files for suffix in SUFFIXES.values()):
                    (self._folder / f".{stem}").unlink()  # a crash came between the last two steps of _publish_one
                else:
                    self._delete_oldest()
                    self._publish_one(stem, copy if stem == sealed[-1] else None)
        finally:
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
                made.close()
            sync_folder(self._folder)
            plain.unlink()
        _log.info("rotated", file=target.name, bytes=target.stat().st_size)

    def _delete_oldest(self) -> None:
        """Make room for one more."""
        rotated = self._names.rotated(self._files()) if self._keep else []
        for file in rotated[: max(0, len(rotated) - self._keep + 1)]:
            (self._folder / file).unlink(missing_ok=True)
            _log.info("deleted, for only so many rotated files are kept", file=file, keep=self._keep)

    def _files(self) -> set[str]:
        return {file.name for file in self._folder.iterdir()}
