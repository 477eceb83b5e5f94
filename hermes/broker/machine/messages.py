"""The messages that a topic retains: a fixed number of bytes for each, and no payload.

A message is known by its offset. Its payload stays in the log, at the ``place`` of the entry ``record``, so that a
million messages take some 34 MB. Pure.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from struct import Struct
from typing import NamedTuple

from hermes.broker.machine.offsets import Offsets

PRIORITIES = 8
"""Priorities are 0, the lowest, to 7."""

# Little-endian on every machine, since a snapshot holds the rows as they are.
_ROW = Struct("<QQIIBB")
_ROW_BYTES = _ROW.size
# Where a row has its priority, which is read without the other fields.
_PRIORITY_AT = Struct("<QQII").size
# A power of two: a shift finds the block of an offset.
_BLOCK_BITS = 9
_BLOCK_ROWS = 1 << _BLOCK_BITS
_BLOCK_BYTES = _BLOCK_ROWS * _ROW_BYTES


class Message(NamedTuple):
    """The state's part of one message. ``time_ms`` is the log's time of its entry, ``size`` the payload's bytes."""

    # In the order of `_ROW`, which packs and unpacks the fields by their places.
    time_ms: int
    record: int
    place: int
    size: int
    priority: int
    content_type: int


_PRIORITY = Message._fields.index("priority")

Fields = tuple[int, int, int, int, int, int]
"""The fields of a `Message`, without their names: such a tuple is made in a fifth of the time."""

# `Message._make` is one more call of Python for each message.
_message: Callable[[Fields], Message] = partial(tuple.__new__, Message)


class Messages:
    """The retained messages, from offset ``first`` on, without a gap.

    >>> messages = Messages()
    >>> messages.append(Message(1000, 0, 0, 5, 3, 0)), messages.append(Message(1000, 0, 1, 7, 0, 0))
    (0, 1)
    >>> messages.at(1).size, messages.offsets[3].at(0), len(messages)
    (7, 0, 2)
    >>> messages.drop_before(1)
    >>> messages.first, messages.next
    (1, 2)
    """

    __slots__ = ("_base", "_blocks", "first", "next", "offsets", "priorities")

    def __init__(self, first: int = 0) -> None:
        self.first = first
        """Offset of the oldest retained message; equal to ``next`` when there is none."""
        self.next = first
        """Offset that the next message gets."""
        self.offsets: list[Offsets | None] = [None] * PRIORITIES
        """For each priority the offsets of its messages; None while there was none."""
        self.priorities: list[int] = []
        """The priorities of messages that are or were here, highest first."""
        # Bytes and not an object a message: an object takes five times the memory. Every block but the last has
        # `_BLOCK_ROWS` rows and never changes, so that a copy shares it and an append moves no other row. `_base` is
        # the offset of the first row, and at most `first`.
        self._blocks: list[bytearray] = [bytearray()]
        self._base = first

    def __len__(self) -> int:
        """How many messages are retained."""
        return self.next - self.first

    def append(self, message: Fields) -> int:
        """Keep a message and return its offset."""
        offset = self.next
        block = self._blocks[-1]
        if len(block) == _BLOCK_BYTES:
            block = bytearray()
            self._blocks.append(block)
        block += _ROW.pack(*message)
        priority = message[_PRIORITY]
        offsets = self.offsets[priority] or self._add_priority(priority)
        offsets.values.append(offset)
        self.next = offset + 1
        return offset

    def _add_priority(self, priority: int) -> Offsets:
        # A new list and not a longer one: copies share the old one.
        self.priorities = sorted([*self.priorities, priority], reverse=True)
        offsets = self.offsets[priority] = Offsets()
        return offsets

    def at(self, offset: int) -> Message:
        """The message at a retained offset."""
        return self.read([offset])[0]

    def read(self, offsets: Iterable[int]) -> list[Message]:
        """The messages at retained offsets."""
        blocks, base, unpack = self._blocks, self._base, _ROW.unpack_from
        return [
            _message(unpack(blocks[(offset - base) >> _BLOCK_BITS], (offset - base) % _BLOCK_ROWS * _ROW_BYTES))
            for offset in offsets
        ]

    def by_priority(self, offsets: list[int]) -> dict[int, list[int]]:
        """Retained offsets, as they come, by the priority of their messages."""
        # Nearly always, and then no row is read.
        if len(self.priorities) == 1:
            return {self.priorities[0]: offsets}
        blocks, base = self._blocks, self._base
        found: dict[int, list[int]] = {priority: [] for priority in self.priorities}
        for offset in offsets:
            row = offset - base
            found[blocks[row >> _BLOCK_BITS][row % _BLOCK_ROWS * _ROW_BYTES + _PRIORITY_AT]].append(offset)
        return found

    def first_since(self, time_ms: int) -> int:
        """The offset of the first retained message of this time or a later one; `next` if there is none."""
        # Mostly the first, or one that is near. As times ascend, it is found without a look at each before it.
        low, step = self.first, 1
        while low + step <= self.next and self.at(low + step - 1).time_ms < time_ms:
            low, step = low + step, 2 * step
        offsets = range(low, min(low + step, self.next))
        return low + bisect_left(offsets, time_ms, key=lambda offset: self.at(offset).time_ms)

    def drop_before(self, offset: int) -> None:
        """Forget the messages below ``offset``, which is at most `next`."""
        self.first = offset
        # A topic that is drained gives up all its rows, also those of the last block.
        if offset == self.next:
            self._blocks, self._base = [bytearray()], offset
        elif offset - self._base >= _BLOCK_ROWS:
            # Whole blocks alone: to cut one would move its other rows.
            dead = (offset - self._base) >> _BLOCK_BITS
            del self._blocks[:dead]
            self._base += dead * _BLOCK_ROWS
        else:
            # The offsets of priorities may wait: a group passes over those below its watermark.
            return
        for offsets in self.offsets:
            if offsets is not None:
                offsets.drop_before(offset)

    # --- snapshots ---

    def copy(self) -> Messages:
        """The messages as they are now, of their own. Costs the 8 bytes of each offset; the rows are shared."""
        messages = Messages(self.first)
        messages.next, messages._base = self.next, self._base
        messages.priorities = self.priorities
        messages.offsets = [None if each is None else each.copy() for each in self.offsets]
        # The last block still grows.
        messages._blocks = [*self._blocks[:-1], self._blocks[-1][:]]
        return messages

    def rows(self) -> Iterator[bytes]:
        """The retained messages as bytes, in pieces for `extend`."""
        # The other rows of the first block are below `first`.
        dead = (self.first - self._base) * _ROW_BYTES
        for block in self._blocks:
            if len(block) > dead:
                yield bytes(block[dead:])
            dead = max(0, dead - _BLOCK_BYTES)

    def extend(self, rows: bytes) -> None:
        """Append the messages of a piece of `rows`. Raises ValueError for other bytes."""
        if len(rows) % _ROW_BYTES:
            raise ValueError(f"{len(rows)} bytes are no whole number of messages")
        # A slice has the priority of every row, without an unpack of each.
        for offset, priority in enumerate(rows[_PRIORITY_AT::_ROW_BYTES], self.next):
            if priority >= PRIORITIES:
                raise ValueError(f"no message has priority {priority}")
            offsets = self.offsets[priority] or self._add_priority(priority)
            offsets.values.append(offset)
        self.next += len(rows) // _ROW_BYTES
        while rows:
            if len(self._blocks[-1]) == _BLOCK_BYTES:
                self._blocks.append(bytearray())
            room = _BLOCK_BYTES - len(self._blocks[-1])
            self._blocks[-1] += rows[:room]
            rows = rows[room:]
