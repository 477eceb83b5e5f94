"""A topic: its messages, its groups, its window of deduplication and its limits.

Invariants: no group has its watermark below the first retained message; a message leaves when every group is done with
it, or when retention removes it, and without a group only retention removes. Pure.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace
from typing import NamedTuple

from hermes.broker.machine.dedup import DedupWindow
from hermes.broker.machine.group import Group
from hermes.broker.machine.messages import Message, Messages

DEFAULT_MAX_MESSAGES = 1_000_000


class Limits(NamedTuple):
    """What the owner of a topic has set. A 0 is no bound on that axis; two zeros of retention are the default.

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
        return self.max_messages if self.max_messages or self.max_age_ms else DEFAULT_MAX_MESSAGES


class Topic:
    """The state of one topic.

    >>> topic = Topic()
    >>> topic.produce(Message(0, 0, 0, 5, 0, 0), ("", 0)), topic.produce(Message(0, 0, 1, 5, 0, 0), ("", 0))
    (0, 1)
    >>> group = topic.join("billing", 0)
    >>> group.take(topic.messages, 1)
    [0]
    >>> group.finish([0]); topic.reclaim()
    >>> topic.messages.first
    1
    """

    __slots__ = ("_lows", "dedup", "groups", "limits", "messages")

    def __init__(self) -> None:
        self.messages = Messages()
        # In the order of their last use, the group that has rested longest first.
        self.groups: dict[str, Group] = {}
        self.dedup = DedupWindow()
        self.limits = Limits()
        # The watermark of each group, or an older and lower one, with the group's name. Only the lowest is brought up
        # to date, when somebody asks, so an ack costs the same however many groups there are.
        self._lows: list[tuple[int, str]] = []

    def produce(self, message: Message, key: tuple[str, int]) -> int:
        """Append a message unless its key is in the window; return its offset, or that of the first with the key."""
        known = self.dedup.find(key) if key[0] else None
        if known is None:
            offset = self.messages.append(message)
            if key[0]:
                self.dedup.add(key, offset)
        else:
            offset = known
        self._retain(message.time_ms)
        return offset

    def _retain(self, now_ms: int) -> None:
        """Remove what is too old, then what is too much."""
        messages, limits = self.messages, self.limits
        first = messages.first
        if limits.max_age_ms:
            while first < messages.next and now_ms - messages.at(first).time_ms > limits.max_age_ms:
                first += 1
        if limits.most_messages:
            first = max(first, messages.next - limits.most_messages)
        if first > messages.first:
            while self._lows and (lowest := self._lowest()) is not None and lowest[0] < first:
                self.groups[lowest[1]].pass_over(first)
            messages.drop_before(first)
            self.dedup.forget_before(first)

    def join(self, name: str, now_ms: int) -> Group:
        """The group of this name, which is in use now; a new one begins at the oldest retained message."""
        group = self.groups.pop(name, None)
        if group is None:
            group = Group(self.messages, now_ms)
            self._watch(name, group)
        # Taken out and put in again: the dict stays in the order of use.
        self.groups[name] = group
        group.active_ms = now_ms
        return group

    def _watch(self, name: str, group: Group) -> None:
        heappush(self._lows, (group.done.watermark, name))
        # A group that was dropped and came again is here twice.
        if len(self._lows) > 2 * len(self.groups) + 64:
            self._lows = [(each.done.watermark, other) for other, each in self.groups.items()]
            self._lows.append((group.done.watermark, name))
            heapify(self._lows)

    def drop_idle(self, now_ms: int, ttl_ms: int) -> None:
        """Forget the groups that have not been in use for ``ttl_ms`` and have no live lease."""
        for name, group in list(self._rested(now_ms - ttl_ms)):
            deadline = max((run.deadline_ms for run in group.runs()), default=0)
            if deadline <= now_ms:
                del self.groups[name]

    def _rested(self, since_ms: int) -> list[tuple[str, Group]]:
        found = []
        for name, group in self.groups.items():
            # By the order of use: all that follow are in use.
            if group.active_ms > since_ms:
                break
            found.append((name, group))
        return found

    def reclaim(self) -> None:
        """Forget the messages that every group is done with; without a group, none."""
        lowest = self._lowest()
        if lowest is not None and lowest[0] > self.messages.first:
            self.messages.drop_before(lowest[0])

    def _lowest(self) -> tuple[int, str] | None:
        """The lowest watermark of all groups, and the group that has it; None without a group."""
        lows = self._lows
        while lows:
            watermark, name = lows[0]
            group = self.groups.get(name)
            if group is None:
                heappop(lows)
            elif group.done.watermark != watermark:
                heapreplace(lows, (group.done.watermark, name))
            else:
                return lows[0]
        return None

    def restore(self, messages: Messages, groups: dict[str, Group], limits: Limits) -> None:
        """Take over what a snapshot has of the topic, but for the window."""
        self.messages, self.groups, self.limits = messages, groups, limits
        self._lows = [(group.done.watermark, name) for name, group in groups.items()]
        heapify(self._lows)
