"""The messages of a group that stand behind an older one of their key, which is not done yet.

A topic knows of each message which one of its key came before it, so a message waits for that one alone. Invariants: to
add a message and to release one cost the same, whatever stands behind; one poll sets aside at most `MOST_A_POLL`
messages and a group at most `MOST`, so that a key with a long row holds up no other work. Pure.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from hermes.broker.machine.done import Done
from hermes.broker.machine.messages import Messages

# Some 200 bytes each: 20 MB a group at most.
MOST = 100_000
"""Messages of a group that may stand behind others. Beyond, a priority stops at the first one that would be added."""

# About a millisecond: no other connection waits longer for one poll.
MOST_A_POLL = 1024


class Behind:
    """Which message stands behind which.

    >>> messages, done = Messages(), Done(0)
    >>> for key in (7, 7, 8):
    ...     _ = messages.append((0, 0, 0, 1, 0, 0), key)
    >>> behind = Behind()
    >>> behind.begin()
    >>> behind.before(messages, done, 1), behind.before(messages, done, 2)
    (0, -1)
    >>> behind.add(1, before=0), behind.release(0), len(behind)
    (True, 1, 0)
    """

    __slots__ = ("_befores", "_left", "_next")

    def __init__(self) -> None:
        # By the message in front, the one behind it. A message is in front of one other at most.
        self._next: dict[int, int] = {}
        # The messages in front, as a heap. A message that was released stays until it is the lowest.
        self._befores: list[int] = []
        self._left = 0

    def begin(self) -> None:
        """A poll begins."""
        self._left = MOST_A_POLL

    @staticmethod
    def before(messages: Messages, done: Done, offset: int) -> int:
        """The message of the same key that has to be done first; -1 if there is none."""
        before = messages.before(offset)
        # Done suffices: the one before was taken only after all older ones of the key.
        return -1 if before < 0 or before in done else before

    @property
    def is_full(self) -> bool:
        """Whether no message may be added, in no poll."""
        return len(self._next) >= MOST

    def add(self, offset: int, before: int) -> bool:
        """Let a message stand behind another one. False if that would be too many."""
        if self.is_full or not self._left:
            return False
        self._left -= 1
        self._next[before] = offset
        heappush(self._befores, before)
        return True

    def release(self, before: int) -> int | None:
        """The message ``before`` is done: return the one behind it, or None."""
        return self._next.pop(before, None)

    def release_below(self, watermark: int) -> list[int]:
        """All messages below ``watermark`` are done: return those of the others that stood behind one of them."""
        released: list[int] = []
        while self._befores and self._befores[0] < watermark:
            offset = self._next.pop(heappop(self._befores), None)
            if offset is not None and offset >= watermark:
                released.append(offset)
        return released

    def __len__(self) -> int:
        """How many messages stand behind others."""
        return len(self._next)

    # --- snapshots ---

    def copy(self) -> Behind:
        """The same messages, of their own."""
        behind = Behind()
        behind._next, behind._befores = self._next.copy(), self._befores.copy()
        return behind

    def offsets(self) -> list[int]:
        """The messages that stand behind others, ascending."""
        return sorted(self._next.values())

    @classmethod
    def restore(cls, messages: Messages, offsets: list[int]) -> Behind:
        """What `offsets` gave. Raises ValueError for a message that has no other one before it."""
        behind = cls()
        for offset in offsets:
            before = messages.before(offset)
            if before < 0:
                raise ValueError("a message stands behind one that is not there")
            behind._next[before] = offset
        behind._befores = list(behind._next)
        heapify(behind._befores)
        return behind
