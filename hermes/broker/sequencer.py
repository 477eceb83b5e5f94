"""Puts all commands into one order: appends them to the log, applies them, and answers each.

    clients ── submit, ack ──▶ queue ── one entry for all that wait ──▶ log ──▶ machine ──▶ answers, deliveries

Invariants: a command is answered only after its entry is durable and applied; an entry that could not be appended was
never applied, and each of its commands fails; whoever waits for messages is polled for in the entry that brings them,
so that a delivery costs no commit of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import structlog
import trio

from hermes.base.errors import HermesError
from hermes.base.repeated_event import RepeatedEvent
from hermes.broker.command_queue import Answer, Batch, CommandQueue, ignore
from hermes.broker.demand import Consumer, Demand
from hermes.broker.machine.commands import (
    AnyCommand,
    Entry,
    Forward,
    Nack,
    Produce,
    Register,
    SetGroup,
    Wake,
    encode_entry,
)
from hermes.broker.machine.machine import Machine, Reply
from hermes.broker.payloads import Payloads
from hermes.broker.turns import Turn, Turns
from hermes.store.log import Log

_log = structlog.get_logger("hermes.broker")

# Notices leases that have expired, which no command does.
_TICK_SECONDS = 0.2
# Of the time that an idle group is kept: how often a group for which somebody waits is noted as in use.
_TOUCHES = 8


class Sequencer:
    """The one writer of the broker's log. ``clock`` gives Unix milliseconds. ::

    sequencer.submit(Produce("orders", b"hi"), lambda outcome: print("offset", outcome))
    await sequencer.run()
    """

    def __init__(self, log: Log, machine: Machine, payloads: Payloads, clock: Callable[[], int]) -> None:
        self.machine = machine
        self.payloads = payloads
        self.queue = CommandQueue()
        self.demand = Demand()
        self._turns = Turns(machine, self.demand)
        self._log = log
        self._clock = clock
        self._committing = False
        self._committed_at = -math.inf
        self._work = RepeatedEvent()
        # When a delay ends for a group for which somebody waits, or later.
        self._next_delay_ms = math.inf
        self._earlier = RepeatedEvent()
        self._closed = False

    # --- what clients ask ---

    @property
    def now_ms(self) -> int:
        """The log's time, which never goes back."""
        return max(self.machine.time_ms, self._clock())

    @property
    def busy(self) -> bool:
        """Whether commands wait for their entry, or for its commit."""
        return self._committing or bool(self.queue)

    def since_commit_ms(self) -> float:
        """Milliseconds since the log took an entry; 0 if it never did."""
        return max(0.0, (trio.current_time() - self._committed_at) * 1000) if self._committed_at > -math.inf else 0.0

    def submit(self, command: AnyCommand, answer: Answer = ignore) -> None:
        """Commit and apply a command."""
        self.queue.submit(command, answer)
        self._work.set()

    def ack(self, topic: str, group: str, lease_ids: Iterable[int], answer: Answer = ignore) -> None:
        """Commit and apply an acknowledgement."""
        self.queue.ack(topic, group, lease_ids, answer)
        self._work.set()

    def nack(self, topic: str, group: str, lease_ids: Iterable[int], answer: Answer = ignore) -> None:
        """Commit and apply that messages are given back."""
        self.queue.nack(topic, group, lease_ids, answer)
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
        self._turns.look_at(consumer.topic, consumer.group)
        self._work.set()

    def leave(self, consumer: Consumer) -> None:
        """Deliver nothing more to a consumer."""
        self.demand.remove(consumer)

    def limited_ms(self, topic: str) -> int:
        """For how long the rate of a topic lets no message through, in milliseconds."""
        return self._turns.limited_ms(topic, self.now_ms)

    # --- the one task ---

    async def run(self) -> None:
        """Commit whatever is asked, until `close`, and then all that still waits."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tick)
            while True:
                batch, turns = self._form_entry()
                if batch.commands:
                    await self._commit(batch, turns)
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
            next_tick = trio.current_time() + _TICK_SECONDS
            while trio.current_time() < next_tick:
                until_due = (min(self._turns.next_token_ms, self._next_due_ms()) - self.now_ms) / 1000
                if until_due <= 0:
                    break
                # Set for each token, message and delay of an entry: its time may come before the tick.
                with trio.move_on_at(min(next_tick, trio.current_time() + until_due)):
                    await self._earlier.wait()
            # Whatever the times say, other tasks have their turn.
            await trio.lowlevel.checkpoint()
            now_ms = self.now_ms
            self._turns.next_token_ms = self._next_delay_ms = math.inf
            if (self.machine.next_due() or math.inf) <= now_ms:
                await self._let_in()
            for topic, group in self.demand.everywhere():
                self._next_delay_ms = min(self._next_delay_ms, self.machine.next_delay(topic, group, now_ms))
                if self.machine.has_some(topic, group, now_ms):
                    self._turns.look_at(topic, group)
                    self._work.set()
                if self._has_rested(topic, group, now_ms):
                    self.submit(Register(topic, group))

    def _next_due_ms(self) -> float:
        """When the next message enters its topic, or comes back to a group for which somebody waits."""
        due_ms = self.machine.next_due()
        return self._next_delay_ms if due_ms is None else min(self._next_delay_ms, due_ms)

    async def _let_in(self) -> None:
        """Let the messages whose time has come enter their topics."""
        try:
            await commit_all(self, [Wake()])
        except HermesError:
            # Told where the entry failed.
            await trio.sleep(_TICK_SECONDS)

    def _has_rested(self, topic_name: str, group_name: str, now_ms: int) -> bool:
        """Whether a group for which somebody waits has to be noted as in use, or it would be dropped as idle."""
        topic = self.machine.topics.get(topic_name)
        group = None if topic is None else topic.groups.get(group_name)
        return group is not None and now_ms - group.active_ms > self.machine.caps.group_ttl_ms // _TOUCHES

    def _form_entry(self) -> tuple[Batch, list[Turn]]:
        """The commands of the next entry, with the polls at its end."""
        batch = self.queue.take()
        due = self.machine.count_due(self.now_ms) if self.machine.next_due() is not None else {}
        for topic, count in due.items():
            batch.produced[topic] = batch.produced.get(topic, 0) + count
        turns = self._turns.take(batch, self.now_ms)
        if self._turns.next_token_ms < math.inf:
            self._earlier.set()
        for topic in (*batch.produced, *batch.made):
            if topic not in self.machine.topics:
                # Before any group can acknowledge in a new topic, each that waits for the topic is a group of it.
                batch.commands += [Register(topic, group) for group in self.demand.groups(topic)]
        batch.commands += [poll for _, poll in turns]
        return batch, turns

    def _note_delays(self, entry: Entry) -> None:
        """Let the tick know of times that may come before the next one."""
        for command in entry.commands:
            if type(command) is Nack and command.delay_ms:
                self._next_delay_ms = min(self._next_delay_ms, self.machine.time_ms + command.delay_ms)
                self._earlier.set()
            elif type(command) is SetGroup:
                self._turns.look_at(command.topic, command.group)
            elif (type(command) is Produce and command.delay_ms) or type(command) is Forward:
                self._earlier.set()

    async def _commit(self, batch: Batch, turns: list[Turn]) -> None:
        entry = Entry(self.now_ms, tuple(batch.commands))
        self._committing = True
        try:
            index = await self._log.append([encode_entry(entry)], expected_index=self._log.next)
        except HermesError as error:
            _log.error("the broker's log takes no entry", reason=str(error))
            for answer in batch.answers:
                answer(error)
            for consumer, poll in turns:
                self._turns.end(consumer, poll, error, self.now_ms)
            return
        finally:
            self._committing = False
        self._committed_at = trio.current_time()
        replies = self.machine.apply(index, entry)
        self._note_delays(entry)
        self.payloads.keep(index, entry.commands)
        for answer, reply in zip(batch.answers, replies, strict=False):
            answer(reply)
        of_turns = replies[len(replies) - len(turns) :]
        for (consumer, poll), reply in zip(turns, of_turns, strict=True):
            self._turns.end(consumer, poll, reply, self.machine.time_ms)


async def commit_all(sequencer: Sequencer, commands: Sequence[AnyCommand]) -> list[Reply]:
    """The reply to each command, once all are durable. Raises `LogUnavailable` if one is not.

    ::

        (offset,) = await commit_all(sequencer, [Produce("orders", b"hi")])
    """
    while sequencer.queue.full:
        await sequencer.queue.below_bound.wait()
    # In the order of the commands: the sequencer answers them as it takes them.
    outcomes: list[Reply | HermesError] = []
    answered = trio.Event()

    def answer(outcome: Reply | HermesError) -> None:
        outcomes.append(outcome)
        if len(outcomes) == len(commands):
            answered.set()

    for command in commands:
        sequencer.submit(command, answer)
    await answered.wait()
    for outcome in outcomes:
        if isinstance(outcome, HermesError):
            raise outcome
    return [outcome for outcome in outcomes if not isinstance(outcome, HermesError)]
