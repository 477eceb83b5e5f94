"""Who waits for messages: parked polls and subscriptions, by topic and group, and whose turn it is.

Invariants: a consumer has at most one poll under way; the consumers of a group take turns. Knows no connection.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from hermes.base.errors import HermesError
from hermes.broker.machine.machine import Delivery


class Consumer(Protocol):
    """A parked poll or a subscription."""

    topic: str
    group: str
    holder: str
    """Who gets the messages: the address of the client."""
    visibility_ms: int
    auto: bool
    eager: bool
    """Whether it wants a poll even if nothing can be delivered: commands before its own may bring something."""
    polling: bool
    """Whether a poll for it is under way. The sequencer's own mark."""

    def wanted(self, now_ms: int) -> int:
        """How many messages it takes now; 0 for none."""

    def deliver(self, deliveries: Sequence[Delivery], now_ms: int) -> None:
        """Take messages, no more than it wanted. Called after each poll for it, also after one that found nothing."""

    def limited(self, retry_after_ms: int) -> None:
        """The topic's rate is used up for so long."""

    def fail(self, error: HermesError) -> None:
        """Its poll could not be committed."""


class Demand:
    """The waiting consumers.

    ::

        demand.add(consumer)
        for consumer in demand.in_turn("orders", "billing"):
            ...
        demand.remove(consumer)
    """

    def __init__(self) -> None:
        # Of each topic the groups, and of each group its consumers, the next in turn first.
        # A dict in the place of a list: a consumer that leaves is found in one step, however many wait.
        self._topics: dict[str, dict[str, dict[Consumer, None]]] = {}

    def add(self, consumer: Consumer) -> None:
        """Let a consumer wait, behind the others of its group."""
        self._topics.setdefault(consumer.topic, {}).setdefault(consumer.group, {})[consumer] = None

    def remove(self, consumer: Consumer) -> None:
        """Let a consumer wait no longer."""
        # A consumer may leave twice: when it is answered, and when its connection ends.
        groups = self._topics.get(consumer.topic, {})
        consumers = groups.get(consumer.group, {})
        consumers.pop(consumer, None)
        # Or the names of every group that ever waited would stay in memory.
        if not consumers:
            groups.pop(consumer.group, None)
        if not groups:
            self._topics.pop(consumer.topic, None)

    def groups(self, topic: str) -> list[str]:
        """The groups of a topic for which somebody waits."""
        return list(self._topics.get(topic, ()))

    def everywhere(self) -> list[tuple[str, str]]:
        """Topic and group of every group for which somebody waits."""
        return [(topic, group) for topic, groups in self._topics.items() for group in groups]

    def in_turn(self, topic: str, group: str) -> Iterator[Consumer]:
        """Yield the consumers of a group, and move each that is yielded behind the others."""
        consumers = self._topics.get(topic, {}).get(group, {})
        # A list, since consumers leave while the caller is at them: a parked poll is answered when the rate is used up.
        for consumer in list(consumers):
            if consumer in consumers:
                # Moved before it is yielded: the caller may stop at any consumer, and the others are first the next
                # time.
                del consumers[consumer]
                consumers[consumer] = None
                yield consumer

    def count(self, topic: str, group: str) -> int:
        """How many consumers of a group wait."""
        return len(self._topics.get(topic, {}).get(group, ()))

    def everyone(self) -> list[Consumer]:
        """Every consumer that waits."""
        return [each for groups in self._topics.values() for consumers in groups.values() for each in consumers]

    def __len__(self) -> int:
        """How many consumers wait."""
        return sum(len(consumers) for groups in self._topics.values() for consumers in groups.values())
