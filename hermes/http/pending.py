"""A response that a later moment gives: a commit, room in the queue, a delivery.

A route hands it to whoever decides about its events, as the function to call with their outcome, and returns it;
whoever owes the response waits for it. Invariant: it is answered once, maybe before anybody waits. Made by the ingest
route; kept in order by the connection, and awaited by the control lane.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hermes.ack import Outcome, Receipt
from hermes.http.response import Response

if TYPE_CHECKING:
    from hermes.http.head import Head


class Slot:
    """The place of one response in the order of a connection: no data until it is there."""

    __slots__ = ("data",)

    def __init__(self, data: bytes | None = None) -> None:
        self.data = data


class Pending(Slot):
    """A response to come: ``taken`` if the outcome is that, else what ``explain(outcome, receipt)`` says.

    Of a request that is not decoded yet neither is known: `expect` sets them, or `answer` gives the response.
    ``rejected`` is how many of its events were found invalid after the route returned it. ``call_off`` is what whoever
    took the events gave for it. ``hear`` is called with the response when it comes later
    than whoever waits; ``began`` and ``head`` are the connection's. ``stamp`` makes the response that of its request,
    where that is traced.
    """

    __slots__ = ("_explain", "_taken", "began", "call_off", "head", "hear", "rejected", "response", "stamp")

    began: float
    head: Head

    def __init__(
        self, taken: Response | None = None, explain: Callable[[Outcome, Receipt | None], Response] | None = None
    ) -> None:
        self.data = None
        self.response: Response | None = None
        self.hear: Callable[[Pending, Response], None] | None = None
        self.call_off: Callable[[], None] | None = None
        self.stamp: Callable[[Response], Response] | None = None
        self.rejected = 0
        self._taken = taken
        self._explain = explain

    def expect(self, taken: Response, explain: Callable[[Outcome, Receipt | None], Response]) -> None:
        """The events are known, and are about to be offered."""
        self._taken = taken
        self._explain = explain

    def __call__(self, outcome: Outcome, receipt: Receipt | None) -> None:
        """The events' outcome is known."""
        response = self._taken if outcome is _TAKEN else None
        if response is None:
            assert self._explain is not None  # noqa: S101 - nobody decides about events that are not known
            response = self._explain(outcome, receipt)
        self.answer(response)

    def answer(self, response: Response) -> None:
        """The response is there."""
        if self.stamp is not None:
            response = self.stamp(response)
        self.response = response
        if self.hear is not None:
            self.hear(self, response)


_TAKEN = Outcome.TAKEN  # a name of the module, for looking a member up on its enum costs more than the comparison
