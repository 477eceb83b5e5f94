"""The trace of a run: what happened, in order and to the moment, and a hash that tells whether two runs were the same.

Invariant: a line holds nothing that changes from run to run (no object ids, no bytes that Hermes makes at random).
Written by every part of the simulated world; read by the report of a failing seed and by the test of determinism.
"""

from __future__ import annotations

from collections import deque
from hashlib import blake2b

import trio


class Trace:
    """Counts and hashes all lines, and keeps the last ``keep`` of them."""

    def __init__(self, keep: int) -> None:
        self._hash = blake2b(digest_size=16)
        self.last: deque[str] = deque(maxlen=keep)
        self.lines = 0

    def note(self, what: str, *facts: object) -> None:
        """Something happened now, in virtual seconds since the run began."""
        line = " ".join((f"{trio.current_time():.6f}", what, *map(str, facts)))
        self._hash.update(line.encode())
        self.last.append(line)
        self.lines += 1

    def comment(self, *facts: object) -> None:
        """Something that helps to read the trace, and may differ from run to run."""
        self.last.append(" ".join((f"{trio.current_time():.6f}     #", *map(str, facts))))

    @property
    def digest(self) -> str:
        """Equal for two runs in which the same happened."""
        return f"{self.lines}-{self._hash.hexdigest()}"
