"""How often the lease of a message ended without an acknowledgement, for the messages of which one did.

Invariant: what a commit or the retention passed over is forgotten, though not at once. Pure.
"""

from __future__ import annotations

_SLACK = 64
"""So many messages may be out of date, beside as many as are not, before a walk over all is worth it."""


class Attempts:
    """The failed attempts of a group's messages, by offset.

    >>> attempts = Attempts()
    >>> attempts.note(5), attempts.note(5), attempts.of(5), attempts.of(6)
    (1, 2, 2, 0)
    >>> attempts.forget(5)
    >>> attempts.of(5)
    0
    """

    __slots__ = ("_counts", "_first", "_limit")

    def __init__(self, counts: dict[int, int] | None = None) -> None:
        self._counts = counts or {}
        self._first = 0
        self._limit = len(self._counts) + _SLACK

    def note(self, offset: int) -> int:
        """One more attempt failed; return how many did."""
        count = self._counts[offset] = self._counts.get(offset, 0) + 1
        return count

    def of(self, offset: int) -> int:
        """How many attempts failed."""
        return self._counts.get(offset, 0)

    def forget(self, offset: int) -> None:
        """The message is done."""
        self._counts.pop(offset, None)

    def drop_before(self, offset: int) -> None:
        """All messages below ``offset`` are done."""
        self._first = max(self._first, offset)
        if len(self._counts) > self._limit:
            self._sweep()
            # Doubled, so that the walks cost a constant for each message on the average.
            self._limit = 2 * len(self._counts) + _SLACK

    def _sweep(self) -> None:
        self._counts = {each: count for each, count in self._counts.items() if each >= self._first}

    def __bool__(self) -> bool:
        """Whether an attempt failed of any message that is not done."""
        return bool(self._counts)

    # --- snapshots ---

    def copy(self) -> Attempts:
        """The same counts, of their own."""
        attempts = Attempts(self._counts.copy())
        attempts._first, attempts._limit = self._first, self._limit
        return attempts

    def items(self) -> list[tuple[int, int]]:
        """Offset and count of each message that is not done."""
        self._sweep()
        return list(self._counts.items())
