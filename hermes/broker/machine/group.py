"""A group of a topic: which messages are done, leased or to be delivered, and which a poll takes.

A message is, for one group, in one of four states: fresh (never delivered), leased, returned (a lease was given back or
has expired), done. Fresh messages are the rest of each priority's lane behind a cursor, so a poll costs what it takes,
whatever the topic retains. Invariants: a message has at most one lease; within a priority the returned messages are
older than the fresh ones. Pure.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from itertools import islice
from typing import NamedTuple

from hermes.broker.machine.done import Done
from hermes.broker.machine.messages import PRIORITIES, Messages

OLDEST_SHARE = 4
"""A quarter of each poll goes to the oldest messages, whatever their priority, so that none waits for ever."""


class LeaseRun(NamedTuple):
    """The leases of one poll: ``leases`` ids from ``first`` on, with one deadline in Unix milliseconds."""

    deadline_ms: int
    first: int
    leases: int


class Group:
    """The state of one group. Offsets are of its topic, whose `Messages` each call gets.

    >>> from hermes.broker.machine.messages import Message
    >>> messages = Messages()
    >>> for priority in (0, 5, 3):
    ...     _ = messages.append(Message(0, 0, 0, 1, priority, 0))
    >>> group = Group(messages, now_ms=0)
    >>> group.take(messages, 10)
    [1, 2, 0]
    """

    __slots__ = ("_cursors", "_lowest_lease", "_returned", "_runs", "active_ms", "done", "leases", "polls")

    def __init__(self, messages: Messages, now_ms: int) -> None:
        self.done = Done(messages.first)
        self.leases: dict[int, int] = {}
        """The offset of each lease, by the lease's id. A lease stays here after its deadline until a poll reaps it."""
        self.polls = 0
        self.active_ms = now_ms
        """When the group was last in use."""
        # By deadline. A run stays while it is in the heap, even if its leases are gone.
        self._runs: list[LeaseRun] = []
        # No lease has a lower offset.
        self._lowest_lease = messages.next
        # For each priority: the position in its lane of the first fresh message, and the heap of returned offsets.
        self._cursors = [0] * PRIORITIES
        self._returned: list[list[int]] = [[] for _ in range(PRIORITIES)]

    # --- what a poll takes ---

    def take(self, messages: Messages, most: int) -> list[int]:
        """Take up to ``most`` messages out of the fresh and the returned ones; highest priority first, then oldest.

        The caller leases them, marks them as done or returns them.
        """
        reserved = min(most, most // OLDEST_SHARE + ((self.polls + 1) % OLDEST_SHARE == 0))
        self.polls += 1
        lanes = [priority for priority in reversed(range(PRIORITIES)) if self._head(messages, priority) is not None]
        if len(lanes) == 1:
            # Nearly always: priority and age order alike.
            return self._take_from(messages, lanes[0], most)
        taken: list[list[int]] = [[] for _ in range(PRIORITIES)]
        wanted = most - reserved
        for priority in lanes:
            taken[priority] = self._take_from(messages, priority, wanted)
            wanted -= len(taken[priority])
        for _ in range(reserved + wanted):
            heads = [(head, priority) for priority in lanes if (head := self._head(messages, priority)) is not None]
            if not heads:
                break
            _, priority = min(heads)
            taken[priority] += self._take_from(messages, priority, 1)
        # What comes out of one priority is ascending: the oldest share takes on where the first part ended.
        return [offset for priority in lanes for offset in taken[priority]]

    def _head(self, messages: Messages, priority: int) -> int | None:
        """The oldest message of a priority that may be delivered, or None."""
        returned, watermark = self._returned[priority], self.done.watermark
        # A commit or the retention has passed over these.
        while returned and returned[0] < watermark:
            heappop(returned)
        if returned:
            return returned[0]
        lane = messages.lanes[priority]
        if lane is None:
            return None
        cursor = self._cursors[priority]
        if cursor < lane.end and (cursor < lane.base or lane.at(cursor) < watermark):
            cursor = self._cursors[priority] = lane.position(watermark)
        return lane.at(cursor) if cursor < lane.end else None

    def _take_from(self, messages: Messages, priority: int, most: int) -> list[int]:
        """Take up to ``most`` messages of a priority, ascending."""
        taken: list[int] = []
        returned = self._returned[priority]
        while len(taken) < most and (head := self._head(messages, priority)) is not None:
            if returned:
                taken.append(heappop(returned))
                continue
            lane = messages.lanes[priority]
            if lane is None or head < 0:
                break
            # Behind the head no fresh message is done: only leased messages become done one by one.
            start = self._cursors[priority] - lane.base
            fresh = lane.offsets[start : start + most - len(taken)]
            self._cursors[priority] += len(fresh)
            taken += fresh
        return taken

    def give_back(self, messages: Messages, offsets: list[int]) -> None:
        """Make messages deliverable again, each at its place."""
        for offset in offsets:
            if offset >= self.done.watermark:
                heappush(self._returned[messages.priority(offset)], offset)

    def has_some(self, messages: Messages, now_ms: int) -> bool:
        """Whether a poll at ``now_ms`` would take a message."""
        if any(self._head(messages, priority) is not None for priority in range(PRIORITIES)):
            return True
        deadline = self.next_deadline()
        return deadline is not None and deadline <= now_ms

    # --- leases ---

    def lease(self, first_id: int, offsets: list[int], deadline_ms: int) -> None:
        """Lease messages that were taken, under ids from ``first_id`` on."""
        if not offsets:
            return
        self.leases.update(zip(range(first_id, first_id + len(offsets)), offsets, strict=True))
        self._lowest_lease = min(self._lowest_lease, min(offsets))
        heappush(self._runs, LeaseRun(deadline_ms, first_id, len(offsets)))
        # The runs whose leases are gone go with their deadlines, and with long deadlines they would be many.
        if len(self._runs) > 2 * len(self.leases) + 64:
            self._runs = [run for run in self._runs if self._is_live(run)]
            heapify(self._runs)

    def _is_live(self, run: LeaseRun) -> bool:
        return any(lease in self.leases for lease in range(run.first, run.first + run.leases))

    def next_deadline(self) -> int | None:
        """The earliest deadline of a lease, in Unix milliseconds; None without a lease."""
        while self._runs and not self._is_live(self._runs[0]):
            heappop(self._runs)
        return self._runs[0].deadline_ms if self._runs else None

    def reap(self, messages: Messages, now_ms: int) -> None:
        """Return the messages of every lease whose deadline has come."""
        runs = self._runs
        while runs and runs[0].deadline_ms <= now_ms:
            run = heappop(runs)
            self.nack(messages, range(run.first, run.first + run.leases))

    def ack(self, lease_ids: range | tuple[int, ...]) -> None:
        """Mark the messages of these leases as done. Passes over an id that has no lease."""
        pop, add = self.leases.pop, self.done.add
        for lease in lease_ids:
            offset = pop(lease, None)
            if offset is not None:
                add(offset)

    def nack(self, messages: Messages, lease_ids: range | tuple[int, ...]) -> None:
        """Return the messages of these leases. Passes over an id that has no lease."""
        found = (self.leases.pop(lease, None) for lease in lease_ids)
        self.give_back(messages, [offset for offset in found if offset is not None])

    def finish(self, offsets: list[int]) -> None:
        """Mark messages that were taken as done, without a lease."""
        for offset in offsets:
            self.done.add(offset)

    def pass_over(self, offset: int) -> None:
        """Mark every message below ``offset`` as done, and forget the leases of them."""
        self.done.raise_to(offset)
        watermark = self.done.watermark
        if self.leases and watermark > self._lowest_lease:
            self.leases = {lease: offset for lease, offset in self.leases.items() if offset >= watermark}
            self._lowest_lease = min(self.leases.values(), default=watermark)

    # --- snapshots ---

    def runs(self) -> list[LeaseRun]:
        """The runs that still have a lease, by deadline."""
        return sorted(run for run in self._runs if self._is_live(run))

    def returned(self) -> list[int]:
        """The offsets of the messages that were returned, ascending."""
        watermark = self.done.watermark
        return sorted(offset for heap in self._returned for offset in heap if offset >= watermark)

    def fresh(self, messages: Messages) -> list[int]:
        """For each priority the offset of the first fresh message, or the topic's next offset."""
        firsts = []
        for priority, lane in enumerate(messages.lanes):
            if lane is None:
                firsts.append(messages.next)
                continue
            cursor = max(self._cursors[priority], lane.position(self.done.watermark))
            firsts.append(lane.at(cursor) if cursor < lane.end else messages.next)
        return firsts

    def restore(
        self, messages: Messages, leases: dict[int, int], runs: list[LeaseRun], returned: list[int], fresh: list[int]
    ) -> None:
        """Take over what a snapshot has of the group."""
        self.leases = leases
        self._lowest_lease = min(leases.values(), default=messages.next)
        self._runs = sorted(runs)
        self.give_back(messages, returned)
        for priority, offset in enumerate(fresh):
            lane = messages.lanes[priority]
            self._cursors[priority] = 0 if lane is None else lane.position(offset)


def first_of(offsets: list[int], sizes: list[int], most_bytes: int) -> int:
    """How many of ``offsets`` fit into ``most_bytes``, at least one.

    >>> first_of([7, 8, 9], [10, 10, 10], 25), first_of([7], [99], 25)
    (2, 1)
    """
    total = 0
    for count, size in enumerate(islice(sizes, len(offsets))):
        total += size
        if total > most_bytes and count:
            return count
    return len(offsets)
