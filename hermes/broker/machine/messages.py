"""The messages that a topic retains: a fixed number of bytes for each, and no payload.

A message is known by its offset. Its payload stays in the log, at the ``place`` of the entry ``record`` that produced
it, so that a million messages take some 38 MB. Pure.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from struct import Struct, error
from typing import NamedTuple

from hermes.broker.machine.offsets import Offsets

PRIORITIES = 8
"""Priorities are 0, the lowest, to 7."""

_ROW = Struct("<QQIIBBI")
_ROW_BYTES = _ROW.size
# Where a row has its priority, which is read without the other fields.
_PRIORITY_AT = Struct("<QQII").size
_BACK_AT = Struct("<QQIIBB").size
_MOST_BACK = 2**32 - 1
_BLOCK_BITS = 9
_BLOCK_ROWS = 1 << _BLOCK_BITS
_BLOCK_BYTES = _BLOCK_ROWS * _ROW_BYTES
_MANY_KEYS = 1024
"""So many keys may have no retained message, beside as many as are retained, before a walk over all is worth it."""


class Message(NamedTuple):
    """What the state knows of one message.

    ``time_ms`` is the log's time of its entry, ``size`` the payload's bytes. ``back`` is the distance to the
    offset of the message before it that has the same key; 0 if there is none, or no key.
    """

    # In the order of `_ROW`, which packs and unpacks the fields by their places.
    time_ms: int
    record: int
    place: int
    size: int
    priority: int
    content_type: int
    back: int = 0


_PRIORITY = Message._fields.index("priority")

Fields = tuple[int, int, int, int, int, int]
"""The fields of a `Message` but ``back``, without their names: such a tuple is made in a fifth of the time."""

# `Message._make` is one more call of Python for each message.
_message: Callable[[Fields], Message] = partial(tuple.__new__, Message)


class Messages:
    """The retained messages, from offset ``first`` on, without a gap.

    >>> messages = Messages()
    >>> messages.append((1000, 0, 0, 5, 3, 0)), messages.append((1000, 0, 1, 7, 0, 0))
    (0, 1)
    >>> messages.at(1).size, messages.offsets[3].at(0), len(messages)
    (7, 0, 2)
    >>> messages.drop_before(1)
    >>> messages.first, messages.next
    (1, 2)
    """

    __slots__ = ("_base", "_blocks", "_late", "first", "keyed", "last_of_key", "next", "offsets", "priorities")

    def __init__(self, first: int = 0) -> None:
        self.first = first
        """Offset of the oldest retained message; equal to ``next`` when there is none."""
        self.next = first
        """Offset that the next message gets."""
        self.offsets: list[Offsets | None] = [None] * PRIORITIES
        """For each priority the offsets of its messages; None while there was none."""
        self.priorities: list[int] = []
        """The priorities of messages that are or were here, highest first."""
        self.last_of_key: dict[int, int] = {}
        """By the digest of each key the newest message that has it. Two keys of one digest only wait for each other."""
        self.keyed = False
        """Whether a message has, or had, another one of its key before it."""
        # The messages whose record is lower than that of the message before them: offset and record, of which only
        # those are kept that may become the lowest. So both ascend.
        self._late: deque[tuple[int, int]] = deque()
        # Bytes and not an object a message: an object takes five times the memory. Every block but the last has
        # `_BLOCK_ROWS` rows and never changes, so that a copy shares it and an append moves no other row. `_base` is
        # the offset of the first row, and at most `first`.
        self._blocks: list[bytearray] = [bytearray()]
        self._base = first

    def __len__(self) -> int:
        """How many messages are retained."""
        return self.next - self.first

    def append(self, message: Fields, key: int = 0) -> int:
        """Keep a message, with the digest of its key unless that is 0; return its offset."""
        offset = self.next
        back = self._note_key(key, offset) if key else 0
        block = self._blocks[-1]
        if len(block) == _BLOCK_BYTES:
            block = bytearray()
            self._blocks.append(block)
        block += _ROW.pack(*message, back)
        priority = message[_PRIORITY]
        offsets = self.offsets[priority] or self._add_priority(priority)
        offsets.values.append(offset)
        self.next = offset + 1
        return offset

    @staticmethod
    def check(message: Fields) -> None:
        """Raise ValueError if a message with these fields could not be appended."""
        try:
            _ROW.pack(*message, 0)
        except error as mistake:
            raise ValueError(f"no message has these fields: {mistake}") from mistake
        if message[_PRIORITY] >= PRIORITIES:
            raise ValueError(f"no message has priority {message[_PRIORITY]}")

    def append_late(self, message: Fields, key: int = 0) -> int:
        """As `append`, for a message whose record may be lower than that of messages before it."""
        offset, record = self.append(message, key), message[1]
        while self._late and self._late[-1][1] >= record:
            self._late.pop()
        self._late.append((offset, record))
        return offset

    def _note_key(self, key: int, offset: int) -> int:
        """Note the newest message of a key; return how far back the one before it is, 0 if that is not retained."""
        before = self.last_of_key.get(key, -1)
        self.last_of_key[key] = offset
        if len(self.last_of_key) > 2 * len(self) + _MANY_KEYS:
            self.last_of_key = {each: last for each, last in self.last_of_key.items() if last >= self.first}
        if before < self.first or offset - before > _MOST_BACK:
            return 0
        self.keyed = True
        return offset - before

    def before(self, offset: int) -> int:
        """The offset of the message before this one that has its key; -1 if there is none, or it is not retained."""
        row = offset - self._base
        block, start = self._blocks[row >> _BLOCK_BITS], row % _BLOCK_ROWS * _ROW_BYTES + _BACK_AT
        back = int.from_bytes(block[start : start + 4], "little")
        return offset - back if back and offset - back >= self.first else -1

    @property
    def lowest_record(self) -> int | None:
        """The lowest index in the log that has the payload of a retained message; None without a message."""
        if not len(self):
            return None
        # Behind the first message records ascend, but for those that came late.
        first = self.at(self.first).record
        return min(first, self._late[0][1]) if self._late else first

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
        while self._late and self._late[0][0] < offset:
            self._late.popleft()
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
        messages.keyed, messages._late = self.keyed, self._late.copy()
        messages.last_of_key = self.last_of_key.copy()
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

    def keys(self) -> Iterator[tuple[int, int]]:
        """The digest of each key, and the newest retained message that has it."""
        return ((key, offset) for key, offset in self.last_of_key.items() if offset >= self.first)

    def late(self) -> list[tuple[int, int]]:
        """Offset and record of the messages that came late and decide the `lowest_record`, or will."""
        return list(self._late)

    def restore_keys(self, keys: Iterable[tuple[int, int]], late: Iterable[tuple[int, int]]) -> None:
        """Note what `keys` and `late` gave. Raises ValueError for an offset that is not retained."""
        self.last_of_key, self._late = dict(keys), deque(late)
        found = [*self.last_of_key.values(), *(offset for offset, _ in self._late)]
        if not all(self.first <= offset < self.next for offset in found):
            raise ValueError("a key has a message that is not there")

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
        self.keyed = self.keyed or any(rows[_BACK_AT + byte :: _ROW_BYTES].strip(b"\0") for byte in range(4))
        while rows:
            if len(self._blocks[-1]) == _BLOCK_BYTES:
                self._blocks.append(bytearray())
            room = _BLOCK_BYTES - len(self._blocks[-1])
            self._blocks[-1] += rows[:room]
            rows = rows[room:]
