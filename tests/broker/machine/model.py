"""The broker as its specification says, naive and plain: every poll walks over the whole backlog.

Shares with the machine the commands and nothing else. Numbers in brackets are the sections of the specification.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hermes.broker.machine import commands as c

REFUSED = "refused"
"""The reply to what would create a topic beyond the cap."""


@dataclass(frozen=True)
class Bounds:
    """The bounds that a command cannot set."""

    window: int = 100_000
    max_messages: int = 1_000_000
    max_poll_bytes: int = 16 * 2**20


@dataclass(frozen=True)
class Kept:
    """A retained message."""

    time_ms: int
    record: int
    place: int
    size: int
    priority: int
    content_type: int


@dataclass
class ModelGroup:
    start: int
    active_ms: int
    polls: int = 0
    done: set[int] = field(default_factory=set)
    leases: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Offset and deadline, by id."""

    @property
    def watermark(self) -> int:
        offset = self.start
        while offset in self.done:
            offset += 1
        return offset

    def pass_over(self, first: int) -> None:
        self.start = max(self.start, first)
        self.leases = {lease: each for lease, each in self.leases.items() if each[0] >= self.start}


@dataclass
class ModelTopic:
    messages: dict[int, Kept] = field(default_factory=dict)
    next: int = 0
    keys: list[tuple[tuple[str, int], int]] = field(default_factory=list)
    groups: dict[str, ModelGroup] = field(default_factory=dict)
    max_messages: int = 0
    max_age_ms: int = 0

    @property
    def first(self) -> int:
        return min(self.messages, default=self.next)

    def waiting(self, group: ModelGroup | None, now_ms: int) -> list[int]:
        """The offsets that a poll may take at this time (9.1), ascending. A group that is new has the oldest (8)."""
        group = group or ModelGroup(self.first, now_ms)
        leased = {offset for offset, deadline_ms in group.leases.values() if deadline_ms > now_ms}
        return [each for each in sorted(self.messages) if each >= group.start and each not in group.done | leased]

    def forget_below(self, first: int) -> None:
        self.messages = {offset: message for offset, message in self.messages.items() if offset >= first}

    def reclaim(self) -> None:
        """Delete what every group is done with; without a group nothing (8)."""
        if self.groups:
            self.forget_below(min(group.watermark for group in self.groups.values()))

    def retain(self, now_ms: int, bounds: Bounds) -> None:
        """Delete the old, strictly, and then the surplus (12)."""
        before = self.first
        most = self.max_messages if self.max_messages or self.max_age_ms else bounds.max_messages
        while self.messages and self.max_age_ms and now_ms - self.messages[self.first].time_ms > self.max_age_ms:
            self.forget_below(self.first + 1)
        if most and len(self.messages) > most:
            self.forget_below(self.next - most)
        if self.first > before:
            self.keys = [each for each in self.keys if each[1] >= self.first]
            for group in self.groups.values():
                group.pass_over(self.first)


class Model:
    """Applies entries as the machine does."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.topics: dict[str, ModelTopic] = {}
        self.time_ms = 0
        self.next_lease = 0
        self.caps = c.SetCaps(10_000, 1_000, 7 * 86_400_000)

    def apply(self, index: int, entry: c.Entry) -> list[object]:
        self.time_ms = max(self.time_ms, entry.time_ms)
        return [self._apply(index, place, command) for place, command in enumerate(entry.commands)]

    def _apply(self, index: int, place: int, command: c.AnyCommand) -> object:
        match command:
            case c.Produce():
                return self._produce(index, place, command)
            case c.Poll():
                return self._poll(command)
            case c.Register():
                self._join(command.topic, command.group)
            case c.Ack() | c.Nack() | c.Commit():
                self._finish(command)
            case c.CreateTopic() | c.SetRateLimit():
                return None if self._create(command.topic) else REFUSED
            case c.SetRetention():
                topic = self._create(command.topic)
                if topic is None:
                    return REFUSED
                topic.max_messages, topic.max_age_ms = command.max_messages, command.max_age_ms
            case c.DeleteTopic():
                self.topics.pop(command.topic, None)
            case c.SetCaps():
                self.caps = command
        return None

    def _create(self, name: str) -> ModelTopic | None:
        if name not in self.topics and len(self.topics) >= self.caps.max_topics:
            return None
        return self.topics.setdefault(name, ModelTopic())

    def _produce(self, index: int, place: int, command: c.Produce) -> object:
        topic = self._create(command.topic)
        if topic is None:
            return REFUSED
        key = (command.producer_id, command.seq)
        offset = dict(topic.keys).get(key) if command.producer_id else None
        if offset is None:
            offset = topic.next
            content_type = command.content_type if command.content_type in range(4) else 0
            size, priority = len(command.payload), min(command.priority, 7)
            topic.messages[offset] = Kept(self.time_ms, index, place, size, priority, content_type)
            topic.next += 1
            if command.producer_id:
                topic.keys = [*topic.keys, (key, offset)][-self.bounds.window :]
        topic.retain(self.time_ms, self.bounds)
        return offset

    def _join(self, topic_name: str, name: str) -> tuple[ModelTopic, ModelGroup] | None:
        """The group, in use now; idle ones are dropped, and none is created beyond the cap (3, 8)."""
        topic = self.topics.get(topic_name)
        if topic is None:
            return None
        for other, group in list(topic.groups.items()):
            live = any(deadline_ms > self.time_ms for _, deadline_ms in group.leases.values())
            if self.time_ms - group.active_ms >= self.caps.group_ttl_ms and not live:
                del topic.groups[other]
        if name not in topic.groups:
            if len(topic.groups) >= self.caps.max_groups:
                return None
            topic.groups[name] = ModelGroup(topic.first, self.time_ms)
        topic.groups[name].active_ms = self.time_ms
        return topic, topic.groups[name]

    def _poll(self, command: c.Poll) -> object:
        found = self._join(command.topic, command.group)
        if found is None:
            return []
        topic, group = found
        taken = self._choose(topic, group, command.most)
        group.leases = {lease: each for lease, each in group.leases.items() if each[1] > self.time_ms}
        group.polls += 1
        first, self.next_lease = self.next_lease, self.next_lease + len(taken)
        if command.auto:
            group.done.update(taken)
        else:
            deadline_ms = self.time_ms + command.visibility_ms
            group.leases |= {lease: (offset, deadline_ms) for lease, offset in enumerate(taken, first)}
        reply = [(lease, offset, topic.messages[offset]) for lease, offset in enumerate(taken, first)]
        if command.auto:
            topic.reclaim()
        return reply

    def _choose(self, topic: ModelTopic, group: ModelGroup, most: int) -> list[int]:
        """The offsets that a poll takes, in the order of delivery (9)."""

        def by_priority(offset: int) -> tuple[int, int]:
            return -topic.messages[offset].priority, offset

        waiting = topic.waiting(group, self.time_ms)
        reserved = min(most, most // 4 + (1 if (group.polls + 1) % 4 == 0 else 0))
        taken = sorted(waiting, key=by_priority)[: most - reserved]
        taken += [offset for offset in waiting if offset not in taken][: most - len(taken)]
        taken.sort(key=by_priority)
        while len(taken) > 1 and sum(topic.messages[each].size for each in taken) > self.bounds.max_poll_bytes:
            taken.pop()
        return taken

    def _finish(self, command: c.Ack | c.Nack | c.Commit) -> None:
        if isinstance(command, c.Commit):
            found = self._join(command.topic, command.group)
            if found is not None:
                topic, group = found
                group.pass_over(max(group.watermark, min(command.offset, topic.next)))
                topic.reclaim()
            return
        known = self.topics.get(command.topic)
        if known is None or command.group not in known.groups:
            return
        group = known.groups[command.group]
        for lease in command.lease_ids:
            offset, _ = group.leases.pop(lease, (None, None))
            if offset is not None and isinstance(command, c.Ack):
                group.done.add(offset)
        if isinstance(command, c.Ack):
            known.reclaim()
