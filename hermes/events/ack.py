"""Acknowledgements: the guarantee that a client waits for, and the outcome that its answer reports.

`Ack` is the value of the request header ``Hermes-Ack``; `Outcome` is the end of a request; a `Receipt` follows the
events of one request into the sinks.

Invariant: a request gets exactly one outcome. The lanes and the engine share this module, so neither imports the other.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, IntEnum

# In lower case, as both lanes write the names of headers.
HEADER = "hermes-ack"


class Ack(IntEnum):
    """The stage that events must reach before their request is answered."""

    ACCEPTED = 0
    """In the queue."""
    DURABLE = 1
    """Committed to the journal."""
    DELIVERED = 2
    """Stored by every required sink; if no sink is required, by the first one."""


class Outcome(Enum):
    """The outcome of a request's events.

    After `TAKEN`, `REFUSED`, `DROPPED` and `LATE` the events are accepted; after the others no event was accepted.
    """

    TAKEN = "they have come as far as was asked for"
    NO_ROOM = "the queue is full"
    NO_SPACE = "the journal has reached JOURNAL_MAX_BYTES"
    TOO_LARGE = "the journal can never take them in one request"
    FAILED = "the journal's storage fails"
    REFUSED = "a sink has refused some for good"
    DROPPED = "a sink will never get some of them"
    # The events go on their way; only the wait of the client ends.
    LATE = "ACK_TIMEOUT came first"


class SinkReceipt:
    """One sink's results for the events of a request so far, in events.

    >>> SinkReceipt().known
    0
    """

    __slots__ = ("dead_lettered", "delivered", "dropped")

    def __init__(self) -> None:
        self.delivered = 0
        self.dead_lettered = 0
        self.dropped = 0

    @property
    def known(self) -> int:
        """The number of events with a known outcome."""
        return self.delivered + self.dead_lettered + self.dropped


Tell = Callable[[Outcome, "Receipt | None"], None]
"""Called once with the outcome of a request; with the receipt if the request asked for delivery."""


class Receipt:
    """Follows ``events`` events into ``sinks``, and calls ``tell`` once: when all outcomes are known, or on expiry.

    >>> receipt = Receipt(2, ("postgres",), lambda outcome, receipt: print(outcome.name))
    >>> receipt.note("postgres", delivered=1)
    >>> receipt.note("postgres", delivered=1)
    TAKEN
    """

    __slots__ = ("_tell", "_unknown", "durable", "events", "sinks")

    def __init__(self, events: int, sinks: tuple[str, ...], tell: Tell) -> None:
        # The journal sets the mark. Only with the mark may an answer promise that the events will be delivered.
        self.durable = False
        self.events = events
        self.sinks = {name: SinkReceipt() for name in sinks}
        # One counter for all sinks: `note` runs for every batch, and a sum over the sinks would cost more.
        self._unknown = events * len(sinks)
        # None once the request has its answer: a late result of a sink must not answer again.
        self._tell: Tell | None = tell

    @property
    def closed(self) -> bool:
        """Whether the request has its answer."""
        return self._tell is None

    def note(self, sink: str, delivered: int, dead_lettered: int = 0, dropped: int = 0) -> None:
        """Note a sink's results for some of the events."""
        noted = self.sinks[sink]
        noted.delivered += delivered
        noted.dead_lettered += dead_lettered
        noted.dropped += dropped
        self._unknown -= delivered + dead_lettered + dropped
        if not self._unknown:
            every = self.sinks.values()
            dropped_any = any(each.dropped for each in every)
            refused_any = any(each.dead_lettered for each in every)
            # The worst outcome of any sink: the client must learn of a lost event first.
            self.close(Outcome.DROPPED if dropped_any else Outcome.REFUSED if refused_any else Outcome.TAKEN)

    def close(self, outcome: Outcome) -> None:
        """Answer the request, unless the request has its answer."""
        # Cleared first, so that a callback which causes another note cannot answer twice.
        tell, self._tell = self._tell, None
        if tell is not None:
            tell(outcome, self)
