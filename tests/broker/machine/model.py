"""The broker as its specification says, naive and plain: every poll walks over the whole backlog.

Shares with the machine the commands and nothing else. Numbers in brackets are the sections of the specification.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hermes.broker.machine import commands as c

REFUSED = "refused"
"""The reply to what would create a topic or a group beyond the cap."""

GONE = "gone"
"""The reply to what needs a lease that is not there."""

LATER = 2**63
"""In replies and keys a message that enters later stands with its id above this number."""

EXPIRED = "its lease ended without an acknowledgement"
RETURNED = "its consumer gave it back"


@dataclass(frozen=True)
class Bounds:
    """The bounds that a command cannot set."""

    window: int = 100_000
    max_messages: int = 1_000_000
    max_poll_bytes: int = 16 * 2**20
    max_dead: int = 10_000


@dataclass(frozen=True)
class Kept:
    """A retained message."""

    time_ms: int
    record: int
    place: int
    size: int
    priority: int
    content_type: int
    back: int = 0


@dataclass
class ModelGroup:
    start: int
    active_ms: int
    polls: int = 0
    done: set[int] = field(default_factory=set)
    leases: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Offset and deadline, by id."""
    delays: dict[int, tuple[int, int]] = field(default_factory=dict)
    """As the leases: of messages that were given back with a delay."""
    attempts: dict[int, int] = field(default_factory=dict)
    paused: bool = False
    max_attempts: int = 0

    @property
    def watermark(self) -> int:
        offset = self.start
        while offset in self.done:
            offset += 1
        return offset

    def pass_over(self, first: int) -> None:
        self.start = max(self.start, first)
        self.leases = {lease: each for lease, each in self.leases.items() if each[0] >= self.start}
        self.delays = {lease: each for lease, each in self.delays.items() if each[0] >= self.start}

    def is_open(self, offset: int) -> bool:
        """Whether a message is not done."""
        return offset >= self.start and offset not in self.done


@dataclass
class ModelTopic:
    messages: dict[int, Kept] = field(default_factory=dict)
    order: dict[int, str] = field(default_factory=dict)
    """The key of each message that has one."""
    later: dict[int, tuple[int, c.Produce, Kept]] = field(default_factory=dict)
    """When a message enters, what was asked, and how it is kept; by id."""
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
        if group.paused:
            return []
        held = [*group.leases.values(), *group.delays.values()]
        leased = {offset for offset, deadline_ms in held if deadline_ms > now_ms}
        return [each for each in sorted(self.messages) if group.is_open(each) and each not in leased]

    def is_behind(self, group: ModelGroup, offset: int) -> bool:
        """Whether an older message of the same key is not done."""
        key = self.order.get(offset)
        return key is not None and any(
            self.order.get(each) == key and group.is_open(each) for each in self.messages if each < offset
        )

    def append(self, kept: Kept, key: str) -> int:
        offset = self.next
        if key:
            before = [each for each in self.messages if self.order.get(each) == key]
            kept = replace(kept, back=offset - max(before) if before else 0)
            self.order[offset] = key
        self.messages[offset] = kept
        self.next += 1
        return offset

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
        self.next_id = 0
        self.dead: dict[int, tuple[str, str, int, int, str]] = {}
        """Topic, group, offset, attempts and reason, by id."""
        self.caps = c.SetCaps(10_000, 1_000, 7 * 86_400_000)

    def apply(self, index: int, entry: c.Entry) -> list[object]:
        self.time_ms = max(self.time_ms, entry.time_ms)
        for name in sorted(self.topics):
            self._let_in(self.topics[name])
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
                return self._finish(command)
            case c.Extend():
                return self._extend(command)
            case c.Forward():
                return self._forward(index, place, command)
            case c.Cancel():
                known = self.topics.get(command.topic)
                return known is not None and known.later.pop(command.id, None) is not None
            case c.SetGroup():
                return self._set_group(command)
            case c.Bury():
                for each in command.ids:
                    self.dead.pop(each, None)
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
        content_type = command.content_type if command.content_type in range(4) else 0
        kept = Kept(self.time_ms, index, place, len(command.payload), min(command.priority, 7), content_type)
        key = (command.producer_id, command.seq)
        for id_, (_, other, _) in topic.later.items():
            if command.producer_id and (other.producer_id, other.seq) == key:
                return LATER + id_
        offset = dict(topic.keys).get(key) if command.producer_id else None
        if command.delay_ms:
            if offset is not None:
                return offset
            id_, self.next_id = self.next_id, self.next_id + 1
            topic.later[id_] = (self.time_ms + command.delay_ms, command, kept)
            return LATER + id_
        if offset is None:
            offset = self._append(topic, kept, command)
        topic.retain(self.time_ms, self.bounds)
        return offset

    def _append(self, topic: ModelTopic, kept: Kept, command: c.Produce) -> int:
        offset = topic.append(kept, command.key)
        if command.producer_id:
            key = (command.producer_id, command.seq)
            topic.keys = [*topic.keys, (key, offset)][-self.bounds.window :]
        return offset

    def _let_in(self, topic: ModelTopic) -> None:
        """The messages whose time has come enter, the earliest first."""
        due = sorted((due_ms, id_) for id_, (due_ms, _, _) in topic.later.items() if due_ms <= self.time_ms)
        for _, id_ in due:
            _, command, kept = topic.later.pop(id_)
            self._append(topic, replace(kept, time_ms=self.time_ms), command)
            topic.retain(self.time_ms, self.bounds)

    def _forward(self, index: int, place: int, command: c.Forward) -> object:
        known = self.topics.get(command.topic)
        group = None if known is None else known.groups.get(command.group)
        if group is None or command.lease_id not in group.leases | group.delays:
            return GONE
        reply = self._produce(index, place, command.produce)
        if reply != REFUSED:
            self._finish(c.Ack(command.topic, command.group, (command.lease_id,)))
        return reply

    def _extend(self, command: c.Extend) -> object:
        known = self.topics.get(command.topic)
        group = None if known is None else known.groups.get(command.group)
        if group is None:
            return []
        found = [lease for lease in command.lease_ids if lease in group.leases]
        for lease in found:
            group.leases[lease] = (group.leases[lease][0], self.time_ms + command.visibility_ms)
        return found

    def _set_group(self, command: c.SetGroup) -> object:
        if self._create(command.topic) is None:
            return REFUSED
        found = self._join(command.topic, command.group)
        if found is None:
            return REFUSED
        group = found[1]
        group.paused = group.paused if command.paused is None else command.paused
        group.max_attempts = group.max_attempts if command.max_attempts is None else command.max_attempts
        return None

    def _fail(self, names: tuple[str, str], offsets: list[int], reason: str) -> None:
        """An attempt at each failed; those without another one become dead letters, as far as there is room."""
        topic = self.topics[names[0]]
        group = topic.groups[names[1]]
        for offset in offsets:
            group.attempts[offset] = group.attempts.get(offset, 0) + 1
        for offset in [each for each in offsets if self._is_spent(group, each)]:
            if len(self.dead) < self.bounds.max_dead:
                self.dead[self.next_id] = (*names, offset, group.attempts.pop(offset), reason)
                self.next_id += 1
                group.done.add(offset)
            topic.reclaim()

    def _join(self, topic_name: str, name: str) -> tuple[ModelTopic, ModelGroup] | None:
        """The group, in use now; idle ones are dropped, and none is created beyond the cap (3, 8)."""
        topic = self.topics.get(topic_name)
        if topic is None:
            return None
        for other, group in list(topic.groups.items()):
            held = [*group.leases.values(), *group.delays.values()]
            live = any(deadline_ms > self.time_ms for _, deadline_ms in held)
            is_set_up = group.paused or group.max_attempts != 0
            if self.time_ms - group.active_ms >= self.caps.group_ttl_ms and not live and not is_set_up:
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
        ended = sorted((each[1], lease, each[0]) for lease, each in group.leases.items() if each[1] <= self.time_ms)
        group.leases = {lease: each for lease, each in group.leases.items() if each[1] > self.time_ms}
        group.delays = {lease: each for lease, each in group.delays.items() if each[1] > self.time_ms}
        self._fail((command.topic, command.group), [offset for _, _, offset in ended], EXPIRED)
        taken = self._choose(topic, group, command.most)
        group.polls += 1
        first, self.next_lease = self.next_lease, self.next_lease + len(taken)
        if command.auto:
            group.done.update(taken)
        else:
            deadline_ms = self.time_ms + command.visibility_ms
            group.leases |= {lease: (offset, deadline_ms) for lease, offset in enumerate(taken, first)}
        reply = [
            (lease, offset, topic.messages[offset], 1 + group.attempts.get(offset, 0))
            for lease, offset in enumerate(taken, first)
        ]
        if command.auto:
            topic.reclaim()
        return reply

    def _choose(self, topic: ModelTopic, group: ModelGroup, most: int) -> list[int]:
        """The offsets that a poll takes, in the order of delivery (9)."""

        def by_priority(offset: int) -> tuple[int, int]:
            return -topic.messages[offset].priority, offset

        waiting = topic.waiting(group, self.time_ms)
        reserved = min(most, most // 4 + (1 if (group.polls + 1) % 4 == 0 else 0))
        waiting = [offset for offset in waiting if not topic.is_behind(group, offset)]
        taken = sorted(waiting, key=by_priority)[: most - reserved]
        taken += [offset for offset in waiting if offset not in taken][: most - len(taken)]
        taken.sort(key=by_priority)
        while len(taken) > 1 and sum(topic.messages[each].size for each in taken) > self.bounds.max_poll_bytes:
            taken.pop()
        return taken

    def _finish(self, command: c.Ack | c.Nack | c.Commit) -> object:
        if isinstance(command, c.Commit):
            found = self._join(command.topic, command.group)
            if found is not None:
                topic, group = found
                group.pass_over(max(group.watermark, min(command.offset, topic.next)))
                topic.reclaim()
            return None
        known = self.topics.get(command.topic)
        later = isinstance(command, c.Nack) and command.delay_ms
        if known is None or command.group not in known.groups:
            return [] if later else None
        group = known.groups[command.group]
        leased = [group.leases.pop(lease)[0] for lease in command.lease_ids if lease in group.leases]
        delayed = [group.delays.pop(lease)[0] for lease in command.lease_ids if lease in group.delays]
        if isinstance(command, c.Ack):
            group.done.update(leased, delayed)
            for offset in (*leased, *delayed):
                group.attempts.pop(offset, None)
            known.reclaim()
            return None
        self._fail((command.topic, command.group), leased, command.reason or RETURNED)
        ids = None
        if later:
            kept = [offset for offset in leased if offset not in group.done] + delayed
            until_ms = self.time_ms + command.delay_ms
            # What has no attempt left, and finds no room among the dead letters, is delivered again at once.
            kept = [each for each in kept if each in delayed or not self._is_spent(group, each)]
            ids = list(range(self.next_lease, self.next_lease + len(kept)))
            group.delays |= {lease: (offset, until_ms) for lease, offset in zip(ids, kept, strict=True)}
            self.next_lease += len(ids)
        return ids

    @staticmethod
    def _is_spent(group: ModelGroup, offset: int) -> bool:
        return group.max_attempts != 0 and group.attempts.get(offset, 0) >= group.max_attempts
