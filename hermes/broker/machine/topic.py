"""A topic: its messages, those that enter later, its groups, its window of deduplication and its limits.

Invariants: a message leaves when every group is done with it, or by the retention; without a group by the retention
alone. A message that the retention removes costs nothing for each group, since a group learns of the removal at its
next use (`group`, `join`). Pure.
"""

from __future__ import annotations

from collections import OrderedDict
from heapq import heapify, heappop, heappush, heapreplace
from typing import NamedTuple

from hermes.broker.machine.dedup import DedupWindow, Key
from hermes.broker.machine.group import Group, GroupOptions
from hermes.broker.machine.messages import Fields, Messages
from hermes.broker.machine.scheduled import Scheduled

# As HermesMQ keeps, unless told.
DEFAULT_MAX_MESSAGES = 1_000_000

_SLACK = 64
"""So many entries may be out of date before a walk over all is worth it."""


class Limits(NamedTuple):
    """The limits that the owner of a topic has set. A 0 is no bound on that axis; two zeros of retention: the default.

    >>> Limits().most_messages, Limits(max_age_ms=1000).most_messages, Limits(max_messages=3).most_messages
    (1000000, 0, 3)
    """

    rate_milli: int = 0
    """Deliveries in thousandths of a message a second."""
    burst: int = 0
    max_messages: int = 0
    max_age_ms: int = 0

    @property
    def most_messages(self) -> int:
        """How many messages are retained, 0 for any number."""
        # HermesMQ's rule: an age alone leaves the count without a bound.
        return self.max_messages or (0 if self.max_age_ms else DEFAULT_MAX_MESSAGES)


class Topic:
    """The state of one topic.

    >>> topic = Topic()
    >>> topic.produce((1000, 0, 0, 5, 0, 0), ("", 0)), topic.produce((1000, 0, 1, 5, 0, 0), ("", 0))
    (0, 1)
    >>> group = topic.join("billing", 0)
    >>> group.take(topic.messages, 1)
    [0]
    >>> group.finish(topic.messages, [0]); topic.reclaim()
    >>> topic.messages.first
    1
    """

    __slots__ = ("_lows", "dedup", "groups", "limits", "messages", "scheduled")

    def __init__(self) -> None:
        self.messages = Messages()
        self.scheduled = Scheduled()
        self.groups: OrderedDict[str, Group] = OrderedDict()
        """In the order of their last use, the group that has rested longest first."""
        self.dedup = DedupWindow()
        self.limits = Limits()
        # The watermark of each group, or an older and lower one, with the group's name. Only the lowest is brought up
        # to date, when somebody asks, so an ack costs the same however many groups there are.
        self._lows: list[tuple[int, str]] = []

    # --- messages ---

    def produce(self, message: Fields, key: Key, order: int = 0) -> int:
        """Append a message unless its key is in the window; return its offset, or that of the first with the key.

        The digest ``order`` is that of the key in whose order messages are delivered; 0 for none.
        """
        offset = self.dedup.find(key) if key[0] else None
        if offset is None:
            offset = self.messages.append(message, order)
            if key[0]:
                self.dedup.add(key, offset)
        # After a hit too, as in HermesMQ: a producer that sends the same again still ages the topic.
        self._retain(message[0])
        return offset

    def let_in(self, now_ms: int) -> None:
        """Append the first message that enters later, if its time has come."""
        later = self.scheduled.take_due(now_ms)
        if later is not None:
            # The time at which it enters: the times of a topic's messages ascend.
            _, record, place, size, priority, content_type = later.message
            offset = self.messages.append_late((now_ms, record, place, size, priority, content_type), later.order)
            if later.key[0]:
                self.dedup.add(later.key, offset)
            self._retain(now_ms)

    @property
    def lowest_record(self) -> int | None:
        """The lowest index in the log that has the payload of a message of the topic; None without a message."""
        records = (self.messages.lowest_record, self.scheduled.lowest_record)
        return min((each for each in records if each is not None), default=None)

    def _retain(self, now_ms: int) -> None:
        """Remove the messages that are too old, then those beyond the count."""
        messages, limits = self.messages, self.limits
        first = messages.first
        if limits.max_age_ms:
            # A message of exactly this age stays.
            first = messages.first_since(now_ms - limits.max_age_ms)
        most = limits.most_messages
        if most and messages.next - first > most:
            first = messages.next - most
        if first > messages.first:
            messages.drop_before(first)
            # Not in `reclaim`: the key of a message that was consumed stays known, or a late retry would be stored.
            self.dedup.forget_before(first)

    def reclaim(self) -> None:
        """Forget the messages that every group is done with; without a group, none."""
        lowest = self._lowest()
        if lowest is not None and lowest > self.messages.first:
            self.messages.drop_before(lowest)

    def _lowest(self) -> int | None:
        """The lowest watermark of all groups; None without a group."""
        lows = self._lows
        while lows:
            noted, name = lows[0]
            group = self.group(name)
            # `drop_idle` leaves the name here, until it comes to the top.
            if group is None:
                heappop(lows)
                continue
            watermark = group.done.watermark
            if watermark != noted:
                heapreplace(lows, (watermark, name))
            # No group is below the first message, so one that is there is the lowest: the retention leaves all groups
            # behind, and each of them would be looked at.
            if watermark in {noted, self.messages.first}:
                return watermark
        return None

    # --- groups ---

    def group(self, name: str) -> Group | None:
        """The group of this name, or None."""
        group = self.groups.get(name)
        if group is not None:
            group.pass_over(self.messages, self.messages.first)
        return group

    def join(self, name: str, now_ms: int) -> Group:
        """The group of this name, which is in use now; a new one begins at the oldest retained message."""
        group = self.group(name)
        if group is None:
            group = self.groups[name] = Group(self.messages.first, now_ms)
            self._watch(name, group)
        self.groups.move_to_end(name)
        group.active_ms = now_ms
        return group

    def _watch(self, name: str, group: Group) -> None:
        heappush(self._lows, (group.done.watermark, name))
        # A group that was dropped and came again is here twice.
        if len(self._lows) > 2 * len(self.groups) + _SLACK:
            self._watch_all()

    def _watch_all(self) -> None:
        self._lows = [(group.done.watermark, name) for name, group in self.groups.items()]
        heapify(self._lows)

    def drop_idle(self, now_ms: int, ttl_ms: int) -> None:
        """Forget the groups that have not been in use for ``ttl_ms`` and have no live lease."""
        idle = []
        for name, group in self.groups.items():
            # By the order of use: all that follow are in use.
            if now_ms - group.active_ms < ttl_ms:
                break
            group.pass_over(self.messages, self.messages.first)
            # A group that was set up stays: it would come back without what its owner has set.
            if group.options == GroupOptions() and not group.has_lease_after(now_ms):
                idle.append(name)
        for name in idle:
            del self.groups[name]

    @property
    def in_flight(self) -> int:
        """Leases of all groups, with the ones whose deadline has come and that no poll has reaped."""
        for group in self.groups.values():
            group.pass_over(self.messages, self.messages.first)
        return sum(len(group.leases) for group in self.groups.values())

    # --- snapshots ---

    def copy(self) -> Topic:
        """An independent copy of the topic."""
        return Topic.restore(
            self.messages.copy(),
            self.dedup.copy(),
            OrderedDict((name, group.copy()) for name, group in self.groups.items()),
            self.limits,
            self.scheduled.copy(),
        )

    @classmethod
    def restore(
        cls,
        messages: Messages,
        dedup: DedupWindow,
        groups: OrderedDict[str, Group],
        limits: Limits,
        scheduled: Scheduled,
    ) -> Topic:
        """The topic of these."""
        topic = cls()
        topic.messages, topic.dedup, topic.groups, topic.limits = messages, dedup, groups, limits
        topic.scheduled = scheduled
        topic._watch_all()
        return topic
