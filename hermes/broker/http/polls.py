"""Polls over HTTP: each waits for messages, and at the latest until its time is up or the service stops.

Invariant: a poll whose client has gone keeps no message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from hermes.base.errors import HermesError
from hermes.broker.http.failures import Limited
from hermes.broker.machine.machine import Delivery
from hermes.broker.parked_poll import ParkedPoll, PollTerms
from hermes.broker.sequencer import Sequencer
from hermes.net.control.endpoint import Request


class _Outcome:
    """A `hermes.broker.parked_poll.PollOutcome` that is waited for."""

    def __init__(self) -> None:
        self.known = trio.Event()
        self.deliveries: Sequence[Delivery] = ()
        self.give_back: Callable[[], None] = lambda: None
        self.error: Exception | None = None

    def deliver(self, deliveries: Sequence[Delivery], give_back: Callable[[], None]) -> None:
        self.deliveries, self.give_back = deliveries, give_back
        self.known.set()

    def limit(self, retry_after_ms: int) -> None:
        self.error = Limited(retry_after_ms)
        self.known.set()

    def fail(self, error: HermesError) -> None:
        self.error = error
        self.known.set()

    def find_nothing(self) -> None:
        self.known.set()


class Polls:
    """The polls that wait. ::

    deliveries, give_back = await polls.poll(PollTerms("orders", "billing"), 5_000, request)
    """

    def __init__(self, sequencer: Sequencer) -> None:
        self._sequencer = sequencer
        self._waiting: set[ParkedPoll] = set()
        # A poll that begins during the stop must not wait for minutes.
        self._stopping = False

    async def poll(
        self, terms: PollTerms, wait_ms: int, request: Request
    ) -> tuple[Sequence[Delivery], Callable[[], None]]:
        """The messages, and what to call if they cannot be sent. Raises `Limited`, `LogUnavailable`."""
        outcome = _Outcome()
        poll = ParkedPoll(self._sequencer, terms, outcome)
        self._waiting.add(poll)
        try:
            async with trio.open_nursery() as nursery:
                # Without this a message would be leased to a client that has gone, until the lease ends.
                with request.when_client_ends(poll.give_up):
                    poll.begin(0 if self._stopping else wait_ms, lambda each: nursery.start_soon(each.wait))
                    await outcome.known.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._waiting.discard(poll)
            # The request was cancelled: a poll that is under way gives its messages back when they come.
            if not outcome.known.is_set():
                poll.abandon()
        if outcome.error is not None:
            raise outcome.error
        return outcome.deliveries, outcome.give_back

    def stop(self) -> None:
        """The service stops: nobody waits any longer."""
        self._stopping = True
        for poll in list(self._waiting):
            poll.give_up()
