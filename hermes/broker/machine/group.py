"""A group of a topic: which messages are done, leased, delayed, behind another one or waiting, and which a poll takes.

A message is, for one group, in one of the states of `hermes.broker.machine.states`. Invariants: a poll costs what it
takes, whatever the topic retains; a message has at most one lease; of the messages of a key none is taken before all
older ones are done; before a group is used, `pass_over` has told it the first retained message. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heapreplace
from typing import NamedTuple

from hermes.broker.machine.attempts import Attempts
from hermes.broker.machine.behind import Behind
from hermes.broker.machine.done import Done
from hermes.broker.machine.leases import Leases
from hermes.broker.machine.messages import Messages
from hermes.broker.machine.waiting import Waiting

OLDEST_SHARE = 4
"""A quarter of each poll goes to the oldest messages, whatever their priority, so that none waits for ever."""


class GroupOptions(NamedTuple):
    """The settings of a group. ``max_attempts`` deliveries end a message as a dead letter; 0 is no limit."""

    paused: bool = False
    max_attempts: int = 0


class Group:
    """The state of one group. Offsets are of its topic, whose `Messages` each call gets.

    >>> messages = Messages()
    >>> for priority in (0, 5, 3):
    ...     _ = messages.append((0, 0, 0, 1, priority, 0))
    >>> group = Group(messages.first, now_ms=0)
    >>> group.take(messages, 10)
    [1, 2, 0]
    """

    __slots__ = ("active_ms", "attempts", "behind", "delays", "done", "leases", "options", "polls", "waiting")

    def __init__(self, first: int, now_ms: int) -> None:
        # At the oldest retained message and not at the next: messages from before the first poll are the group's too.
        self.done = Done(first)
        self.leases = Leases()
        self.delays = Leases()
        """Messages that were given back with a delay, each under the id of a lease that nobody has."""
        self.waiting = Waiting()
        self.behind = Behind()
        self.attempts = Attempts()
        self.options = GroupOptions()
        self.polls = 0
        self.active_ms = now_ms
        """When the group was last in use."""

    # --- taking ---

    def take(self, messages: Messages, most: int) -> list[int]:
        """Take up to ``most`` of the messages that wait; highest priority first, then oldest.

        The caller leases them, marks them as done or gives them back.
        """
        # A fourth, rounded down, and one more at every fourth poll: a poll of one message takes the oldest every fourth
        # time.
        reserved = min(most, most // OLDEST_SHARE + ((self.polls + 1) % OLDEST_SHARE == 0))
        # A poll that finds nothing counts too, as in HermesMQ.
        self.polls += 1
        if self.options.paused:
            return []
        if messages.keyed:
            self.behind.begin()
        waiting, watermark = self.waiting, self.done.watermark
        priorities = [each for each in messages.priorities if waiting.head(messages, each, watermark) is not None]
        if len(priorities) == 1:
            # Nearly always: priority and age order alike.
            return self._take_of(messages, priorities[0], most)
        taken: dict[int, list[int]] = {}
        wanted = most - reserved
        for priority in priorities:
            taken[priority] = self._take_of(messages, priority, wanted)
            wanted -= len(taken[priority])
        for priority, offset in self._take_oldest(messages, priorities, reserved + wanted):
            taken[priority].append(offset)
        # What comes out of one priority is ascending: the oldest share goes on where the first part ended.
        return [offset for priority in priorities for offset in taken[priority]]

    def _take_of(self, messages: Messages, priority: int, most: int) -> list[int]:
        """Take up to ``most`` messages of a priority, ascending."""
        if not messages.keyed:
            return self.waiting.take(messages, priority, most, self.done.watermark)
        taken: list[int] = []
        while len(taken) < most and (head := self._head(messages, priority)) is not None:
            self.waiting.pop(priority)
            taken.append(head)
        return taken

    def _head(self, messages: Messages, priority: int) -> int | None:
        """The oldest message of a priority that may be taken; those before it go behind the message before them."""
        while (head := self.waiting.head(messages, priority, self.done.watermark)) is not None:
            if not messages.keyed or (before := self.behind.before(messages, self.done, head)) < 0:
                return head
            if not self.behind.add(head, before):
                return None
            self.waiting.pop(priority)
        return None

    def _take_oldest(self, messages: Messages, priorities: list[int], most: int) -> list[tuple[int, int]]:
        """Take up to ``most`` messages, the oldest first; return the priority and the offset of each."""
        heads = [(head, each) for each in priorities if (head := self._head(messages, each)) is not None]
        heapify(heads)
        taken: list[tuple[int, int]] = []
        while heads and len(taken) < most:
            oldest, priority = heads[0]
            taken.append((priority, oldest))
            self.waiting.pop(priority)
            head = self._head(messages, priority)
            if head is None:
                heappop(heads)
            else:
                heapreplace(heads, (head, priority))
        return taken

    def give_back(self, messages: Messages, offsets: list[int]) -> None:
        """Make messages that were taken deliverable again, each at its place, as if they had not been taken."""
        self.waiting.give_back(messages, offsets)

    # --- the ends of leases ---

    def reap(self, messages: Messages, now_ms: int) -> list[int]:
        """End every lease and delay whose time has come. Returns as `fail` does."""
        if len(self.delays):
            self.waiting.give_back(messages, self.delays.expire(now_ms))
        return self.fail(messages, self.leases.expire(now_ms))

    def ack(self, messages: Messages, lease_ids: Sequence[int]) -> None:
        """Mark the messages of these leases as done. Passes over an id that has no lease."""
        self.finish(messages, self.leases.take(lease_ids))
        if len(self.delays):
            self.finish(messages, self.delays.take(lease_ids))

    def nack(self, messages: Messages, lease_ids: Sequence[int]) -> list[int]:
        """Return the messages of these leases. Passes over an id that has no lease. Returns as `fail` does."""
        if len(self.delays):
            # The end of a delay is no failed attempt.
            self.waiting.give_back(messages, self.delays.take(lease_ids))
        return self.fail(messages, self.leases.take(lease_ids))

    def delay(self, lease_ids: Sequence[int], until_ms: int, next_id: int) -> tuple[list[int], list[int]]:
        """Return the messages of these leases at ``until_ms``.

        Each gets a new lease, with an id from ``next_id`` on, by which it may be acknowledged or returned sooner.
        Returns these ids, and what `fail` returns.
        """
        leased = self.leases.take(lease_ids)
        lost = self._count(leased)
        kept = [offset for offset in leased if offset not in lost] + self.delays.take(lease_ids)
        self.delays.add(next_id, kept, until_ms)
        return list(range(next_id, next_id + len(kept))), lost

    def fail(self, messages: Messages, offsets: list[int]) -> list[int]:
        """An attempt at these messages failed: let them wait again.

        Returns those of them that have no attempt left. The caller has to `finish` them.
        """
        if not offsets:
            return []
        lost = self._count(offsets)
        self.waiting.give_back(messages, [offset for offset in offsets if offset not in lost] if lost else offsets)
        return lost

    def _count(self, offsets: list[int]) -> list[int]:
        """Count an attempt at each; return those that have none left."""
        counts = [self.attempts.note(offset) for offset in offsets]
        most = self.options.max_attempts
        return [offset for offset, count in zip(offsets, counts, strict=True) if most and count >= most]

    def finish(self, messages: Messages, offsets: Iterable[int]) -> None:
        """Mark messages that were taken as done."""
        add = self.done.add
        if not self.attempts and not len(self.behind):
            for offset in offsets:
                add(offset)
            return
        for offset in offsets:
            add(offset)
            self.attempts.forget(offset)
            behind = self.behind.release(offset)
            if behind is not None and behind >= messages.first:
                self.waiting.give_back(messages, [behind])

    def pass_over(self, messages: Messages, offset: int) -> None:
        """Mark every message below ``offset`` as done, and forget the leases of them."""
        if offset > self.done.watermark:
            self.done.raise_to(offset)
            watermark = self.done.watermark
            self.leases.drop_before(watermark)
            self.delays.drop_before(watermark)
            self.attempts.drop_before(watermark)
            if len(self.behind):
                self.waiting.give_back(messages, self.behind.release_below(watermark))

    # --- questions ---

    def has_some(self, messages: Messages, now_ms: int) -> bool:
        """Whether a poll at ``now_ms`` would take a message.

        With keys a poll may find that all that wait stand behind others, and take none; the next one knows.
        """
        if self.options.paused:
            return False
        if any(self._may_take(messages, each) for each in messages.priorities):
            return True
        due_ms = self.next_due()
        return due_ms is not None and due_ms <= now_ms

    def _may_take(self, messages: Messages, priority: int) -> bool:
        head = self.waiting.head(messages, priority, self.done.watermark)
        if head is None or not messages.keyed or not self.behind.is_full:
            return head is not None
        return self.behind.before(messages, self.done, head) < 0

    def next_due(self) -> int | None:
        """When the next lease or delay ends, in Unix milliseconds; None without one."""
        ends = (self.leases.next_deadline(), self.delays.next_deadline() if len(self.delays) else None)
        return min((end for end in ends if end is not None), default=None)

    def has_lease(self, lease: int) -> bool:
        """Whether there is this lease, or a delay of this id."""
        return self.leases.has(lease) or self.delays.has(lease)

    def has_lease_after(self, now_ms: int) -> bool:
        """Whether a lease or a delay ends later than that."""
        return self.leases.have_one_after(now_ms) or self.delays.have_one_after(now_ms)

    def lag(self, messages: Messages) -> int:
        """How many messages are not done."""
        return messages.next - self.done.watermark - sum(end - start for start, end in self.done.ranges())

    def copy(self) -> Group:
        """An independent copy of the group."""
        group = Group(self.done.watermark, self.active_ms)
        group.done, group.leases, group.delays = self.done.copy(), self.leases.copy(), self.delays.copy()
        group.waiting, group.behind, group.attempts = self.waiting.copy(), self.behind.copy(), self.attempts.copy()
        group.polls, group.options = self.polls, self.options
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
