"""The commands that wait for their entry of the log, and who asked for each.

Invariants: commands leave in the order in which they came, except that acknowledgements go first and share a command a
group; an entry takes a bounded number and size of them; every answer is called once. Knows neither log nor machine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from hermes.base.errors import HermesError
from hermes.base.repeated_event import RepeatedEvent
from hermes.broker.machine.commands import Ack, AnyCommand, CreateTopic, Nack, Produce, SetRateLimit, SetRetention
from hermes.broker.machine.machine import Reply

# The bounds of HermesMQ's batches.
MAX_PRODUCES = 256
MAX_ENTRY_BYTES = 512 * 2**10
MAX_OTHERS = 1024
"""An entry that has so much takes no more commands, so that the first of them does not wait long."""

MAX_QUEUED_BYTES = 64 * 2**20
"""Payloads that wait for their entry. Beyond, no connection is read from."""

Answer = Callable[[Reply | HermesError], None]
"""Called once, with the reply of the machine, or with the reason why the command was not committed."""

Group = tuple[str, str]
"""A topic and a group of it."""


def ignore(_outcome: Reply | HermesError) -> None:
    """The `Answer` of whoever does not ask."""


@dataclass
class Batch:
    """The commands of one entry. ``answers`` has the answers to the first of them; the others have none."""

    commands: list[AnyCommand] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    produced: dict[str, int] = field(default_factory=dict)
    """How many messages come into each topic."""
    returned: dict[Group, int] = field(default_factory=dict)
    """How many messages come back to each group."""
    made: dict[str, None] = field(default_factory=dict)
    """The topics that are made unless they exist, and get no message."""


class CommandQueue:
    """Commands, acknowledgements and messages that are given back.

    >>> queue = CommandQueue()
    >>> queue.submit(Produce("orders", b"hi"))
    >>> queue.ack("orders", "billing", [7], print)
    >>> queue.ack("orders", "billing", [8], print)
    >>> batch = queue.take()
    >>> [type(command).__name__ for command in batch.commands], batch.commands[0].lease_ids
    (['Ack', 'Produce'], (7, 8))
    """

    def __init__(self) -> None:
        self.below_bound = RepeatedEvent()
        """Set when there is room again."""
        self._commands: deque[tuple[AnyCommand, Answer]] = deque()
        self._bytes = 0
        self._acks: dict[Group, list[int]] = {}
        self._nacks: dict[Group, list[int]] = {}
        self._closers: list[Answer] = []

    @property
    def full(self) -> bool:
        """Whether the payloads that wait are as many as may wait."""
        return self._bytes >= MAX_QUEUED_BYTES

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._commands or self._closers)

    def submit(self, command: AnyCommand, answer: Answer = ignore) -> None:
        """Add a command."""
        self._commands.append((command, answer))
        if type(command) is Produce:
            # Only payloads count: other commands are small, and a connection has 32 of them at most.
            self._bytes += len(command.payload)

    def ack(self, topic: str, group: str, lease_ids: Iterable[int], answer: Answer) -> None:
        """Add an acknowledgement."""
        self._acks.setdefault((topic, group), []).extend(lease_ids)
        self._closers.append(answer)

    def nack(self, topic: str, group: str, lease_ids: Iterable[int], answer: Answer) -> None:
        """Add that messages are given back."""
        self._nacks.setdefault((topic, group), []).extend(lease_ids)
        self._closers.append(answer)

    def take(self) -> Batch:
        """Take out the commands of the next entry."""
        batch = Batch()
        self._take_closed(batch)
        if batch.commands:
            # One command stands for many requests, so one answer answers them all.
            batch.answers += [ignore] * (len(batch.commands) - 1) + [_answer_all(self._closers)]
            self._closers = []
        self._take_commands(batch)
        return batch

    def _take_closed(self, batch: Batch) -> None:
        acks, self._acks = self._acks, {}
        nacks, self._nacks = self._nacks, {}
        # Of a group the acknowledgements come before the messages that are given back, as in HermesMQ.
        batch.commands += [Ack(*group, tuple(leases)) for group, leases in acks.items()]
        batch.commands += [Nack(*group, tuple(leases)) for group, leases in nacks.items()]
        batch.returned = {group: len(leases) for group, leases in nacks.items()}

    def _take_commands(self, batch: Batch) -> None:
        size = produces = others = 0
        was_full = self.full
        # Asked before a command is added: a payload may overshoot the bound, and so the largest one finds room as well.
        while self._commands and produces < MAX_PRODUCES and size < MAX_ENTRY_BYTES and others < MAX_OTHERS:
            command, answer = self._commands.popleft()
            batch.commands.append(command)
            batch.answers.append(answer)
            if type(command) is Produce:
                produces += 1
                size += len(command.payload)
                batch.produced[command.topic] = batch.produced.get(command.topic, 0) + 1
            else:
                others += 1
                if isinstance(command, (CreateTopic, SetRateLimit, SetRetention)):
                    batch.made[command.topic] = None
        self._bytes -= size
        # Here and not at the answer: the payloads of an entry that is committed are bounded by the entry's own size.
        if was_full and not self.full:
            self.below_bound.set()


def _answer_all(answers: list[Answer]) -> Answer:
    def answer(outcome: Reply | HermesError) -> None:
        for each in answers:
            each(outcome)

    return answer
