"""The whole state of a `Machine` as bytes, and back.

Format: MessagePack; a version, the state of the cluster, then each topic, with its messages as they lie in memory.
Invariant: a restored machine gives the same replies for ever after. `copy` walks over leases and keys, and copies the
rows of messages as bytes, so a million messages do not stall the broker's loop.
"""

from __future__ import annotations

import msgspec

from hermes.base.errors import LogDamaged
from hermes.broker.machine.commands import SetCaps
from hermes.broker.machine.done import Done
from hermes.broker.machine.group import Group, LeaseRun
from hermes.broker.machine.machine import Machine
from hermes.broker.machine.messages import Messages
from hermes.broker.machine.topic import Limits, Topic

VERSION = 1


class GroupState(msgspec.Struct, array_like=True, gc=False):
    """One group."""

    name: str
    watermark: int
    done: list[tuple[int, int]]
    leases: dict[int, int]
    runs: list[LeaseRun]
    returned: list[int]
    fresh: list[int]
    polls: int
    active_ms: int


class TopicState(msgspec.Struct, array_like=True, gc=False):
    """One topic. ``keys`` are producer id, sequence number and offset."""

    name: str
    first: int
    rows: bytes
    keys: list[tuple[str, int, int]]
    limits: Limits
    groups: list[GroupState]


class State(msgspec.Struct, array_like=True, gc=False):
    """The whole state, at one index of the log."""

    version: int
    time_ms: int
    next_index: int
    next_lease: int
    nodes: dict[int, str]
    leader: int
    term: int
    caps: SetCaps
    topics: list[TopicState]


def copy(machine: Machine) -> State:
    """A copy of the state, which later commands do not change.

    >>> decode(encode(copy(Machine()))).topics
    {}
    """
    return State(
        VERSION,
        machine.time_ms,
        machine.next_index,
        machine.next_lease,
        dict(machine.nodes),
        machine.leader,
        machine.term,
        machine.caps,
        [_copy_topic(name, topic) for name, topic in machine.topics.items()],
    )


def _copy_topic(name: str, topic: Topic) -> TopicState:
    first, rows = topic.messages.dump()
    groups = [_copy_group(each, group, topic.messages) for each, group in topic.groups.items()]
    return TopicState(name, first, rows, topic.dedup.items(), topic.limits, groups)


def _copy_group(name: str, group: Group, messages: Messages) -> GroupState:
    return GroupState(
        name,
        group.done.watermark,
        group.done.ranges(),
        dict(group.leases),
        group.runs(),
        group.returned(),
        group.fresh(messages),
        group.polls,
        group.active_ms,
    )


encode = msgspec.msgpack.Encoder().encode
"""The bytes of a `State`. For a thread: a million messages take a while."""


def decode(state: bytes) -> Machine:
    """The machine of these bytes. Raises `LogDamaged` if they are no snapshot."""
    try:
        found = msgspec.msgpack.decode(state, type=State)
        if found.version != VERSION:
            raise LogDamaged(f"the broker's snapshot has version {found.version}, and this Hermes reads {VERSION}")
        machine = Machine()
        machine.time_ms, machine.next_index, machine.next_lease = found.time_ms, found.next_index, found.next_lease
        machine.nodes, machine.leader, machine.term, machine.caps = found.nodes, found.leader, found.term, found.caps
        machine.topics = {topic.name: _restore_topic(topic) for topic in found.topics}
    except (msgspec.DecodeError, ValueError, IndexError) as error:
        raise LogDamaged(f"the broker's snapshot cannot be read: {error}") from error
    return machine


def _restore_topic(state: TopicState) -> Topic:
    topic = Topic()
    messages = Messages.restore(state.first, state.rows)
    groups = {group.name: _restore_group(group, messages) for group in state.groups}
    topic.restore(messages, groups, state.limits)
    for producer, seq, offset in state.keys:
        topic.dedup.add((producer, seq), offset)
    return topic


def _restore_group(state: GroupState, messages: Messages) -> Group:
    group = Group(messages, state.active_ms)
    group.done = Done(state.watermark, state.done)
    group.polls = state.polls
    group.restore(messages, state.leases, state.runs, state.returned, state.fresh)
    return group
