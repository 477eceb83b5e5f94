"""The state machine of the broker: applies the commands of the log, and answers each.

Invariants: the same entries give the same state and the same replies on every node, since nothing here reads a clock, a
payload or the network; the log's time never goes back; unknown topics, groups and leases are no errors. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import blake2b
from heapq import heappop, heappush
from itertools import repeat
from math import inf
from typing import Any, ClassVar, NamedTuple
from weakref import WeakSet

from hermes.broker.machine.commands import (
    Ack,
    AnyCommand,
    Bootstrap,
    Bury,
    Cancel,
    Commit,
    CreateTopic,
    DeleteTopic,
    Entry,
    Extend,
    Forward,
    Lead,
    Nack,
    Poll,
    Produce,
    Register,
    SetCaps,
    SetGroup,
    SetRateLimit,
    SetRetention,
    Wake,
)
from hermes.broker.machine.freeze import Freeze
from hermes.broker.machine.group import Group, count_fitting
from hermes.broker.machine.messages import PRIORITIES, Message
from hermes.broker.machine.scheduled import MOST as MAX_SCHEDULED
from hermes.broker.machine.scheduled import Later
from hermes.broker.machine.topic import Topic

# HermesMQ bounds no reply, and its client drops one of more than 64 MiB.
MAX_POLL_BYTES = 16 * 2**20
"""The payloads of one poll. What does not fit is not leased."""

MAX_DEAD = 10_000
"""Dead letters that may wait until they are stored. Beyond, a message without an attempt left is delivered again."""

MAX_LET_IN = 1024
"""Messages that enter their topics in one entry, so that many of one time hold up nobody."""

_CONTENT_TYPES = 4
_KEY_BYTES = 8


class TooManyTopics(NamedTuple):
    """The reply to a command that would create a topic beyond the cap."""

    most: int


class TooManyGroups(NamedTuple):
    """The reply to a command that would create a group beyond the cap."""

    most: int


class TooManyScheduled(NamedTuple):
    """The reply to a message that would wait for its time beyond the bound."""

    most: int


class LeaseGone(NamedTuple):
    """The reply to a command that needs the lease, and did nothing."""

    lease_id: int


class Stored(NamedTuple):
    """The reply to a message that enters its topic later, under the ``id`` by which it can be cancelled until then."""

    id: int


class Delivery(NamedTuple):
    """A message for whoever polled: the lease, where the message is, and the number of this attempt at it."""

    lease_id: int
    offset: int
    message: Message
    attempt: int = 1


class DeadLetter(NamedTuple):
    """A message that had no attempt left in a group, until it is stored elsewhere. ``time_ms`` is the log's time."""

    topic: str
    group: str
    offset: int
    message: Message
    attempts: int
    time_ms: int
    reason: str


# `Delivery._make` is one more call of Python for each delivery.
_delivery: Callable[[tuple[int, int, Message, int]], Delivery] = partial(tuple.__new__, Delivery)

Refusal = TooManyTopics | TooManyGroups | TooManyScheduled | LeaseGone
Reply = int | list[Delivery] | list[int] | Stored | Refusal | bool | None
"""What each command says of its reply; None where it says nothing. What creates something may be refused."""


class Machine:
    """The whole state.

    >>> from hermes.broker.machine.commands import Ack, Entry, Poll, Produce
    >>> machine = Machine()
    >>> machine.apply(0, Entry(1000, (Produce("orders", b"hi"), Poll("orders", "billing", most=10))))
    [0, [Delivery(lease_id=0, offset=0, message=Message(time_ms=1000, record=0, place=0, size=2, ...), attempt=1)]]
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
        self.next_id = 0
        """The id that the next message that enters later has, or the next dead letter."""
        self.dead: dict[int, DeadLetter] = {}
        """The dead letters that are to be stored elsewhere, by id."""
        # The times of messages that enter later, with the names of their topics; those of deleted topics too.
        self._due: list[tuple[int, str]] = []
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
        if self._due and self._due[0][0] <= now_ms:
            self._let_in(now_ms)
        replies: list[Reply] = []
        for place, command in enumerate(entry.commands):
            # Apart from the others: the payload of a message is found by the index and the place of its command.
            if type(command) is Produce:
                replies.append(self._produce(command, index, place, now_ms))
            elif type(command) is Forward:
                replies.append(self._forward(command, index, place, now_ms))
            else:
                replies.append(self._HANDLERS[type(command)](self, command))
        return replies

    # --- messages ---

    def _produce(self, command: Produce, index: int, place: int, now_ms: int) -> int | Stored | Refusal:
        topic = self.topics.get(command.topic) or self._create(command.topic)
        if topic is None:
            return TooManyTopics(self.caps.max_topics)
        content_type = command.content_type if command.content_type < _CONTENT_TYPES else 0
        priority = command.priority if command.priority < PRIORITIES else PRIORITIES - 1
        message = (now_ms, index, place, len(command.payload), priority, content_type)
        key, order = (command.producer_id, command.seq), _digest(command.key) if command.key else 0
        if command.producer_id and (waiting := topic.scheduled.find(key)) is not None:
            return Stored(waiting)
        if not command.delay_ms:
            return topic.produce(message, key, order)
        stored = topic.dedup.find(key) if command.producer_id else None
        if stored is not None:
            return stored
        if topic.scheduled.is_full:
            return TooManyScheduled(MAX_SCHEDULED)
        id_, self.next_id = self.next_id, self.next_id + 1
        due_ms = now_ms + command.delay_ms
        topic.scheduled.add(id_, Later(due_ms, message, key, order))
        heappush(self._due, (due_ms, command.topic))
        return Stored(id_)

    def _let_in(self, now_ms: int) -> None:
        """Let the messages whose time has come enter their topics, as many as one entry may let in."""
        for _ in range(MAX_LET_IN):
            if not self._due or self._due[0][0] > now_ms:
                break
            _, name = heappop(self._due)
            topic = self.topics.get(name)
            if topic is not None:
                for freeze in self._freezes:
                    freeze.keep(name)
                topic.let_in(now_ms)

    def _forward(self, command: Forward, index: int, place: int, now_ms: int) -> int | Stored | Refusal:
        topic, group = self._find(command.topic, command.group)
        if topic is None or group is None or not group.has_lease(command.lease_id):
            return LeaseGone(command.lease_id)
        reply = self._produce(command.produce, index, place, now_ms)
        if isinstance(reply, int | Stored):
            group.ack(topic.messages, (command.lease_id,))
            topic.reclaim()
        return reply

    def _cancel(self, command: Cancel) -> bool:
        topic = self.topics.get(command.topic)
        return topic is not None and topic.scheduled.cancel(command.id)

    def _poll(self, command: Poll) -> list[Delivery]:
        topic, group = self._join(command.topic, command.group)
        if topic is None or group is None:
            return []
        messages, now_ms = topic.messages, self.time_ms
        lost = group.reap(messages, now_ms)
        if lost:
            self._bury(command.topic, command.group, lost, "its lease ended without an acknowledgement")
        offsets = group.take(messages, command.most)
        found = messages.read(offsets)
        fitting = count_fitting([message.size for message in found], MAX_POLL_BYTES)
        if fitting < len(offsets):
            # Leased, a message that is not sent would be kept from every consumer until its deadline.
            group.give_back(messages, offsets[fitting:])
            offsets, found = offsets[:fitting], found[:fitting]
        first = self.next_lease
        self.next_lease += len(offsets)
        attempts = [1 + group.attempts.of(offset) for offset in offsets] if group.attempts else repeat(1, len(offsets))
        if command.auto:
            group.finish(messages, offsets)
            topic.reclaim()
        else:
            group.leases.add(first, offsets, now_ms + command.visibility_ms, command.holder)
        return list(map(_delivery, zip(range(first, self.next_lease), offsets, found, attempts, strict=True)))

    def _ack(self, command: Ack) -> None:
        # Found and not joined: an acknowledgement makes no group, and keeps none from being dropped as idle.
        topic, group = self._find(command.topic, command.group)
        if topic is not None and group is not None:
            group.ack(topic.messages, command.lease_ids)
            topic.reclaim()

    def _nack(self, command: Nack) -> list[int] | None:
        topic, group = self._find(command.topic, command.group)
        if topic is None or group is None:
            return [] if command.delay_ms else None
        ids: list[int] | None = None
        if command.delay_ms:
            ids, lost = group.delay(command.lease_ids, self.time_ms + command.delay_ms, self.next_lease)
            self.next_lease += len(ids)
        else:
            lost = group.nack(topic.messages, command.lease_ids)
        if lost:
            self._bury(command.topic, command.group, lost, command.reason or "its consumer gave it back")
        return ids

    def _extend(self, command: Extend) -> list[int]:
        _, group = self._find(command.topic, command.group)
        return [] if group is None else group.leases.extend(command.lease_ids, self.time_ms + command.visibility_ms)

    def _bury(self, topic_name: str, group_name: str, offsets: Sequence[int], reason: str) -> None:
        """Make dead letters of these messages, as many as may wait; the others are delivered again."""
        topic, group = self.topics[topic_name], self.topics[topic_name].groups[group_name]
        room = max(0, MAX_DEAD - len(self.dead))
        for offset, message in zip(offsets[:room], topic.messages.read(offsets[:room]), strict=True):
            attempts = group.attempts.of(offset)
            letter = DeadLetter(topic_name, group_name, offset, message, attempts, self.time_ms, reason)
            self.dead[self.next_id] = letter
            self.next_id += 1
        group.finish(topic.messages, offsets[:room])
        group.give_back(topic.messages, list(offsets[room:]))
        topic.reclaim()

    def _forget_dead(self, command: Bury) -> None:
        for id_ in command.ids:
            self.dead.pop(id_, None)

    def _commit(self, command: Commit) -> None:
        topic, group = self._join(command.topic, command.group)
        if topic is not None and group is not None:
            group.pass_over(topic.messages, min(command.offset, topic.messages.next))
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

    def _set_group(self, command: SetGroup) -> TooManyTopics | TooManyGroups | None:
        if self._create(command.topic) is None:
            return TooManyTopics(self.caps.max_topics)
        _, group = self._join(command.topic, command.group)
        if group is None:
            return TooManyGroups(self.caps.max_groups)
        if command.paused is not None:
            group.options = group.options._replace(paused=command.paused)
        if command.max_attempts is not None:
            group.options = group.options._replace(max_attempts=command.max_attempts)
        return None

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

    def _wake(self, _command: Wake) -> None:
        """Nothing more than every entry does."""

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
        due_ms = topic.scheduled.next_due()
        if due_ms is not None and due_ms <= now_ms:
            return True
        return len(topic.messages) > 0 if group is None else group.has_some(topic.messages, now_ms)

    def next_due(self) -> int | None:
        """When the next message enters its topic, in Unix milliseconds; None if none waits for its time."""
        return self._due[0][0] if self._due else None

    def next_delay(self, topic_name: str, group_name: str, now_ms: int) -> float:
        """When the next message that was given back comes back to a group, in Unix milliseconds; infinite for none."""
        _, group = self._find(topic_name, group_name)
        due_ms = None if group is None or not len(group.delays) else group.delays.next_deadline()
        # One whose time has come waits for a poll, and for no time.
        return inf if due_ms is None or due_ms <= now_ms else due_ms

    def count_due(self, now_ms: int) -> Counter[str]:
        """How many messages may enter each topic with an entry of this time."""
        found: Counter[str] = Counter()
        places = [0]
        while places and found.total() < MAX_LET_IN:
            place = places.pop()
            if place < len(self._due) and self._due[place][0] <= now_ms:
                found[self._due[place][1]] += 1
                # In a heap those that are due are at the top.
                places += (2 * place + 1, 2 * place + 2)
        return found

    def restore_due(self) -> None:
        """Note the times of all messages that enter later, after the topics were restored."""
        self._due = sorted(
            (later.due_ms, name) for name, topic in self.topics.items() for _, later in topic.scheduled.items()
        )

    @property
    def lowest_record(self) -> int | None:
        """The lowest index in the log that has a payload which is still needed; None if none is."""
        found = [topic.lowest_record for topic in self.topics.values()]
        found += [letter.message.record for letter in self.dead.values()]
        return min((each for each in found if each is not None), default=None)

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
        Extend: _extend,
        Cancel: _cancel,
        Wake: _wake,
        SetGroup: _set_group,
        Bury: _forget_dead,
        Commit: _commit,
        CreateTopic: _create_topic,
        DeleteTopic: _delete_topic,
        SetRateLimit: _set_rate_limit,
        SetRetention: _set_retention,
        SetCaps: _set_caps,
        Bootstrap: _bootstrap,
        Lead: _lead,
    }


def _digest(key: str) -> int:
    """A number of 64 bits for a key, the same on every node. Not 0, which is no key."""
    return int.from_bytes(blake2b(key.encode(), digest_size=_KEY_BYTES).digest(), "little") or 1
