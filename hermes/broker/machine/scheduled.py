"""The messages of a topic that are stored already and enter it later, each at its own time.

A message gets its offset when it enters, so a delay changes nothing for groups: they never see what is not due. Until
then the message has an id. Invariants: messages enter in the order of their times, and of one time in the order in
which they were stored; at most `MOST` wait. Pure.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import NamedTuple

from hermes.broker.machine.dedup import Key
from hermes.broker.machine.messages import Fields

# Some 300 bytes each: 30 MB a topic at most.
MOST = 100_000
"""Messages of a topic that may wait for their time."""


class Later(NamedTuple):
    """A message that waits: its time in Unix milliseconds, its fields, its key of deduplication and its order's."""

    due_ms: int
    message: Fields
    key: Key
    order: int


class Scheduled:
    """The messages of one topic that wait for their time.

    >>> scheduled = Scheduled()
    >>> for id, due_ms in ((0, 20), (1, 10), (2, 30)):
    ...     scheduled.add(id, Later(due_ms, (5, 0, id, 2, 0, 0), ("", 0), 0))
    >>> scheduled.cancel(2), scheduled.cancel(2)
    (True, False)
    >>> scheduled.take_due(25).due_ms, scheduled.take_due(25).due_ms, scheduled.take_due(25)
    (10, 20, None)
    """

    __slots__ = ("_heap", "_ids", "_waiting")

    def __init__(self) -> None:
        # By id. Ids ascend, and so do the records of the messages.
        self._waiting: dict[int, Later] = {}
        # Time and id. What was cancelled stays until its time.
        self._heap: list[tuple[int, int]] = []
        self._ids: dict[Key, int] = {}

    def find(self, key: Key) -> int | None:
        """The id of the message with this key of deduplication, or None."""
        return self._ids.get(key)

    @property
    def is_full(self) -> bool:
        """Whether no further message may wait."""
        # The heap and not the dict: what was cancelled takes memory until its time.
        return len(self._heap) >= MOST

    def add(self, id: int, later: Later) -> None:  # noqa: A002 - the word of the protocol
        """Let a message wait. Ids ascend from call to call."""
        self._waiting[id] = later
        heappush(self._heap, (later.due_ms, id))
        if later.key[0]:
            # So that a message that was sent again is known before it has an offset.
            self._ids[later.key] = id

    def cancel(self, id: int) -> bool:  # noqa: A002 - the word of the protocol
        """Forget a message; return whether it was still waiting."""
        return self._take(id) is not None

    def _take(self, number: int) -> Later | None:
        later = self._waiting.pop(number, None)
        if later is not None:
            self._ids.pop(later.key, None)
        return later

    def take_due(self, now_ms: int) -> Later | None:
        """Take out the first message if its time has come."""
        while self._heap and self._heap[0][0] <= now_ms:
            later = self._take(heappop(self._heap)[1])
            if later is not None:
                return later
        return None

    def next_due(self) -> int | None:
        """The time of the next message, in Unix milliseconds; None if none waits."""
        while self._heap and self._heap[0][1] not in self._waiting:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    @property
    def lowest_record(self) -> int | None:
        """The lowest index in the log that has the payload of a message; None if none waits."""
        # Ids ascend with the records, so the first one has the lowest.
        for later in self._waiting.values():
            return later.message[1]
        return None

    def __len__(self) -> int:
        """How many messages wait."""
        return len(self._waiting)

    # --- snapshots ---

    def copy(self) -> Scheduled:
        """The same messages, of their own."""
        scheduled = Scheduled()
        scheduled._waiting, scheduled._heap, scheduled._ids = self._waiting.copy(), self._heap.copy(), self._ids.copy()
        return scheduled

    def items(self) -> list[tuple[int, Later]]:
        """Each message that waits, with its id, by id."""
        return list(self._waiting.items())

    @classmethod
    def restore(cls, items: list[tuple[int, Later]]) -> Scheduled:
        """What `items` gave."""
        scheduled = cls()
        scheduled._waiting = dict(items)
        scheduled._heap = [(later.due_ms, number) for number, later in items]
        heapify(scheduled._heap)
        scheduled._ids = {later.key: number for number, later in items if later.key[0]}
        return scheduled
