"""The state machine of the broker: applies the commands of the log, and answers each.

Invariants: the same entries give the same state and the same replies on every node, since nothing here reads a clock, a
payload or the network; the log's time never goes back; unknown topics, groups and leases are no errors. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple
from weakref import WeakSet

from hermes.broker.machine.commands import (
    Ack,
    AnyCommand,
    Bootstrap,
    Commit,
    CreateTopic,
    DeleteTopic,
    Entry,
    Lead,
    Nack,
    Poll,
    Produce,
    Register,
    SetCaps,
    SetRateLimit,
    SetRetention,
)
from hermes.broker.machine.freeze import Freeze
from hermes.broker.machine.group import Group, count_fitting
from hermes.broker.machine.messages import PRIORITIES, Message
from hermes.broker.machine.topic import Topic

# HermesMQ bounds no reply, and its client drops one of more than 64 MiB.
MAX_POLL_BYTES = 16 * 2**20
"""The payloads of one poll. What does not fit is not leased."""

# Bytes, text, JSON and msgpack. HermesMQ takes any other for bytes, too.
_CONTENT_TYPES = 4


class TooManyTopics(NamedTuple):
    """The reply to a command that would create a topic beyond the cap."""

    most: int


class Delivery(NamedTuple):
    """A message for the consumer that polled: the lease, and the place of the message."""

    lease_id: int
    offset: int
    message: Message


# `Delivery._make` is one more call of Python for each delivery.
_delivery: Callable[[tuple[int, int, Message]], Delivery] = partial(tuple.__new__, Delivery)

Reply = int | list[Delivery] | TooManyTopics | None
"""`Produce` has the offset, `Poll` the deliveries, every other command None; what creates a topic may be refused."""


class Machine:
    """The whole state.

    >>> from hermes.broker.machine.commands import Ack, Entry, Poll, Produce
    >>> machine = Machine()
    >>> machine.apply(0, Entry(1000, (Produce("orders", b"hi"), Poll("orders", "billing", most=10))))
    [0, [Delivery(lease_id=0, offset=0, message=Message(time_ms=1000, record=0, place=0, size=2, ...))]]
    >>> machine.apply(1, Entry(1001, (Ack("orders", "billing", (0,)),)))
    [None]
    >>> machine.in_flight, machine.retained
    (0, 0)
    """

    def __init__(self) -> None:
        self.topics: dict[str, Topic] = {}
        self.time_ms = 0
        """The log's time: that of the last entry, in Unix milliseconds."""
        self.next_index = 0
        """The index in the log that the next entry has."""
        # One counter for all topics, which the end of a topic leaves alone: the id of an old lease never means another
        # one.
        self.next_lease = 0
        self.nodes: dict[int, str] = {}
        """The peer address of every node, by its id; empty until a cluster is formed."""
        self.leader = 0
        """The id of the leading node; 0 while there was none."""
        self.term = 0
        # Until a leader has written its own, which comes before `Lead` and so before the first request.
        self.caps = SetCaps(max_topics=10_000, max_groups=1_000, group_ttl_ms=7 * 86_400_000)
        # Weak: a freeze that nobody reads any more copies nothing.
        self._freezes: WeakSet[Freeze] = WeakSet()

    def apply(self, index: int, entry: Entry) -> list[Reply]:
        """Apply the entry at ``index`` of the log, and return the reply to each command."""
        # The log's own order decides, also where two leaders disagreed about the time.
        self.time_ms = now_ms = max(self.time_ms, entry.time_ms)
        self.next_index = index + 1
        # Before the first command: a snapshot has the state between two entries, and no part of one.
        if self._freezes:
            for freeze in self._freezes:
                freeze.keep_all(entry.commands)
        replies: list[Reply] = []
        for place, command in enumerate(entry.commands):
            # Apart from the others: the payload of a message is found by the index and the place of its command.
            if type(command) is Produce:
                replies.append(self._produce(command, index, place, now_ms))
            else:
                replies.append(self._HANDLERS[type(command)](self, command))
        return replies

    # --- messages ---

    def _produce(self, command: Produce, index: int, place: int, now_ms: int) -> int | TooManyTopics:
        topic = self.topics.get(command.topic) or self._create(command.topic)
        if topic is None:
            return TooManyTopics(self.caps.max_topics)
        content_type = command.content_type if command.content_type < _CONTENT_TYPES else 0
        priority = command.priority if command.priority < PRIORITIES else PRIORITIES - 1
        message = (now_ms, index, place, len(command.payload), priority, content_type)
        return topic.produce(message, (command.producer_id, command.seq))

    def _poll(self, command: Poll) -> list[Delivery]:
        topic, group = self._join(command.topic, command.group)
        if topic is None or group is None:
            return []
        messages, now_ms = topic.messages, self.time_ms
        # First: a message whose lease has ended is a candidate of this very poll.
        group.reap(messages, now_ms)
        offsets = group.take(messages, command.most)
        found = messages.read(offsets)
        fitting = count_fitting([message.size for message in found], MAX_POLL_BYTES)
        if fitting < len(offsets):
            # Leased, a message that is not sent would be kept from every consumer until its deadline.
            group.give_back(messages, offsets[fitting:])
            offsets, found = offsets[:fitting], found[:fitting]
        first = self.next_lease
        self.next_lease += len(offsets)
        if command.auto:
            group.finish(offsets)
            topic.reclaim()
        else:
            group.leases.add(first, offsets, now_ms + command.visibility_ms)
        return list(map(_delivery, zip(range(first, self.next_lease), offsets, found, strict=True)))

    def _ack(self, command: Ack) -> None:
        # Found and not joined: an acknowledgement makes no group, and keeps none from being dropped as idle.
        topic, group = self._find(command.topic, command.group)
        if topic is not None and group is not None:
            group.ack(command.lease_ids)
            topic.reclaim()

    def _nack(self, command: Nack) -> None:
        topic, group = self._find(command.topic, command.group)
        if topic is not None and group is not None:
            group.nack(topic.messages, command.lease_ids)

    def _commit(self, command: Commit) -> None:
        topic, group = self._join(command.topic, command.group)
        if topic is not None and group is not None:
            # A commit beyond the end would mark messages as done that are yet to come.
            group.pass_over(min(command.offset, topic.messages.next))
            topic.reclaim()

    # --- groups and topics ---

    def _find(self, topic_name: str, group_name: str) -> tuple[Topic | None, Group | None]:
        topic = self.topics.get(topic_name)
        return topic, None if topic is None else topic.group(group_name)

    def _join(self, topic_name: str, group_name: str) -> tuple[Topic | None, Group | None]:
        """The group, which is in use now. None beyond the cap, and on a topic that does not exist."""
        topic = self.topics.get(topic_name)
        if topic is None:
            return None, None
        # Here and by no timer, so that each node drops a group at the same entry. Before the count, which it may lower.
        topic.drop_idle(self.time_ms, self.caps.group_ttl_ms)
        if group_name not in topic.groups and len(topic.groups) >= self.caps.max_groups:
            return topic, None
        return topic, topic.join(group_name, self.time_ms)

    def _register(self, command: Register) -> None:
        self._join(command.topic, command.group)

    def _create(self, name: str) -> Topic | None:
        """The topic of this name, new if need be; None if there are too many."""
        topic = self.topics.get(name)
        if topic is None and len(self.topics) < self.caps.max_topics:
            topic = self.topics[name] = Topic()
        return topic

    def _create_topic(self, command: CreateTopic) -> TooManyTopics | None:
        return None if self._create(command.topic) is not None else TooManyTopics(self.caps.max_topics)

    def _delete_topic(self, command: DeleteTopic) -> None:
        self.topics.pop(command.topic, None)

    def _set_rate_limit(self, command: SetRateLimit) -> TooManyTopics | None:
        return self._limit(command.topic, rate_milli=command.rate_milli, burst=command.burst)

    def _set_retention(self, command: SetRetention) -> TooManyTopics | None:
        return self._limit(command.topic, max_messages=command.max_messages, max_age_ms=command.max_age_ms)

    def _limit(self, name: str, **limits: int) -> TooManyTopics | None:
        topic = self._create(name)
        if topic is None:
            return TooManyTopics(self.caps.max_topics)
        topic.limits = topic.limits._replace(**limits)
        return None

    # --- the cluster ---

    def _set_caps(self, command: SetCaps) -> None:
        self.caps = command

    def _bootstrap(self, command: Bootstrap) -> None:
        # HermesMQ's rule: a cluster that is formed keeps its members, whatever a later list says.
        if not self.nodes:
            self.nodes = dict(command.nodes)

    def _lead(self, command: Lead) -> None:
        self.leader = command.node
        self.term += 1

    # --- questions: they change nothing ---

    def freeze(self) -> Freeze:
        """The topics as they are now. While the freeze is in use, each topic is copied before its first change."""
        freeze = Freeze(self.topics)
        self._freezes.add(freeze)
        return freeze

    def has_some(self, topic_name: str, group_name: str, now_ms: int) -> bool:
        """Whether a poll at ``now_ms`` would deliver. A group that does not exist would begin at the oldest message."""
        topic, group = self._find(topic_name, group_name)
        if topic is None:
            return False
        return len(topic.messages) > 0 if group is None else group.has_some(topic.messages, now_ms)

    @property
    def retained(self) -> int:
        """Messages of all topics."""
        return sum(len(topic.messages) for topic in self.topics.values())

    @property
    def in_flight(self) -> int:
        """Leases of all groups, with the ones whose deadline has come and that no poll has reaped."""
        return sum(topic.in_flight for topic in self.topics.values())

    _HANDLERS: ClassVar[dict[type[AnyCommand], Callable[[Machine, Any], Reply]]] = {
        Poll: _poll,
        Register: _register,
        Ack: _ack,
        Nack: _nack,
        Commit: _commit,
        CreateTopic: _create_topic,
        DeleteTopic: _delete_topic,
        SetRateLimit: _set_rate_limit,
        SetRetention: _set_retention,
        SetCaps: _set_caps,
        Bootstrap: _bootstrap,
        Lead: _lead,
    }
