"""The messages that a group may be given: the returned ones, and the fresh ones behind a cursor.

Fresh messages, which were never delivered, are the rest of each priority's offsets, so a step costs what it takes,
whatever the topic retains. Invariants: within a priority the returned messages are older than the fresh ones; behind
the cursor no message is done, since a message becomes done one by one only after it was taken. Pure.
"""

from __future__ import annotations

from heapq import heappop, heappush

from hermes.broker.machine.messages import PRIORITIES, Messages

_MANY = 32
"""So many returned messages are sorted in, unless many more are there, and not pushed one by one."""


class Waiting:
    """The waiting messages of a group, by priority. None waits below the group's ``watermark``, which never falls.

    >>> messages = Messages()
    >>> for priority in (0, 5, 0):
    ...     _ = messages.append((0, 0, 0, 1, priority, 0))
    >>> waiting = Waiting()
    >>> waiting.take(messages, 0, 9, watermark=0), waiting.head(messages, 5, watermark=0)
    ([0, 2], 1)
    >>> waiting.give_back(messages, [0, 2])
    >>> waiting.head(messages, 0, watermark=1), waiting.head(messages, 7, watermark=1)
    (2, None)
    """

    __slots__ = ("_cursors", "_returned")

    def __init__(self) -> None:
        # For each priority: the position in its offsets of the first fresh message, and the heap of returned offsets.
        self._cursors = [0] * PRIORITIES
        self._returned: list[list[int]] = [[] for _ in range(PRIORITIES)]

    def head(self, messages: Messages, priority: int, watermark: int) -> int | None:
        """The oldest message of a priority that waits, or None."""
        returned = self._returned[priority]
        # A commit or the retention has passed over these.
        while returned and returned[0] < watermark:
            heappop(returned)
        if returned:
            return returned[0]
        offsets = messages.offsets[priority]
        if offsets is None:
            return None
        cursor = self._cursors[priority]
        # By one search and not step by step: the watermark may have moved by a million messages.
        if cursor < offsets.end and (cursor < offsets.base or offsets.at(cursor) < watermark):
            cursor = self._cursors[priority] = offsets.position(watermark)
        return offsets.at(cursor) if cursor < offsets.end else None

    def pop(self, priority: int) -> None:
        """Take the `head` of a priority that has one."""
        if self._returned[priority]:
            heappop(self._returned[priority])
        else:
            self._cursors[priority] += 1

    def take(self, messages: Messages, priority: int, most: int, watermark: int) -> list[int]:
        """Take up to ``most`` messages of a priority, ascending."""
        # For its effect: returned messages below the watermark leave the heap, of which the next line takes.
        self.head(messages, priority, watermark)
        returned = self._returned[priority]
        taken = [heappop(returned) for _ in range(min(most, len(returned)))]
        offsets = messages.offsets[priority]
        if len(taken) < most and offsets is not None and self.head(messages, priority, watermark) is not None:
            # `head` found no returned message, so it has moved the cursor to the first fresh one that waits.
            start = self._cursors[priority] - offsets.base
            fresh = offsets.values[start : start + most - len(taken)]
            self._cursors[priority] += len(fresh)
            taken += fresh
        return taken

    def give_back(self, messages: Messages, offsets: list[int]) -> None:
        """Let messages wait again, each at its place."""
        if not offsets:
            return
        for priority, found in messages.by_priority(offsets).items():
            returned = self._returned[priority]
            if len(found) < max(_MANY, len(returned) // 8):
                for offset in found:
                    heappush(returned, offset)
            else:
                # Of two ascending rows this makes one in a walk; and what is sorted is a heap.
                returned += found
                returned.sort()

    # --- snapshots ---

    def copy(self) -> Waiting:
        """An independent copy of the waiting messages."""
        waiting = Waiting()
        waiting._cursors = self._cursors.copy()
        waiting._returned = [heap.copy() for heap in self._returned]
        return waiting

    def returned(self, watermark: int) -> list[int]:
        """The offsets of the messages that were returned, ascending."""
        return sorted(offset for heap in self._returned for offset in heap if offset >= watermark)

    def fresh(self, messages: Messages, watermark: int) -> list[int]:
        """For each priority the offset of the first fresh message, or the topic's next offset."""
        firsts = []
        for offsets, cursor in zip(messages.offsets, self._cursors, strict=True):
            position = 0 if offsets is None else max(cursor, offsets.position(watermark))
            firsts.append(messages.next if offsets is None or position == offsets.end else offsets.at(position))
        return firsts

    def count_fresh(self, messages: Messages) -> int:
        """How many fresh messages there are, if no watermark has passed over any."""
        pairs = zip(messages.offsets, self._cursors, strict=True)
        return sum(offsets.end - cursor for offsets, cursor in pairs if offsets is not None)

    def has_any_fresh(self, messages: Messages, offsets: list[int]) -> bool:
        """Whether any of these messages is fresh."""
        fresh = self.fresh(messages, 0)
        by_priority = messages.by_priority(offsets) if offsets else {}
        return any(max(found, default=-1) >= fresh[priority] for priority, found in by_priority.items())

    @classmethod
    def restore(cls, messages: Messages, returned: list[int], fresh: list[int]) -> Waiting:
        """The messages that waited, out of `returned` and `fresh`."""
        waiting = cls()
        waiting.give_back(messages, returned)
        waiting._cursors = [
            0 if offsets is None else offsets.position(first)
            for offsets, first in zip(messages.offsets, fresh, strict=True)
        ]
        return waiting
