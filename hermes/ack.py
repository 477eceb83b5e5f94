"""What a client may ask to be sure of before it is answered, and what it is told.

`Ack` is the value of the request header ``Hermes-Ack``; `Outcome` is how a request ended; a `Receipt` follows the
events of one request into the sinks. Both lanes ask with these and the engine answers with them, so neither imports the
other.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, IntEnum

HEADER = "hermes-ack"


class Ack(IntEnum):
    """How far events must have come before their request is answered."""

    ACCEPTED = 0
    """In the queue."""
    DURABLE = 1
    """Committed to the journal."""
    DELIVERED = 2
    """Stored by every required sink; where none is required, by the first."""


class Outcome(Enum):
    """How the events of a request have fared; all but `TAKEN`, `REFUSED`, `DROPPED` and `LATE`: nothing was taken."""

    TAKEN = "they have come as far as was asked for"
    NO_ROOM = "the queue is full"
    NO_SPACE = "the journal has reached JOURNAL_MAX_BYTES"
    TOO_LARGE = "the journal can never take them in one request"
    FAILED = "the journal's storage fails"
    REFUSED = "a sink has refused some for good"
    DROPPED = "a sink will never get some of them"
    LATE = "ACK_TIMEOUT came first"


class SinkReceipt:
    """What one sink has done with the events of a request so far, in events."""

    __slots__ = ("dead_lettered", "delivered", "dropped")

    def __init__(self) -> None:
        self.delivered = 0
        self.dead_lettered = 0
        self.dropped = 0

    @property
    def known(self) -> int:
        """Events whose outcome was noted."""
        return self.delivered + self.dead_lettered + self.dropped


Settle = Callable[[Outcome, "Receipt | None"], None]
"""Is told how the events of a request have fared, once; the receipt is there if the request asked for delivery."""


class Receipt:
    """Follows ``events`` events into ``sinks``, and calls ``settle`` once: when all are known, or when it expires."""

    __slots__ = ("_settle", "_unknown", "durable", "events", "sinks")

    def __init__(self, events: int, sinks: tuple[str, ...], settle: Settle) -> None:
        self.durable = False
        self.events = events
        self.sinks = {name: SinkReceipt() for name in sinks}
        self._unknown = events * len(sinks)
        self._settle: Settle | None = settle

    @property
    def settled(self) -> bool:
        """Whether the request has its answer."""
        return self._settle is None

    def note(self, sink: str, delivered: int, dead_lettered: int = 0, dropped: int = 0) -> None:
        """A sink has settled some of the events."""
        noted = self.sinks[sink]
        noted.delivered += delivered
        noted.dead_lettered += dead_lettered
        noted.dropped += dropped
        self._unknown -= delivered + dead_lettered + dropped
        if not self._unknown:
            every = self.sinks.values()
            dropped_any = any(each.dropped for each in every)
            refused_any = any(each.dead_lettered for each in every)
            self.settle(Outcome.DROPPED if dropped_any else Outcome.REFUSED if refused_any else Outcome.TAKEN)

    def settle(self, outcome: Outcome) -> None:
        """Answer, unless that has been done."""
        settle, self._settle = self._settle, None
        if settle is not None:
            settle(outcome, self)
