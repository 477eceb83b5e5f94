"""The answers that a connection owes, in the order of its requests.

Invariant: an answer is sent only after all answers to earlier requests, also if a later answer is ready first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from hermes.base.repeated_event import RepeatedEvent
from hermes.broker.machine.machine import Delivery

# As far as HermesMQ reads ahead.
MAX_UNANSWERED = 32
"""Requests of a connection that may wait for their answers. Beyond, the connection is not read from."""


class Slot:
    """The place of one answer: a frame that is ready, or messages whose payloads are read when their turn comes."""

    __slots__ = ("deliveries", "frame", "give_back", "last")

    def __init__(self) -> None:
        self.frame: bytes | None = None
        self.deliveries: Sequence[Delivery] | None = None
        self.give_back: Callable[[], None] = lambda: None
        """Called if the messages cannot be sent."""
        self.last = False
        """Whether the connection closes after this answer."""

    @property
    def ready(self) -> bool:
        """Whether the answer is known."""
        return self.frame is not None or self.deliveries is not None


class Slots:
    """The unanswered requests of a connection, oldest first.

    >>> slots = Slots()
    >>> first, second = slots.open(), slots.open()
    >>> slots.answer(second, b"2"), slots.next_ready() is None
    (None, True)
    >>> slots.answer(first, b"1"), slots.next_ready().frame, slots.next_ready().frame
    (None, b'1', b'2')
    """

    def __init__(self) -> None:
        self.changed = RepeatedEvent()
        """Set when an answer may be sent, and when there is room for another request."""
        self._slots: deque[Slot] = deque()

    def open(self) -> Slot:
        """A place for the answer to the next request."""
        slot = Slot()
        self._slots.append(slot)
        return slot

    def drop(self, slot: Slot) -> None:
        """Take out the newest place: its request has no answer."""
        if self._slots.pop() is not slot:
            raise ValueError("only the newest place can be dropped")

    def answer(self, slot: Slot, frame: bytes, *, last: bool = False) -> None:
        """Fill a place with a frame."""
        slot.frame, slot.last = frame, last
        self._tell(slot)

    def deliver(self, slot: Slot, deliveries: Sequence[Delivery], give_back: Callable[[], None]) -> None:
        """Fill a place with messages; ``give_back`` is called if they are never sent."""
        slot.deliveries, slot.give_back = deliveries, give_back
        self._tell(slot)

    def _tell(self, slot: Slot) -> None:
        # Only the oldest one lets anything be sent.
        if self._slots and self._slots[0] is slot:
            self.changed.set()

    def next_ready(self) -> Slot | None:
        """Take out the oldest place if its answer is ready."""
        if not self._slots or not self._slots[0].ready:
            return None
        slot = self._slots.popleft()
        # Only a full row keeps the reader waiting.
        if len(self._slots) == MAX_UNANSWERED - 1:
            self.changed.set()
        return slot

    def abandon(self) -> None:
        """Drop every place, and give back the messages that were to be sent."""
        while self._slots:
            self._slots.popleft().give_back()

    @property
    def full(self) -> bool:
        """Whether no further request may be read."""
        return len(self._slots) >= MAX_UNANSWERED

    def __len__(self) -> int:
        """How many requests are unanswered."""
        return len(self._slots)
