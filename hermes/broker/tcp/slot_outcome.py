"""The outcome of a Poll, as the answer in its slot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hermes.base.errors import HermesError
from hermes.broker.machine.machine import Delivery
from hermes.broker.tcp import replies
from hermes.broker.tcp.slots import Slot, Slots


@dataclass(frozen=True)
class SlotOutcome:
    """A `hermes.broker.parked_poll.PollOutcome`. ::

    poll = ParkedPoll(sequencer, terms, SlotOutcome(slots, slots.open()))
    """

    slots: Slots
    slot: Slot

    def deliver(self, deliveries: Sequence[Delivery], give_back: Callable[[], None]) -> None:
        """Send the messages in their turn."""
        self.slots.deliver(self.slot, deliveries, give_back)

    def limit(self, retry_after_ms: int) -> None:
        """Answer that the topic's rate is used up."""
        message = f"the rate limit of the topic is used up; try again in {retry_after_ms} ms"
        self.slots.answer(self.slot, replies.failure("rate_limited", message, retry_after_ms=retry_after_ms))

    def fail(self, error: HermesError) -> None:
        """Answer that the broker's log takes no entry."""
        self.slots.answer(self.slot, replies.of_reply(error))

    def find_nothing(self) -> None:
        """Answer with no messages."""
        self.slots.answer(self.slot, replies.NO_MESSAGES)
