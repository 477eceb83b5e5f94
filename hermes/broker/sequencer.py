"""Puts all commands into one order: appends them to the log, applies them, and answers each.

    clients ── submit, ack ──▶ queue ── one entry for all that wait ──▶ log ──▶ machine ──▶ answers, deliveries

Invariants: a command is answered only after its entry is durable and applied; an entry that could not be appended was
never applied, and each of its commands fails; whoever waits for messages is polled for in the entry that brings them,
so that a delivery costs no commit of its own.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import structlog
import trio

from hermes.base.errors import HermesError
from hermes.base.repeated_event import RepeatedEvent
from hermes.broker.demand import Consumer, Demand
from hermes.broker.machine.commands import (
    Ack,
    AnyCommand,
    CreateTopic,
    Entry,
    Nack,
    Poll,
    Produce,
    Register,
    SetRateLimit,
    SetRetention,
    encode_entry,
)
from hermes.broker.machine.machine import Machine, Reply
from hermes.broker.payloads import Payloads
from hermes.broker.rate_limit import TokenBucket
from hermes.store.log import Log

_log = structlog.get_logger("hermes.broker")

MAX_PRODUCES = 256
MAX_ENTRY_BYTES = 512 * 2**10
MAX_OTHERS = 1024
"""An entry that has so much takes no more commands, so that the first of them does not wait long."""

MAX_QUEUED_BYTES = 64 * 2**20
"""Payloads that wait for their entry. Beyond, no connection is read from."""

_TURNS = 16
# Notices leases that have expired, which no command does.
_TICK_SECONDS = 0.2
# Of the time that an idle group is kept: how often one that somebody waits for is noted as in use.
_TOUCHES = 8

Answer = Callable[[Reply | HermesError], None]
"""Called once, with the reply of the machine, or with the reason why the command was not committed."""

Group = tuple[str, str]
"""A topic and a group of it."""


def ignore(_outcome: Reply | HermesError) -> None:
    """The `Answer` of whoever does not ask."""


@dataclass
class _Returned:
    """The leases that were acknowledged or given back since the last entry, by group, and who asked."""

    acks: dict[Group, list[int]] = field(default_factory=dict)
    nacks: dict[Group, list[int]] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)

    def commands(self) -> Iterable[AnyCommand]:
        for group, leases in self.acks.items():
            yield Ack(*group, tuple(leases))
        for group, leases in self.nacks.items():
            yield Nack(*group, tuple(leases))


class Sequencer:
    """The one writer of the broker's log. ``clock`` gives Unix milliseconds. ::

    sequencer.submit(Produce("orders", b"hi"), lambda outcome: print("offset", outcome))
    await sequencer.run()
    """

    def __init__(self, log: Log, machine: Machine, payloads: Payloads, clock: Callable[[], int]) -> None:
        self.machine = machine
        self.payloads = payloads
        self.demand = Demand()
        self.below_bound = RepeatedEvent()
        """Set when the queue has room again."""
        self._log = log
        self._clock = clock
        self._queue: deque[tuple[AnyCommand, Answer]] = deque()
        self._queued_bytes = 0
        self._returned = _Returned()
        # Groups for which somebody waits, and which may have something to deliver.
        self._hungry: set[Group] = set()
        self._buckets: dict[str, TokenBucket] = {}
        # When a topic whose rate is used up has its next token.
        self._next_token_ms = math.inf
        self._committing = False
        self._committed_at = -math.inf
        self._work = RepeatedEvent()
        self._closed = False

    # --- what clients ask ---

    @property
    def now_ms(self) -> int:
        """The log's time, which never goes back."""
        return max(self.machine.time_ms, self._clock())

    @property
    def busy(self) -> bool:
        """Whether commands wait for their entry, or for its commit."""
        return self._committing or bool(self._queue) or bool(self._returned.answers)

    def since_commit_ms(self) -> float:
        """Milliseconds since the log took an entry; 0 if it never did."""
        return max(0.0, (trio.current_time() - self._committed_at) * 1000) if self._committed_at > -math.inf else 0.0

    @property
    def full(self) -> bool:
        """Whether the payloads that wait are as many as may wait."""
        return self._queued_bytes >= MAX_QUEUED_BYTES

    def submit(self, command: AnyCommand, answer: Answer = ignore) -> None:
        """Commit and apply a command."""
        self._queue.append((command, answer))
        if type(command) is Produce:
            self._queued_bytes += len(command.payload)
        self._work.set()

    def ack(self, topic: str, group: str, lease_ids: Iterable[int], answer: Answer = ignore) -> None:
        """Commit and apply an acknowledgement; those of one group share a command."""
        self._give_back(self._returned.acks, (topic, group), lease_ids, answer)

    def nack(self, topic: str, group: str, lease_ids: Iterable[int], answer: Answer = ignore) -> None:
        """Commit and apply that messages are given back."""
        self._give_back(self._returned.nacks, (topic, group), lease_ids, answer)
        self._hungry.add((topic, group))

    def _give_back(self, kind: dict[Group, list[int]], group: Group, lease_ids: Iterable[int], answer: Answer) -> None:
        kind.setdefault(group, []).extend(lease_ids)
        self._returned.answers.append(answer)
        self._work.set()

    def wait_for_messages(self, consumer: Consumer) -> None:
        """Deliver to a consumer as soon as there is something, until `leave`."""
        self.demand.add(consumer)
        topic = self.machine.topics.get(consumer.topic)
        if topic is not None and consumer.group not in topic.groups:
            # Now, and not with its first message: another group's acknowledgements would take these away.
            self.submit(Register(consumer.topic, consumer.group))
        self.look_again(consumer)

    def look_again(self, consumer: Consumer) -> None:
        """Note that a consumer may want messages."""
        self._hungry.add((consumer.topic, consumer.group))
        self._work.set()

    def leave(self, consumer: Consumer) -> None:
        """Deliver nothing more to a consumer."""
        self.demand.remove(consumer)

    # --- the one task ---

    async def run(self) -> None:
        """Commit whatever is asked, until `close`, and then all that still waits."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tick)
            while True:
                commands, answers, polls = self._form_entry()
                if commands:
                    await self._commit(commands, answers, polls)
                elif self._closed:
                    break
                else:
                    await self._work.wait()
            nursery.cancel_scope.cancel()

    def close(self) -> None:
        """Let `run` end once nothing waits."""
        self._closed = True
        self._work.set()

    async def _tick(self) -> None:
        while True:
            await trio.sleep(min(_TICK_SECONDS, max(0.001, (self._next_token_ms - self.now_ms) / 1000)))
            now_ms = self.now_ms
            self._next_token_ms = math.inf
            often_ms = self.machine.caps.group_ttl_ms // _TOUCHES
            for topic_name, group_name in self.demand.everywhere():
                if self.machine.has_some(topic_name, group_name, now_ms):
                    self._hungry.add((topic_name, group_name))
                    self._work.set()
                topic = self.machine.topics.get(topic_name)
                group = None if topic is None else topic.groups.get(group_name)
                if group is not None and group.active_ms + often_ms < now_ms:
                    self.submit(Register(topic_name, group_name))

    # --- one entry ---

    def _form_entry(self) -> tuple[list[AnyCommand], list[Answer], list[tuple[Consumer, int]]]:
        """The commands of the next entry, the answers to the first of them, and who gets the polls at its end."""
        returned, self._returned = self._returned, _Returned()
        commands = list(returned.commands())
        # One command acknowledges for many.
        answers: list[Answer] = [ignore] * len(commands)
        if commands:
            answers[-1] = _answer_all(returned.answers)
        produced: dict[str, int] = {}
        made: dict[str, None] = {}
        size = others = count = 0
        queue = self._queue
        was_full = self.full
        while queue and count < MAX_PRODUCES and size < MAX_ENTRY_BYTES and others < MAX_OTHERS:
            command, answer = queue.popleft()
            if type(command) is Produce:
                count += 1
                size += len(command.payload)
                produced[command.topic] = produced.get(command.topic, 0) + 1
            else:
                others += 1
                if isinstance(command, (CreateTopic, SetRateLimit, SetRetention)):
                    made[command.topic] = None
            commands.append(command)
            answers.append(answer)
        self._queued_bytes -= size
        if was_full and not self.full:
            self.below_bound.set()
        for topic in (*produced, *made):
            if topic not in self.machine.topics:
                # Before any group can acknowledge in a new topic, each that waits for it is a group of it.
                commands += [Register(topic, group) for group in self.demand.groups(topic)]
        polls = self._polls(produced)
        return commands + [poll for _, poll in polls], answers, [(each, poll.most) for each, poll in polls]

    def _polls(self, produced: dict[str, int]) -> list[tuple[Consumer, Poll]]:
        now_ms = self.now_ms
        polls: list[tuple[Consumer, Poll]] = []
        hungry, self._hungry = self._hungry, set()
        for topic, count in produced.items():
            for group in self.demand.groups(topic):
                hungry.discard((topic, group))
                polls += self._polls_of(topic, group, now_ms, count)
        for topic, group in hungry:
            some = self.machine.has_some(topic, group, now_ms)
            polls += self._polls_of(topic, group, now_ms, MAX_OTHERS if some else 0)
        return polls

    def _polls_of(self, topic: str, group: str, now_ms: int, available: int) -> list[tuple[Consumer, Poll]]:
        """Polls for the consumers of a group in turn, for about as many messages as there may be."""
        polls: list[tuple[Consumer, Poll]] = []
        for consumer in self.demand.in_turn(topic, group):
            if consumer.polling or (available <= 0 and not consumer.eager):
                continue
            wanted = consumer.wanted(now_ms)
            if wanted <= 0:
                continue
            granted = self._grant(topic, wanted, now_ms)
            if granted == 0:
                consumer.limited(self._buckets[topic].retry_after_ms(now_ms))
                continue
            available -= granted
            consumer.polling = True
            polls.append((consumer, Poll(topic, group, granted, consumer.visibility_ms, consumer.auto)))
            if len(polls) == _TURNS:
                self._hungry.add((topic, group))
                break
        return polls

    def _grant(self, topic_name: str, wanted: int, now_ms: int) -> int:
        topic = self.machine.topics.get(topic_name)
        if topic is None or not topic.limits.rate_milli:
            self._buckets.pop(topic_name, None)
            return wanted
        limits = topic.limits
        bucket = self._buckets.get(topic_name)
        if bucket is None:
            bucket = self._buckets[topic_name] = TokenBucket(limits.rate_milli, limits.burst, now_ms)
        else:
            bucket.change(limits.rate_milli, limits.burst, now_ms)
        granted = bucket.take(wanted, now_ms)
        if granted == 0:
            self._next_token_ms = min(self._next_token_ms, now_ms + bucket.retry_after_ms(now_ms))
        return granted

    async def _commit(
        self, commands: list[AnyCommand], answers: list[Answer], polls: list[tuple[Consumer, int]]
    ) -> None:
        entry = Entry(self.now_ms, tuple(commands))
        self._committing = True
        try:
            index = await self._log.append([encode_entry(entry)], expected_index=self._log.next)
        except HermesError as error:
            _log.error("the broker's log takes no entry", reason=str(error))
            self._fail(error, answers, polls)
            return
        finally:
            self._committing = False
        self._committed_at = trio.current_time()
        replies = self.machine.apply(index, entry)
        self.payloads.keep(index, entry.commands)
        for answer, reply in zip(answers, replies, strict=False):
            answer(reply)
        now_ms = self.machine.time_ms
        for (consumer, granted), reply in zip(polls, replies[len(replies) - len(polls) :], strict=True):
            consumer.polling = False
            deliveries = reply if isinstance(reply, list) else []
            if (bucket := self._buckets.get(consumer.topic)) is not None:
                bucket.give_back(granted - len(deliveries))
            consumer.deliver(deliveries, now_ms)
            if deliveries:
                # There may be more, for this consumer or for the next.
                self._hungry.add((consumer.topic, consumer.group))

    def _fail(self, error: HermesError, answers: list[Answer], polls: list[tuple[Consumer, int]]) -> None:
        for answer in answers:
            answer(error)
        for consumer, granted in polls:
            consumer.polling = False
            if (bucket := self._buckets.get(consumer.topic)) is not None:
                bucket.give_back(granted)
            consumer.fail(error)


def _answer_all(answers: list[Answer]) -> Answer:
    def answer(outcome: Reply | HermesError) -> None:
        for each in answers:
            each(outcome)

    return answer
