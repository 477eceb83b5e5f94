"""Names the files of the file sink, and recognizes them among the files of a folder. Pure.

    events.jsonl                               being written
    .events-20261121T101500Z-0001.jsonl        full, before its final name: hidden, so that nobody ships it
    .events.part                               the compressed copy, growing
    events-20261121T101500Z-0001.jsonl.zst     rotated: complete; Hermes does nothing more than delete it
    .events.lock                               its lock is the right to write; its mtime is the begin of events.jsonl

Invariants: no name depends on the content of events; names sort in the order in which the files were filled.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable

SUFFIXES = {"none": "", "gzip": ".gz", "zstd": ".zst"}
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}", re.ASCII)


def is_name(text: str) -> bool:
    """Return whether file names may begin with ``text``.

    >>> is_name("events"), is_name(".hidden")
    (True, False)
    """
    return _NAME.fullmatch(text) is not None


class Names:
    """The names of the files of the sink called ``name``.

    ::

        names = Names("events")
        names.current  # "events.jsonl"
        names.next_stem(0.0, [])  # "events-19700101T000000Z-0001.jsonl"
    """

    def __init__(self, name: str) -> None:
        self.current = f"{name}.jsonl"
        self.part = f".{name}.part"
        self.lock = f".{name}.lock"
        self._name = name
        stem = rf"{re.escape(name)}-(\d{{8}}T\d{{6}}Z)-(\d{{4,}})\.jsonl"
        # ASCII, or the digits of other scripts would count as digits.
        self._sealed = re.compile(rf"\.({stem})", re.ASCII)
        self._rotated = re.compile(rf"({stem})(?:\.gz|\.zst)?", re.ASCII)
        self._last = ("", 0)

    def next_stem(self, now: float, files: Iterable[str]) -> str:
        """Return an unused name for the file that is full at ``now``, in Unix seconds."""
        # The last name counts as used also if its file is gone: it may have been shipped to a place that has the name.
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        taken = [self._last[1]] if self._last[0] == moment else []
        for file in files:
            # A sealed file is hidden by a dot, and has taken its name too.
            found = self._rotated.fullmatch(file.removeprefix("."))
            if found is not None and found[2] == moment:
                taken.append(int(found[3]))
        self._last = moment, max(taken, default=0) + 1
        return f"{self._name}-{moment}-{self._last[1]:04d}.jsonl"

    def sealed(self, files: Iterable[str]) -> list[str]:
        """Return the stems of the full files without a final name, oldest first."""
        return sorted(found[1] for file in files if (found := self._sealed.fullmatch(file)))

    def rotated(self, files: Iterable[str]) -> list[str]:
        """Return the rotated files, oldest first."""
        return sorted(file for file in files if self._rotated.fullmatch(file))
