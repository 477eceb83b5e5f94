"""The whole state of a machine as bytes, and back.

Invariant: a restored machine gives the same replies as the machine that was dumped, for ever after. The log guards the
bytes with a checksum of its own. Here bytes of another format are refused, and bytes of an impossible state.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import TypeVar

from hermes.base.errors import LogDamaged
from hermes.broker.machine.attempts import Attempts
from hermes.broker.machine.behind import Behind
from hermes.broker.machine.dedup import DedupWindow
from hermes.broker.machine.done import Done
from hermes.broker.machine.freeze import Freeze
from hermes.broker.machine.group import Group
from hermes.broker.machine.leases import Leases
from hermes.broker.machine.machine import DeadLetter, Machine
from hermes.broker.machine.messages import Messages
from hermes.broker.machine.pieces import (
    Dead,
    Delayed,
    Delays,
    End,
    Fails,
    GroupHead,
    Head,
    Held,
    Keys,
    Late,
    Orders,
    Piece,
    Ranges,
    Returned,
    Rows,
    Runs,
    Stands,
    TopicHead,
    Waits,
    decode,
    encode,
)
from hermes.broker.machine.scheduled import Scheduled
from hermes.broker.machine.topic import Topic
from hermes.broker.machine.waiting import Waiting

_MANY = 8_192
"""Elements of a list in one piece."""

T = TypeVar("T")
P = TypeVar("P", bound=Piece)


# --- dump ---


def dump(machine: Machine) -> Iterator[bytes]:
    """The machine at the time of the call, in chunks.

    Between two chunks the machine may apply commands, so a caller can let others run; each chunk takes a few
    milliseconds.

    >>> from hermes.broker.machine.commands import Entry, Produce
    >>> machine = Machine()
    >>> machine.apply(0, Entry(5, (Produce("orders", b"hi"),)))
    [0]
    >>> restore(b"".join(dump(machine))).retained
    1
    """
    # `dump` is no generator: head and freeze are of the moment of the call, and not of the first chunk.
    head = Head(
        machine.next_index,
        machine.time_ms,
        machine.next_lease,
        machine.nodes.copy(),
        machine.leader,
        machine.term,
        machine.caps,
        machine.next_id,
    )
    return encode(_pieces(head, list(machine.dead.items()), machine.freeze()))


def _pieces(head: Head, dead: list[tuple[int, DeadLetter]], topics: Freeze) -> Iterator[Piece]:
    yield head
    yield from map(Dead, _parts(dead))
    for name, topic in topics:
        yield TopicHead(name, topic.messages.first, topic.limits)
        yield from map(Rows, topic.messages.rows())
        yield from map(Orders, _parts(topic.messages.keys()))
        yield from map(Late, _parts(topic.messages.late()))
        yield from map(Keys, _parts(topic.dedup.items()))
        yield from map(Waits, _parts(topic.scheduled.items()))
        for group_name in topic.groups:
            yield from _group_pieces(group_name, topic)
    yield End()


def _group_pieces(name: str, topic: Topic) -> Iterator[Piece]:
    # Not out of the dict: this brings the group up to date with the retention, and `restore` refuses an older
    # watermark.
    group = topic.group(name)
    if group is None:
        return
    watermark = group.done.watermark
    fresh = group.waiting.fresh(topic.messages, watermark)
    yield GroupHead(name, watermark, group.polls, group.active_ms, fresh, group.options)
    yield from map(Ranges, _parts(group.done.ranges()))
    yield from map(Runs, _parts(group.leases.runs()))
    yield from map(Held, _parts(group.leases.by_id().items()))
    yield from map(Delays, _parts(group.delays.runs()))
    yield from map(Delayed, _parts(group.delays.by_id().items()))
    yield from map(Returned, _parts(group.waiting.returned(watermark)))
    yield from map(Stands, _parts(group.behind.offsets()))
    yield from map(Fails, _parts(group.attempts.items()))


def _parts(elements: Iterable[T]) -> Iterator[list[T]]:
    left = iter(elements)
    while part := list(islice(left, _MANY)):
        yield part


# --- restore ---


def restore(state: bytes) -> Machine:
    """The machine of these bytes, the chunks of `dump` put together. Raises `LogDamaged` if they are anything else.

    >>> restore(b"snapshot of a hermes broker, version 99\\n")
    Traceback (most recent call last):
    hermes.base.errors.LogDamaged: the broker's snapshot cannot be read: its version is 99, ...
    """
    try:
        return _restore_machine(_Reader(decode(state)))
    # Errors of msgspec are ValueErrors; an array raises OverflowError for an offset of more than 64 bits.
    except (ValueError, OverflowError) as error:
        raise LogDamaged(f"the broker's snapshot cannot be read: {error}") from error


class _Reader:
    """The pieces, in their order."""

    def __init__(self, pieces: Iterator[Piece]) -> None:
        self._pieces = pieces
        self._ahead = next(pieces, None)

    def take(self, kind: type[P]) -> P:
        """The next piece, which is of this kind."""
        piece = self._ahead
        if not isinstance(piece, kind):
            raise ValueError(f"a {type(piece).__name__} stands where a {kind.__name__} is due")
        self._ahead = next(self._pieces, None)
        return piece

    def take_all(self, kind: type[P]) -> Iterator[P]:
        """Take the pieces of this kind up to one of another kind."""
        while isinstance(self._ahead, kind):
            yield self.take(kind)

    def end(self) -> None:
        """Take the end, behind which there is nothing."""
        self.take(End)
        if self._ahead is not None:
            raise ValueError("something stands behind its end")


def _restore_machine(reader: _Reader) -> Machine:
    head = reader.take(Head)
    machine = Machine()
    machine.next_index, machine.time_ms, machine.next_lease = head.next_index, head.time_ms, head.next_lease
    machine.nodes, machine.leader, machine.term, machine.caps = head.nodes, head.leader, head.term, head.caps
    machine.next_id = head.next_id
    machine.dead = dict(chain.from_iterable(piece.letters for piece in reader.take_all(Dead)))
    for topic in reader.take_all(TopicHead):
        machine.topics[topic.name] = _restore_topic(topic, reader, head.next_lease)
    reader.end()
    machine.restore_due()
    return machine


def _restore_topic(head: TopicHead, reader: _Reader, next_lease: int) -> Topic:
    messages, dedup = Messages(head.first), DedupWindow()
    for piece in reader.take_all(Rows):
        messages.extend(piece.rows)
    orders = chain.from_iterable(piece.orders for piece in reader.take_all(Orders))
    late = chain.from_iterable(piece.messages for piece in reader.take_all(Late))
    messages.restore_keys(list(orders), list(late))
    for producer, seq, offset in chain.from_iterable(piece.keys for piece in reader.take_all(Keys)):
        dedup.add((producer, seq), offset)
    waits = list(chain.from_iterable(piece.messages for piece in reader.take_all(Waits)))
    for _, later in waits:
        messages.check(later.message)
    groups: OrderedDict[str, Group] = OrderedDict()
    for group in reader.take_all(GroupHead):
        groups[group.name] = _restore_group(group, reader, messages, next_lease)
    return Topic.restore(messages, dedup, groups, head.limits, Scheduled.restore(waits))


def _restore_group(head: GroupHead, reader: _Reader, messages: Messages, next_lease: int) -> Group:
    ranges = [each for piece in reader.take_all(Ranges) for each in piece.ranges]
    runs = [run for piece in reader.take_all(Runs) for run in piece.runs]
    leases = dict(chain.from_iterable(piece.leases for piece in reader.take_all(Held)))
    delays = [run for piece in reader.take_all(Delays) for run in piece.runs]
    delayed = dict(chain.from_iterable(piece.leases for piece in reader.take_all(Delayed)))
    returned = [offset for piece in reader.take_all(Returned) for offset in piece.offsets]
    stands = [offset for piece in reader.take_all(Stands) for offset in piece.offsets]
    fails = dict(chain.from_iterable(piece.counts for piece in reader.take_all(Fails)))
    if not messages.first <= head.watermark <= messages.next:
        raise ValueError(f"group {head.name!r} begins at a message that is not there")
    # Before `Done` makes blocks of the ranges: the end of a damaged range could ask for any number of them.
    if not all(head.watermark < start < end <= messages.next for start, end in ranges):
        raise ValueError(f"group {head.name!r} is done with a message that is not there")
    # Each message is in one state. So the states are disjoint, and make up all that is not below the watermark.
    inner = [*leases.values(), *delayed.values(), *returned, *stands]
    if not all(head.watermark <= offset < messages.next for offset in inner) or len(set(inner)) != len(inner):
        raise ValueError(f"group {head.name!r} has a message in two states, or one that is not there")
    group = Group(head.watermark, head.active_ms)
    group.polls, group.options = head.polls, head.options
    group.done = Done(head.watermark, ranges)
    group.leases = Leases.restore(leases, runs, next_lease)
    group.delays = Leases.restore(delayed, delays, next_lease)
    group.behind, group.attempts = Behind.restore(messages, stands), Attempts(fails)
    group.waiting = Waiting.restore(messages, returned, head.fresh)
    if any(offset in group.done for offset in inner) or group.waiting.has_any_fresh(messages, inner):
        raise ValueError(f"group {head.name!r} has a message in two states")
    known = sum(end - start for start, end in ranges) + len(inner) + group.waiting.count_fresh(messages)
    if known != messages.next - head.watermark:
        raise ValueError(f"group {head.name!r} has a message in no state")
    return group
