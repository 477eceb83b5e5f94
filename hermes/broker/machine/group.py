"""A group of a topic: which messages are done, leased or waiting, and which a poll takes.

A message is, for one group, in one of the four states of `hermes.broker.machine.states`. Invariants: a poll costs as
much as the messages that are taken, whatever the topic retains; a message has at most one lease; before a group is
used, `pass_over` has told the group the first retained message. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heapreplace

from hermes.broker.machine.done import Done
from hermes.broker.machine.leases import Leases
from hermes.broker.machine.messages import Messages
from hermes.broker.machine.waiting import Waiting

OLDEST_SHARE = 4
"""A quarter of each poll goes to the oldest messages, whatever their priority, so that none waits for ever."""


class Group:
    """The state of one group. Offsets are of its topic, whose `Messages` each call gets.

    >>> from hermes.broker.machine.messages import Message
    >>> messages = Messages()
    >>> for priority in (0, 5, 3):
    ...     _ = messages.append(Message(0, 0, 0, 1, priority, 0))
    >>> group = Group(messages.first, now_ms=0)
    >>> group.take(messages, 10)
    [1, 2, 0]
    """

    __slots__ = ("active_ms", "done", "leases", "polls", "waiting")

    def __init__(self, first: int, now_ms: int) -> None:
        # At the oldest retained message and not at the next: messages from before the first poll are the group's too.
        self.done = Done(first)
        self.leases = Leases()
        self.waiting = Waiting()
        self.polls = 0
        self.active_ms = now_ms
        """When the group was last in use."""

    def take(self, messages: Messages, most: int) -> list[int]:
        """Take up to ``most`` of the messages that wait; highest priority first, then oldest.

        The caller leases them, marks them as done or gives them back.
        """
        # A fourth, rounded down, and one more at every fourth poll: a poll of one message takes the oldest every fourth
        # time.
        reserved = min(most, most // OLDEST_SHARE + ((self.polls + 1) % OLDEST_SHARE == 0))
        # A poll that finds nothing counts too, as in HermesMQ.
        self.polls += 1
        waiting, watermark = self.waiting, self.done.watermark
        priorities = [each for each in messages.priorities if waiting.head(messages, each, watermark) is not None]
        if len(priorities) == 1:
            # Nearly always: priority and age order alike.
            return waiting.take(messages, priorities[0], most, watermark)
        taken: dict[int, list[int]] = {}
        wanted = most - reserved
        for priority in priorities:
            taken[priority] = waiting.take(messages, priority, wanted, watermark)
            wanted -= len(taken[priority])
        for priority, offset in self._take_oldest(messages, priorities, reserved + wanted):
            taken[priority].append(offset)
        # What comes out of one priority is ascending: the oldest share goes on where the first part ended.
        return [offset for priority in priorities for offset in taken[priority]]

    def _take_oldest(self, messages: Messages, priorities: list[int], most: int) -> list[tuple[int, int]]:
        """Take up to ``most`` messages, the oldest first; return the priority and the offset of each."""
        waiting, watermark = self.waiting, self.done.watermark
        heads = [(head, each) for each in priorities if (head := waiting.head(messages, each, watermark)) is not None]
        heapify(heads)
        taken: list[tuple[int, int]] = []
        while heads and len(taken) < most:
            oldest, priority = heads[0]
            taken.append((priority, oldest))
            waiting.pop(priority)
            head = waiting.head(messages, priority, watermark)
            if head is None:
                heappop(heads)
            else:
                heapreplace(heads, (head, priority))
        return taken

    def give_back(self, messages: Messages, offsets: list[int]) -> None:
        """Make messages that were taken deliverable again, each at its place."""
        self.waiting.give_back(messages, offsets)

    def reap(self, messages: Messages, now_ms: int) -> None:
        """Return the messages of every lease whose deadline has come."""
        self.waiting.give_back(messages, self.leases.expire(now_ms))

    def ack(self, lease_ids: Iterable[int]) -> None:
        """Mark the messages of these leases as done. Passes over an id that has no lease."""
        self.finish(self.leases.take(lease_ids))

    def nack(self, messages: Messages, lease_ids: Iterable[int]) -> None:
        """Return the messages of these leases. Passes over an id that has no lease."""
        self.waiting.give_back(messages, self.leases.take(lease_ids))

    def finish(self, offsets: Iterable[int]) -> None:
        """Mark messages that were taken as done."""
        add = self.done.add
        for offset in offsets:
            add(offset)

    def pass_over(self, offset: int) -> None:
        """Mark every message below ``offset`` as done, and forget the leases of them."""
        if offset > self.done.watermark:
            self.done.raise_to(offset)
            self.leases.drop_before(self.done.watermark)

    def has_some(self, messages: Messages, now_ms: int) -> bool:
        """Whether a poll at ``now_ms`` would take a message."""
        watermark = self.done.watermark
        if any(self.waiting.head(messages, each, watermark) is not None for each in messages.priorities):
            return True
        # A poll reaps first, so a message whose deadline has come is one that it would take.
        deadline = self.leases.next_deadline()
        return deadline is not None and deadline <= now_ms

    def copy(self) -> Group:
        """An independent copy of the group."""
        group = Group(self.done.watermark, self.active_ms)
        group.done, group.leases, group.waiting = self.done.copy(), self.leases.copy(), self.waiting.copy()
        group.polls = self.polls
        return group


def count_fitting(sizes: list[int], most_bytes: int) -> int:
    """How many of the first ``sizes`` fit into ``most_bytes``, at least one if there is any.

    >>> count_fitting([10, 10, 10], 25), count_fitting([99], 25)
    (2, 1)
    """
    total = 0
    # Mostly all fit, and `sum` needs no step of Python for each.
    if sum(sizes) <= most_bytes:
        return len(sizes)
    for count, size in enumerate(sizes):
        total += size
        # At least one: a group would stand still for ever at a message that is larger than the bound.
        if total > most_bytes and count:
            return count
    return len(sizes)
