"""The window of deduplication of a topic: the last keys of producers, each with its offset.

Invariants: at most `WINDOW` keys, first in, first out; a hit refreshes nothing. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

# As many as HermesMQ keeps: a producer may send again from as far back as there.
WINDOW = 100_000

Key = tuple[str, int]
"""Producer id and sequence number. Any numbers, in any order: the window is a set."""


class DedupWindow:
    """Which keys a topic has seen.

    >>> window = DedupWindow()
    >>> window.add(("p", 1), 0), window.find(("p", 1)), window.find(("p", 2))
    (None, 0, None)
    >>> window.forget_before(1)
    >>> window.find(("p", 1)) is None
    True
    """

    __slots__ = ("_offsets", "_order")

    def __init__(self) -> None:
        self._offsets: dict[Key, int] = {}
        # Beside the dict: to take the first key of a dict over and over walks over all that were taken before.
        self._order: deque[Key] = deque()

    def find(self, key: Key) -> int | None:
        """The offset of the key's message, or None."""
        # The key stays at its place: a hit that moved it to the end would push keys out in another order than HermesMQ
        # does.
        return self._offsets.get(key)

    def add(self, key: Key, offset: int) -> None:
        """Note a new key. Offsets ascend from call to call."""
        if len(self._order) == WINDOW:
            del self._offsets[self._order.popleft()]
        self._offsets[key] = offset
        self._order.append(key)

    def forget_before(self, offset: int) -> None:
        """Forget the keys of all offsets below ``offset``."""
        # A message that the retention removed may be sent again, and is then stored anew, as in HermesMQ.
        # The offsets ascend with the order of the keys, so all keys behind the first that stays stay too.
        while self._order and self._offsets[self._order[0]] < offset:
            del self._offsets[self._order.popleft()]

    def copy(self) -> DedupWindow:
        """The keys as they are now, in a window of their own."""
        window = DedupWindow()
        window._offsets, window._order = self._offsets.copy(), self._order.copy()
        return window

    def items(self) -> Iterator[tuple[str, int, int]]:
        """Producer id, sequence number and offset of every key, oldest first."""
        # One at a time: a snapshot takes them in pieces, and needs no list of all keys beside the window.
        return ((*key, self._offsets[key]) for key in self._order)
