"""`Throttle` decides which lines about lasting trouble are written, and counts the lines that are not. Pure.

The first line of a kind is always written; later one line every `PAUSE` seconds, with the number of lines held back
since. The caller passes the time.

Invariants: each line is either written or counted; at most ``most`` kinds are told apart at a time, so memory and the
number of lines are bounded whatever clients send.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

PAUSE = 5.0
"""Seconds between two lines of one kind."""

# The kind of every line that comes while ``most`` kinds are known.
_OTHERS = object()

Line = TypeVar("Line")


@dataclass(slots=True)
class _Kind(Generic[Line]):
    due: float
    held_back: int = 0
    last: Line | None = None


class Throttle(Generic[Line]):
    """Decides which of many lines to write. ``Line`` is the caller's data about a held-back line.

    >>> throttle = Throttle[str]()
    >>> [throttle.admit("refused", f"line {n}", now) for n, now in enumerate((0.0, 1.0, 2.0, 5.0))]
    [0, None, None, 2]
    """

    __slots__ = ("_kinds", "_most")

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._kinds: dict[Hashable, _Kind[Line]] = {}

    def __len__(self) -> int:
        """The number of kinds that have had a line lately."""
        return len(self._kinds)

    def has_room(self, kind: Hashable) -> bool:
        """Whether lines of this kind are told apart from the others'."""
        return self._most is None or kind in self._kinds or len(self._kinds) < self._most

    def admit(self, kind: Hashable, line: Line, now: float, count: int = 1) -> int | None:
        """Return the number of held-back lines of this kind if the line is to be written now; None to hold it back.

        ``count`` is the number that a held-back line adds.
        """
        if not self.has_room(kind):
            kind = _OTHERS
        known = self._kinds.get(kind)
        if known is None:
            self._kinds[kind] = _Kind(now + PAUSE)
            return 0
        if now < known.due:
            known.held_back += count
            # The latest line is kept: its facts describe the present trouble.
            known.last = line
            return None
        # The pause begins anew with each written line: one line every `PAUSE` seconds, for as long as the trouble
        # lasts.
        held_back, known.held_back, known.due = known.held_back, 0, now + PAUSE
        return held_back

    def take_rest(self, now: float, *, at_the_end: bool = False) -> Iterator[tuple[Line, int]]:
        """Yield the last line of each kind whose pause has ended, and the number of lines held back.

        ``at_the_end`` includes the kinds whose pause has not ended. A kind without held-back lines is forgotten.
        """
        # A copy, because kinds are deleted on the way.
        for kind, known in [*self._kinds.items()]:
            if not at_the_end and now < known.due:
                continue
            if known.last is None or not known.held_back:
                # A quiet kind makes room for another one, and its next line is written at once.
                del self._kinds[kind]
                continue
            line, held_back = known.last, known.held_back
            known.held_back, known.last, known.due = 0, None, now + PAUSE
            yield line, held_back
