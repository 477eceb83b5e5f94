"""Which of the waiting consumers are polled for, in the entry that brings them messages.

    a topic gets messages, a lease ends, a slot is free ─▶ hungry groups ─▶ a Poll for each consumer in turn

Invariants: a consumer has at most one poll under way; a poll costs tokens of its topic's rate, and gives back what it
did not need.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import cast

from hermes.base.errors import HermesError
from hermes.broker.command_queue import Batch, Group
from hermes.broker.demand import Consumer, Demand
from hermes.broker.machine.commands import Ack, Poll
from hermes.broker.machine.machine import Delivery, Machine, Reply
from hermes.broker.rate_limit import RateLimits

_MANY = 1024
_MOST_TURNS = 16
"""Polls of a group in one entry. More consumers have their turn in the next one."""

Turn = tuple[Consumer, Poll]


class Turns:
    """Gives the consumers of each group their turns. ::

    turns = Turns(machine, demand)
    turns.look_at("orders", "billing")
    for consumer, poll in turns.take(batch, now_ms):
        ...
        turns.end(consumer, poll, reply, now_ms)
    """

    def __init__(self, machine: Machine, demand: Demand) -> None:
        self._machine = machine
        self._demand = demand
        self._rates = RateLimits()
        self._hungry: set[Group] = set()
        self.next_token_ms = math.inf
        """When a topic whose rate is used up has its next token, in Unix milliseconds."""

    def look_at(self, topic: str, group: str) -> None:
        """Note that a consumer of the group may get something."""
        self._hungry.add((topic, group))

    def take(self, batch: Batch, now_ms: int) -> list[Turn]:
        """The polls at the end of the entry that has this batch."""
        # Taken out first, for `_of_group` notes the groups that want another poll in the next entry.
        hungry, self._hungry = self._hungry, set()
        brought = dict(batch.returned)
        for topic, count in batch.produced.items():
            for group in self._demand.groups(topic):
                brought[topic, group] = brought.get((topic, group), 0) + count
        for command in batch.commands:
            # The end of a message lets the next one of its key be delivered.
            if type(command) is Ack and self._keeps_orders(command.topic):
                key = command.topic, command.group
                brought[key] = brought.get(key, 0) + len(command.lease_ids)
        turns: list[Turn] = []
        for (topic, group), count in brought.items():
            # A group that was hungry before has more than the entry brings.
            turns += self._of_group(topic, group, now_ms, _MANY if (topic, group) in hungry else count)
        for topic, group in hungry - brought.keys():
            some = self._machine.has_some(topic, group, now_ms)
            # With none, only consumers that are eager get a poll.
            turns += self._of_group(topic, group, now_ms, _MANY if some else 0)
        return turns

    def _of_group(self, topic: str, group: str, now_ms: int, available: int) -> Iterator[Turn]:
        """Polls for the consumers in turn, for about as many messages as there may be."""
        found = self._machine.topics.get(topic)
        known = None if found is None else found.groups.get(group)
        if known is not None and known.options.paused:
            available = 0
        turns = 0
        for consumer in self._demand.in_turn(topic, group):
            if consumer.polling or (available <= 0 and not consumer.eager):
                continue
            if (wanted := consumer.wanted(now_ms)) <= 0:
                continue
            # Last, since this takes tokens: a consumer that gets no poll must not cost any.
            granted = self._rates.grant(topic, None if found is None else found.limits, wanted, now_ms)
            if granted == 0:
                retry_after_ms = self._rates.retry_after_ms(topic, now_ms)
                self.next_token_ms = min(self.next_token_ms, now_ms + retry_after_ms)
                # The others of the group are asked too: each parked poll is told of the limit at once, even if it could
                # wait.
                consumer.limited(retry_after_ms)
                continue
            available -= granted
            consumer.polling = True
            yield consumer, Poll(topic, group, granted, consumer.visibility_ms, consumer.auto, consumer.holder)
            turns += 1
            if turns == _MOST_TURNS:
                self._hungry.add((topic, group))
                return

    def limited_ms(self, topic: str, now_ms: int) -> int:
        """For how long the rate of a topic lets no message through; 0 without a limit."""
        return self._rates.retry_after_ms(topic, now_ms)

    def _keeps_orders(self, topic: str) -> bool:
        found = self._machine.topics.get(topic)
        return found is not None and found.messages.keyed

    def end(self, consumer: Consumer, poll: Poll, reply: Reply | HermesError, now_ms: int) -> None:
        """Pass the outcome of a poll on to its consumer."""
        consumer.polling = False
        deliveries = cast(list[Delivery], reply) if isinstance(reply, list) else []
        self._rates.give_back(poll.topic, poll.most - len(deliveries))
        if isinstance(reply, HermesError):
            consumer.fail(reply)
            return
        consumer.deliver(deliveries, now_ms)
        if deliveries:
            # There may be more, for this consumer or for the next.
            self._hungry.add((poll.topic, poll.group))
