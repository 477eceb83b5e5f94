"""One Subscribe: pushes messages to a connection, and takes its acks.

Invariants: a push is one message; acks are never answered; at the end every lease that is left is given back at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import trio

from hermes.base.errors import HermesError
from hermes.base.repeated_event import RepeatedEvent
from hermes.broker.machine.machine import Delivery
from hermes.broker.sequencer import Sequencer
from hermes.broker.tcp import replies
from hermes.broker.tcp.window import Fate, Window
from hermes.broker.wire import hermesmq_pb2 as pb

# Both as in HermesMQ 1.0.
HEARTBEAT_SECONDS = 10.0
WRITE_SECONDS = 10.0
MAX_PREFETCH = 1024
_PUSH_BYTES = 256 * 2**10

Send = Callable[[bytes], Any]


class Subscription:
    """A `hermes.broker.demand.Consumer` that stays.

    ::

        subscription = Subscription(sequencer, request.subscribe, visibility_ms=30_000, holder="10.0.0.7:53422")
        nursery.start_soon(subscription.push, stream.send_all)
        subscription.take_ack(lease, acked=True)
        subscription.end()
    """

    def __init__(self, sequencer: Sequencer, asked: pb.Subscribe, visibility_ms: int, holder: str) -> None:
        self._sequencer = sequencer
        self.holder = holder
        self.topic = asked.topic
        self.group = asked.group
        self.visibility_ms = visibility_ms
        self.auto = asked.ack_mode == "auto"
        self.eager = self.polling = False
        self._prefetch = min(max(asked.prefetch, 1), MAX_PREFETCH)
        self._window = Window(self._prefetch, visibility_ms)
        self._to_push: deque[Delivery] = deque()
        self._more = RepeatedEvent()
        self._ended = False

    def begin(self) -> None:
        """Wait for messages."""
        self._sequencer.wait_for_messages(self)

    # --- what the sequencer asks and tells ---

    def wanted(self, now_ms: int) -> int:
        """As many as the prefetch has places, less the messages that wait to be pushed."""
        if self._ended:
            return 0
        if self.auto:
            return self._prefetch - len(self._to_push)
        return self._window.wanted(now_ms)

    def deliver(self, deliveries: Sequence[Delivery], now_ms: int) -> None:
        """Push messages, or keep their leases, or acknowledge them."""
        if self._ended:
            # The subscription ended while the poll was under way.
            if not self.auto and deliveries:
                self._sequencer.nack(self.topic, self.group, [delivery.lease_id for delivery in deliveries])
            return
        late = []
        for delivery in deliveries:
            fate = Fate.PUSH if self.auto else self._window.take(delivery, now_ms)
            if fate is Fate.PUSH:
                self._to_push.append(delivery)
                self._sequencer.payloads.pin([delivery.message])
            elif fate is Fate.ACK:
                late.append(delivery.lease_id)
        if late:
            self._sequencer.ack(self.topic, self.group, late)
        self._more.set()

    def limited(self, _retry_after_ms: int) -> None:
        """Wait in silence."""

    def fail(self, _error: HermesError) -> None:
        """Wait in silence: the next tick tries again."""

    # --- what the client tells ---

    def take_acks(self, leases: Sequence[int], *, acked: bool) -> None:
        """The client is done with the messages of these leases, or gives them back."""
        # HermesMQ ignores everything that a client sends in automatic mode.
        if self.auto or not leases:
            return
        now_ms = self._sequencer.now_ms
        newest = [self._window.close_lease(lease, now_ms, acked=acked) for lease in leases]
        give = self._sequencer.ack if acked else self._sequencer.nack
        give(self.topic, self.group, newest)
        self._sequencer.look_again(self)

    # --- the task ---

    async def push(self, send: Callable[[bytes], Any]) -> None:
        """Push messages and heartbeats, until cancelled. Raises `trio.TooSlowError` if the client does not read."""
        payloads = self._sequencer.payloads
        while True:
            if not self._to_push:
                with trio.move_on_after(HEARTBEAT_SECONDS) as silence:
                    while not self._to_push:
                        await self._more.wait()
                if silence.cancelled_caught:
                    with trio.fail_after(WRITE_SECONDS):
                        await send(replies.NO_MESSAGES)
                    continue
            frames = []
            size = 0
            while self._to_push and size < _PUSH_BYTES:
                delivery = self._to_push[0]
                payload = payloads.find(delivery.message)
                if payload is None:
                    payload = await payloads.load(delivery.message)
                # After the read: if it is cancelled, `end` finds the message here, and gives up its pin.
                self._to_push.popleft()
                payloads.unpin([delivery.message])
                frames.append(replies.polled([delivery], [payload]))
                size += len(payload)
            with trio.fail_after(WRITE_SECONDS):
                await send(b"".join(frames))
            # The push has made room, which no ack will tell.
            if self.auto:
                self._sequencer.look_again(self)

    def end(self) -> None:
        """Wait no longer, and give every lease back."""
        self._ended = True
        self._sequencer.leave(self)
        self._sequencer.payloads.unpin([delivery.message for delivery in self._to_push])
        # At once and not at their deadlines: another consumer gets the messages without a wait.
        if not self.auto and (leases := self._window.leases()):
            self._sequencer.nack(self.topic, self.group, leases)
        self._to_push.clear()
