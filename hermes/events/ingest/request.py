"""One request head, in the form that the decoders of the events' protocols need.

The object is made once for each head, and used for every request with this head.

Invariant: nothing here changes after the head was judged. A large body is decoded under a copy.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import TYPE_CHECKING

from hermes.events.ack import Ack

if TYPE_CHECKING:
    from hermes.events.ingest.format import Format
    from hermes.net.http.head import Head


class EventRequest:
    """A head, the ``format`` of its body, and the acknowledgement that the client asked for (None: the default).

    ``admit(key)`` judges a key in the body; None: the head had a key, or no key is needed. ``first`` is the place of
    the body's first event in its request; ``piece``: the body is a piece of a larger one, so the key is asked for after
    the last piece. ``one`` is the short way of a body that is one event, if this head allows it.

    ::

        request = EventRequest(head, protocol.choose(head))
        decoded = request.format.decode(request, body)
    """

    # Slots: a remembered head keeps its request, and thousands of heads are remembered.
    __slots__ = ("ack", "admit", "first", "format", "head", "one", "piece")

    def __init__(
        self,
        head: Head,
        chosen: Format,
        ack: Ack | None = None,
        admit: Callable[[str], bool] | None = None,
    ) -> None:
        # A copy, without the state of the route: that is this object, and what holds itself is freed late.
        self.head = copy(head)
        self.format = chosen
        self.ack = ack
        self.admit = admit
        self.first = 0
        self.piece = False
        # The short way reads the bytes as they came, so they must have no coding.
        self.one = None if head.coding else chosen.one
