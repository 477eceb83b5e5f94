"""The messages that a topic retains: a fixed number of bytes for each, and no payload.

A message is known by its offset. Its payload stays in the log, at the ``place`` of the entry ``record`` that produced
it, so that a million messages take some 34 MB. Pure.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from struct import Struct
from typing import NamedTuple

PRIORITIES = 8
"""Priorities are 0, the lowest, to 7."""

_ROW = Struct("<QQIIBB")
_DEAD_ROWS = 4096
"""Rows below the first offset that stay until they are worth a removal."""


class Message(NamedTuple):
    """What the state knows of one message. ``time_ms`` is the log's time of its entry, ``size`` the payload's bytes."""

    time_ms: int
    record: int
    place: int
    size: int
    priority: int
    content_type: int


class Lane:
    """The offsets of one priority, ascending. A position counts from the topic's first message of this priority on."""

    __slots__ = ("base", "offsets")

    def __init__(self) -> None:
        self.base = 0
        """Position of the first element of ``offsets``."""
        self.offsets = array("Q")

    @property
    def end(self) -> int:
        """The position that the next message gets."""
        return self.base + len(self.offsets)

    def position(self, offset: int) -> int:
        """The position of the first message at ``offset`` or beyond."""
        return self.base + bisect_left(self.offsets, offset)

    def at(self, position: int) -> int:
        """The offset at a position below `end`."""
        return self.offsets[position - self.base]

    def drop_before(self, offset: int) -> None:
        """Forget the offsets below, once they are many."""
        dead = bisect_left(self.offsets, offset)
        # Half at least: the removal moves the rest, so a message is moved once on the average.
        if dead >= _DEAD_ROWS and 2 * dead >= len(self.offsets):
            del self.offsets[:dead]
            self.base += dead


class Messages:
    """The retained messages, from offset ``first`` on, without a gap.

    >>> messages = Messages()
    >>> messages.append(Message(1000, 0, 0, 5, 3, 0)), messages.append(Message(1000, 0, 1, 7, 0, 0))
    (0, 1)
    >>> messages.at(1).size, messages.lanes[3].at(0), len(messages)
    (7, 0, 2)
    >>> messages.drop_before(1)
    >>> messages.first, messages.next
    (1, 2)
    """

    __slots__ = ("_base", "_rows", "first", "lanes", "next")

    def __init__(self, first: int = 0) -> None:
        self.first = first
        """Offset of the oldest retained message; equal to ``next`` when there is none."""
        self.next = first
        """Offset that the next message gets."""
        self.lanes: list[Lane | None] = [None] * PRIORITIES
        """For each priority the offsets of its messages; None while there was none."""
        # Bytes and not an object a message: an object takes five times the memory. `_base` is the offset of the
        # first row, and at most `first`.
        self._rows = bytearray()
        self._base = first

    def __len__(self) -> int:
        """How many messages are retained."""
        return self.next - self.first

    def append(self, message: Message) -> int:
        """Keep a message and return its offset."""
        offset = self.next
        self._rows += _ROW.pack(*message)
        lane = self.lanes[message.priority]
        if lane is None:
            lane = self.lanes[message.priority] = Lane()
        lane.offsets.append(offset)
        self.next = offset + 1
        return offset

    def at(self, offset: int) -> Message:
        """The message at a retained offset."""
        return Message._make(_ROW.unpack_from(self._rows, (offset - self._base) * _ROW.size))

    def priority(self, offset: int) -> int:
        """The priority of the message at a retained offset."""
        return self._rows[(offset - self._base) * _ROW.size + _PRIORITY_AT]

    def drop_before(self, offset: int) -> None:
        """Forget the messages below ``offset``, which is at most `next`."""
        self.first = offset
        dead = offset - self._base
        if dead >= _DEAD_ROWS or offset == self.next:
            # A bytearray gives up its beginning without moving the rest.
            del self._rows[: dead * _ROW.size]
            self._base = offset
            for lane in self.lanes:
                if lane is not None:
                    lane.drop_before(offset)

    def dump(self) -> tuple[int, bytes]:
        """The first offset and the rows, for a snapshot."""
        return self.first, bytes(memoryview(self._rows)[(self.first - self._base) * _ROW.size :])

    @classmethod
    def restore(cls, first: int, rows: bytes) -> Messages:
        """The messages of a `dump`. Raises ValueError if it is none."""
        if len(rows) % _ROW.size:
            raise ValueError(f"{len(rows)} bytes are no whole number of messages")
        messages = cls(first)
        messages._rows += rows
        messages.next = first + len(rows) // _ROW.size
        for offset, priority in enumerate(rows[_PRIORITY_AT :: _ROW.size], first):
            lane = messages.lanes[priority]
            if lane is None:
                lane = messages.lanes[priority] = Lane()
            lane.offsets.append(offset)
        return messages


_PRIORITY_AT = Struct("<QQII").size
