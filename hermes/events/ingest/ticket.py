"""The response to a request that waits for the outcome of its events: a commit, room in the queue, a delivery."""

from __future__ import annotations

from collections.abc import Callable

from hermes.events.ack import Outcome, Receipt
from hermes.net.http.pending import Pending
from hermes.net.http.response import Response

# A name of the module: looking a member up on its enum costs more than the comparison.
_TAKEN = Outcome.TAKEN

Explain = Callable[[Outcome, "Receipt | None"], Response]


class EventTicket(Pending):
    """Answers with ``taken`` if the outcome is `Outcome.TAKEN`, else with ``explain(outcome, receipt)``.

    The intake calls the ticket with the outcome. ::

        ticket = EventTicket()
        ticket.expect(Response(202), lambda outcome, receipt: Response(503))
        ticket.call_off_by(intake.submit(events, size, ack, ticket))
    """

    __slots__ = ("_explain", "_taken")

    _taken: Response
    _explain: Explain

    def expect(self, taken: Response, explain: Explain) -> None:
        """Set both answers. Called once the events are decoded, before they are offered."""
        self._taken = taken
        self._explain = explain

    # Called and not passed as a bound method, which would be one more object for each request that waits.
    def __call__(self, outcome: Outcome, receipt: Receipt | None) -> None:
        """Answer the request: the outcome of its events is known."""
        self.answer(self._taken if outcome is _TAKEN else self._explain(outcome, receipt))
