"""A ticket for a response that a later moment gives: a commit, room in a queue, the end of a long decoding.

A route returns the ticket, and gives the ticket to the code that will know the answer. The connection, or the control
lane, waits. The lane knows nothing of the outcome but the response.

Invariant: a ticket is answered once, maybe before a lane waits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hermes.net.http.response import Response

if TYPE_CHECKING:
    from hermes.net.http.head import Head

Hear = Callable[["Pending", Response], None]


class Slot:
    """The place of one response in the order of a connection. ``data`` is None until the response is there."""

    __slots__ = ("data",)

    def __init__(self, data: bytes | None = None) -> None:
        self.data = data


class Pending(Slot):
    """A response to come. ``response`` is None until `answer` was called.

    ::

        ticket = Pending()
        ticket.call_off_by(job.cancel)  # if the client leaves first, or the service stops
        ...
        ticket.answer(Response(202))
    """

    # Slots, because each request that waits for a commit has a ticket, and thousands may wait for one commit.
    __slots__ = ("_call_off", "_hear", "_stamp", "began", "head", "response")

    began: float
    head: Head

    def __init__(self) -> None:
        self.data = None
        self.response: Response | None = None
        self._hear: Hear | None = None
        self._call_off: Callable[[], None] | None = None
        self._stamp: Callable[[Response], Response] | None = None

    def answer(self, response: Response) -> None:
        """Give the response."""
        # Before the response is seen: the log and the client must get the same one.
        if self._stamp is not None:
            response = self._stamp(response)
        self.response = response
        # No lane waits yet if the route answers in its own call; then the route returns the response itself.
        if self._hear is not None:
            self._hear(self, response)

    def call_off_by(self, call_off: Callable[[], None]) -> None:
        """Set the function that ends the wait early. The function must answer the ticket, at once or later."""
        self._call_off = call_off

    def stamp_by(self, stamp: Callable[[Response], Response]) -> None:
        """Set a function that turns the response into the response of this one request."""
        self._stamp = stamp

    def wait(self, hear: Hear) -> None:
        """Call ``hear(ticket, response)`` when the response comes. Called by the owner of the client's connection."""
        self._hear = hear

    def call_off(self) -> None:
        """End the wait: the client has left, or the service stops. Does nothing if the response is there."""
        # An answered ticket has nothing to call off: its events have gone their way.
        if self.response is None and self._call_off is not None:
            self._call_off()

    def let_go(self) -> None:
        """Call off, and forget the function that does so, because the function holds the request's events."""
        # In this order, because the second line makes the first one do nothing.
        self.call_off()
        self._call_off = None
