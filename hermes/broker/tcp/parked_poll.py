"""One Poll request: answered at once, or when messages come, or when its time is up.

Invariant: the slot gets one answer, and the poll waits nowhere afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from hermes.base.errors import HermesError
from hermes.broker.machine.machine import Delivery
from hermes.broker.sequencer import Sequencer
from hermes.broker.tcp import replies
from hermes.broker.tcp.slots import Slot, Slots
from hermes.broker.wire import hermesmq_pb2 as pb


class ParkedPoll:
    """A `hermes.broker.demand.Consumer` that is answered once. ``granted`` has how many messages, and for how long.

    ::

        poll = ParkedPoll(sequencer, slots, slot, request, (16, 30_000))
        poll.begin(wait_ms=5_000, park=parked.append)
    """

    def __init__(
        self, sequencer: Sequencer, slots: Slots, slot: Slot, asked: pb.Poll, granted: tuple[int, int]
    ) -> None:
        self._sequencer = sequencer
        self._slots = slots
        self._slot = slot
        self.topic = asked.topic
        self.group = asked.group
        self.auto = asked.ack_mode == "auto"
        self._most, self.visibility_ms = granted
        # Commands of before may still bring what this poll asks for.
        self.eager = sequencer.busy
        self.polling = False
        self.wait_ms = 0
        self._park: Callable[[ParkedPoll], None] | None = None
        self._answered = trio.Event()
        self._abandoned = False

    def begin(self, wait_ms: int, park: Callable[[ParkedPoll], None]) -> None:
        """Answer now if possible; otherwise wait, and call ``park`` for `wait` to be run."""
        self.wait_ms = wait_ms
        self._park = park
        # Before the look: a poll that finds nothing makes its group too.
        self._sequencer.wait_for_messages(self)
        if not self.eager and not self._sequencer.machine.has_some(self.topic, self.group, self._sequencer.now_ms):
            self._found_nothing()

    async def wait(self) -> None:
        """Answer with no messages when the time is up. Returns once the poll is answered."""
        with trio.move_on_after(self.wait_ms / 1000):
            await self._answered.wait()
        # A poll under way that finds nothing answers by itself from now on.
        self.wait_ms = 0
        # A poll under way leases what it finds, so its outcome is waited for.
        if self.polling:
            await self._answered.wait()
        self._answer(replies.NO_MESSAGES)

    def wanted(self, _now_ms: int) -> int:
        """As many as the client asked for, until the poll is answered."""
        return 0 if self._answered.is_set() else self._most

    def deliver(self, deliveries: Sequence[Delivery], _now_ms: int) -> None:
        """Answer with messages, or wait on."""
        self.eager = False
        if self._abandoned:
            # The client has gone while its poll was under way.
            self._give_back(deliveries)
        elif deliveries:
            # The messages of an automatic poll are retained no more, so only the pin keeps their payloads in the log.
            payloads, messages = self._sequencer.payloads, [delivery.message for delivery in deliveries]
            payloads.pin(messages)
            self._close()

            def give_back() -> None:
                payloads.unpin(messages)
                self._give_back(deliveries)

            self._slots.deliver(self._slot, deliveries, give_back)
        else:
            self._found_nothing()

    def _give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Let another client have messages that this one will not get."""
        if deliveries and not self.auto:
            self._sequencer.nack(self.topic, self.group, [delivery.lease_id for delivery in deliveries])

    def _found_nothing(self) -> None:
        if not self.wait_ms:
            self._answer(replies.NO_MESSAGES)
        elif self._park is not None:
            # Once: the same wait goes on after every poll that finds nothing.
            park, self._park = self._park, None
            park(self)

    def limited(self, retry_after_ms: int) -> None:
        """Answer that the topic's rate is used up, even if there is time to wait."""
        message = f"the rate limit of the topic is used up; try again in {retry_after_ms} ms"
        self._answer(replies.failure("rate_limited", message, retry_after_ms=retry_after_ms))

    def fail(self, error: HermesError) -> None:
        """Answer that the broker cannot."""
        if not self._abandoned:
            self._answer(replies.of_reply(error))

    def give_up(self) -> None:
        """Answer with no messages before the time is up, unless a poll is under way."""
        self.wait_ms = 0
        if not self.polling:
            self._answer(replies.NO_MESSAGES)

    def abandon(self) -> None:
        """The client has gone."""
        self._abandoned = True
        self._close()

    def _answer(self, frame: bytes) -> None:
        if not self._answered.is_set():
            self._close()
            self._slots.answer(self._slot, frame)

    def _close(self) -> None:
        self._answered.set()
        self._sequencer.leave(self)
