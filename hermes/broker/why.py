"""Says in one sentence why a group of a topic gets no message, or that nothing is in its way. Pure.

Invariant: the first reason that holds is told, from the outside to the inside: the node, the topic, the group, its
messages, the rate, the consumers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from hermes.broker.machine.group import Group
from hermes.broker.machine.leases import LeaseRun, Leases
from hermes.broker.machine.topic import Topic

# More names would not fit into a sentence.
_MOST_HOLDERS = 3


@dataclass(frozen=True)
class Surroundings:
    """The facts beside the topic. ``now_ms`` is the log's time in Unix milliseconds.

    ``leader`` is the address of the leading node. ``consumers`` polls and subscriptions wait for the group's messages.
    The topic's rate lets no message through for ``limited_ms``.

    >>> Surroundings(1000).leads
    True
    """

    now_ms: int
    leads: bool = True
    leader: str = ""
    consumers: int = 0
    limited_ms: int = 0


def why(topic_name: str, topic: Topic | None, group_name: str, here: Surroundings) -> str:
    """The sentence.

    >>> topic = Topic()
    >>> why("orders", topic, "billing", Surroundings(1000))
    'The topic orders is empty.'
    >>> _ = topic.produce((1000, 0, 0, 5, 0, 0), ("", 0))
    >>> why("orders", topic, "billing", Surroundings(1000))
    'The group billing has never polled: its first poll begins at offset 0, with 1 message.'
    >>> group = topic.join("billing", 1000)
    >>> why("orders", topic, "billing", Surroundings(1000))
    'The group billing could have 1 message, and nobody asks: no poll waits, and nobody is subscribed.'
    >>> group.leases.add(0, group.take(topic.messages, 1), 31_000, "10.0.0.7:53422")
    >>> why("orders", topic, "billing", Surroundings(1000))
    'Of 1 message that billing has not done, 1 is leased to 10.0.0.7:53422 until 00:00:31 UTC (in 30 s).'
    """
    if not here.leads:
        there = f"the node at {here.leader} leads" if here.leader else "no leader is known"
        return f"This node delivers nothing, for it does not lead: {there}."
    if topic is None:
        return f"There is no topic {topic_name}: a produce makes it."
    group = topic.group(group_name)
    if group is None:
        return _no_group(topic_name, topic, group_name, here)
    lag = group.lag(topic.messages)
    # Before the lag: a group at the end that is paused gets nothing of what comes either.
    if group.options.paused:
        return f"The group {group_name} is paused, with {_messages(lag)} before it."
    if not lag:
        end = f"The group {group_name} is at the end of {topic_name}, at offset {topic.messages.next}"
        return f"{end}{_entering(topic, here)}."
    ready = _ready(topic, group, here.now_ms)
    if not ready:
        states = "; ".join(_states(group, here.now_ms))
        return f"Of {_messages(lag)} that {group_name} has not done, {states}."
    could = f"The group {group_name} could have {_messages(ready)}"
    if here.limited_ms:
        return f"{could}, and the rate of {topic_name} lets none through for {here.limited_ms:,} ms."
    if not here.consumers:
        return f"{could}, and nobody asks: no poll waits, and nobody is subscribed."
    waiting = "one consumer waits" if here.consumers == 1 else f"{here.consumers:,} consumers wait"
    return f"{could}, and {waiting}: nothing is in the way."


def _no_group(topic_name: str, topic: Topic, group_name: str, here: Surroundings) -> str:
    if not len(topic.messages):
        return f"The topic {topic_name} is empty{_entering(topic, here)}."
    begins = f"its first poll begins at offset {topic.messages.first}, with {_messages(len(topic.messages))}"
    return f"The group {group_name} has never polled: {begins}."


def _entering(topic: Topic, here: Surroundings) -> str:
    """The messages that enter the topic later, as the end of a sentence."""
    due_ms = topic.scheduled.next_due()
    if due_ms is None:
        return ""
    number = len(topic.scheduled)
    which = "one message enters" if number == 1 else f"{number:,} messages enter later, the first"
    return f"; {which} at {_time(due_ms, here.now_ms)}"


def _ready(topic: Topic, group: Group, now_ms: int) -> int:
    """How many messages could be delivered, those included whose lease or delay has ended."""
    # By the deadlines: a lease that has ended is reaped by the next poll, which then delivers its message.
    held = sum(run.deadline_ms > now_ms for leases in (group.leases, group.delays) for run in _each_lease(leases))
    return group.lag(topic.messages) - held - len(group.behind)


def _each_lease(leases: Leases) -> Iterator[LeaseRun]:
    """For each lease the run that has it."""
    there = leases.by_id()
    return (run for run in leases.runs() for lease in run.ids if lease in there)


def _states(group: Group, now_ms: int) -> Iterator[str]:
    """How many messages are in each state in which none can be delivered."""
    if number := len(group.leases):
        until = _time(group.leases.next_deadline() or 0, now_ms)
        holders = Counter(run.holder for run in _each_lease(group.leases))
        first = "" if number == 1 else ", the first"
        yield f"{number:,} {_be(number)} leased{_to(holders)}{first} until {until}"
    if number := len(group.delays):
        until = _time(group.delays.next_deadline() or 0, now_ms)
        first = "" if number == 1 else ", the first"
        yield f"{number:,} {_be(number)} delayed{first} until {until}"
    if number := len(group.behind):
        keys = "an older message of its key" if number == 1 else "older messages of their keys"
        yield f"{number:,} {_be(number)} behind {keys}"


def _to(holders: Counter[str]) -> str:
    """Who has the leases, the one with the most of them first."""
    known = [holder for holder, _ in holders.most_common(_MOST_HOLDERS) if holder]
    others = " and others" if known and len(holders) > len(known) else ""
    return f" to {', '.join(known)}{others}" if known else ""


def _time(at_ms: int, now_ms: int) -> str:
    left = max(0, at_ms - now_ms)
    clock = datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%H:%M:%S UTC")
    return f"{clock} (in {f'{left:,} ms' if left < 1000 else f'{left / 1000:,.0f} s'})"


def _messages(number: int) -> str:
    return "1 message" if number == 1 else f"{number:,} messages"


def _be(number: int) -> str:
    return "is" if number == 1 else "are"
