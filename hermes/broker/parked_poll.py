"""One poll of a client: answered at once, or when messages come, or when its time is up.

Invariant: the poll has one outcome, and waits nowhere afterwards; messages that its client cannot get go to another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import trio

from hermes.base.errors import HermesError
from hermes.broker.machine.machine import Delivery
from hermes.broker.sequencer import Sequencer

DEFAULT_POLL = 16
MAX_POLL = 1024
DEFAULT_VISIBILITY_MS = 30_000
MAX_WAIT_MS = 300_000


@dataclass(frozen=True)
class PollTerms:
    """What a poll asks for: up to ``most`` messages of a topic for a group, leased for ``visibility_ms``.

    With ``auto`` the messages are acknowledged at once. ``holder`` is the client's address.

    >>> PollTerms("orders", "billing").most
    16
    """

    topic: str
    group: str
    most: int = DEFAULT_POLL
    visibility_ms: int = DEFAULT_VISIBILITY_MS
    auto: bool = False
    holder: str = ""


class PollOutcome(Protocol):
    """Takes the outcome of a poll: one call of one of these."""

    def deliver(self, deliveries: Sequence[Delivery], give_back: Callable[[], None]) -> None:
        """There are messages, whose payloads stay in the log until ``payloads.unpin``.

        ``give_back`` is to be called instead if they cannot be sent.
        """

    def limit(self, retry_after_ms: int) -> None:
        """The topic's rate is used up for so long."""

    def fail(self, error: HermesError) -> None:
        """The broker's log takes no entry."""

    def find_nothing(self) -> None:
        """There is no message, and no time left to wait."""


class ParkedPoll:
    """A `hermes.broker.demand.Consumer` that is answered once.

    ::

        poll = ParkedPoll(sequencer, PollTerms("orders", "billing"), outcome)
        poll.begin(wait_ms=5_000, park=parked.append)
    """

    def __init__(self, sequencer: Sequencer, terms: PollTerms, outcome: PollOutcome) -> None:
        self._sequencer = sequencer
        self._most = terms.most
        self._outcome = outcome
        self.topic = terms.topic
        self.group = terms.group
        self.auto = terms.auto
        self.holder = terms.holder
        self.visibility_ms = terms.visibility_ms
        # Commands of before may still bring what this poll asks for.
        self.eager = sequencer.busy
        self.polling = False
        self.wait_ms = 0
        self._park: Callable[[ParkedPoll], None] | None = None
        self._ended = trio.Event()
        self._abandoned = False

    def begin(self, wait_ms: int, park: Callable[[ParkedPoll], None]) -> None:
        """End now if possible; otherwise wait, and call ``park`` for `wait` to be run."""
        self.wait_ms = wait_ms
        self._park = park
        self._sequencer.wait_for_messages(self)
        if not self.eager and not self._sequencer.machine.has_some(self.topic, self.group, self._sequencer.now_ms):
            self._found_nothing()

    async def wait(self) -> None:
        """End without messages when the time is up. Returns once the poll has ended."""
        with trio.move_on_after(self.wait_ms / 1000):
            await self._ended.wait()
        self.wait_ms = 0
        # A poll under way leases what it finds, so its outcome is waited for.
        if self.polling:
            await self._ended.wait()
        self._end_with_nothing()

    def wanted(self, _now_ms: int) -> int:
        """All of it, until the poll has ended."""
        return 0 if self._ended.is_set() else self._most

    def deliver(self, deliveries: Sequence[Delivery], _now_ms: int) -> None:
        """End with messages, or wait on."""
        self.eager = False
        if self._abandoned:
            # The client has gone while its poll was under way.
            self._give_back(deliveries)
        elif deliveries:
            payloads, messages = self._sequencer.payloads, [delivery.message for delivery in deliveries]
            payloads.pin(messages)
            self._end()

            def give_back() -> None:
                payloads.unpin(messages)
                self._give_back(deliveries)

            self._outcome.deliver(deliveries, give_back)
        else:
            self._found_nothing()

    def _give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Let another client have messages that this one will not get."""
        if deliveries and not self.auto:
            self._sequencer.nack(self.topic, self.group, [delivery.lease_id for delivery in deliveries])

    def _found_nothing(self) -> None:
        if not self.wait_ms:
            self._end_with_nothing()
        elif self._park is not None:
            # Once: the same wait goes on after every poll that finds nothing.
            park, self._park = self._park, None
            park(self)

    def limited(self, retry_after_ms: int) -> None:
        """End, even if there is time to wait."""
        if not self._ended.is_set():
            self._end()
            self._outcome.limit(retry_after_ms)

    def fail(self, error: HermesError) -> None:
        """End with an error."""
        if not self._ended.is_set():
            self._end()
            self._outcome.fail(error)

    def give_up(self) -> None:
        """End without messages before the time is up, unless a poll is under way."""
        self.wait_ms = 0
        if not self.polling:
            self._end_with_nothing()

    def abandon(self) -> None:
        """The client has gone."""
        self._abandoned = True
        self._end()

    def _end_with_nothing(self) -> None:
        if not self._ended.is_set():
            self._end()
            self._outcome.find_nothing()

    def _end(self) -> None:
        self._ended.set()
        self._sequencer.leave(self)
