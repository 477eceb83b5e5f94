"""The ledger: for each sink, the outcome of every event that was accepted.

Invariant, at every moment: ``accepted = delivered + dead-lettered + evicted + spilled + dropped + in flight``, and
after a drain nothing is in flight. No term is computed from the others: each is counted where its events are, so an
event that is lost or counted twice shows as ``missing``. After a stop the journal owes the spilled events. An imbalance
is a bug of Hermes, never a fact about a sink. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, slots=True)
class Account:
    """The sums of one sink, in events.

    ``dead_lettered`` events were refused for good and have a letter that is kept; ``evicted`` events had a letter that
    made room for newer ones, so they are nowhere. ``spilled`` events are kept in the journal for the next start; with
    DURABILITY=memory there are no such events. ``replayed`` is the part of ``accepted`` that was not accepted in this
    run: left in the journal by an earlier run, or letters sent again. ``in_flight`` events are in memory or on disk,
    without an outcome. ``owed`` events will be delivered from the journal at the next start and have no outcome in this
    run but that they are spilled; None before the end of the run, and without a journal.
    """

    sink: str
    accepted: int
    replayed: int
    delivered: int
    dead_lettered: int
    evicted: int
    spilled: int
    dropped: dict[str, int] = field(default_factory=dict)
    in_flight: int = 0
    owed: int | None = None

    @property
    def missing(self) -> int:
        """Accepted events that are nowhere; below zero: some are in two places. Anything but 0 is a bug."""
        # Each term is counted where its events are, so that a bug in one of them shows here.
        refused = self.dead_lettered + self.evicted
        settled = self.delivered + refused + self.spilled + sum(self.dropped.values())
        return self.accepted - settled - self.in_flight

    @property
    def balanced(self) -> bool:
        """Whether the equation holds, no part of it is below zero, and the journal owes the spilled events."""
        # Two bugs may cancel each other out in the sum; a part below zero, or a journal that disagrees, shows them.
        parts = (self.replayed, self.delivered, self.dead_lettered, self.evicted, self.spilled, self.in_flight)
        return not self.missing and min(*parts, *self.dropped.values()) >= 0 and self.owed in (None, self.spilled)

    def to_dict(self) -> dict[str, object]:
        """The sums as plain values, for a log line or JSON."""
        # ``owed`` is known at the end alone, and only to be compared with ``spilled``.
        sums = asdict(self)
        del sums["owed"]
        return sums


class Ledger:
    """The account of one sink while it is written. ``evicted`` counts its letters that were evicted.

    >>> ledger = Ledger("main", evicted=lambda: 0)
    >>> ledger.accept(5)
    >>> ledger.deliver(3)
    >>> ledger.drop(1, "queue_full")
    >>> ledger.account(in_flight=1).missing
    0
    """

    def __init__(self, sink: str, evicted: Callable[[], int]) -> None:
        self.sink = sink
        self.accepted = 0
        self.replayed = 0
        self.delivered = 0
        self.dead_lettered = 0
        """Events that were refused for good, with the events whose letters were evicted since."""
        self.dropped: Counter[str] = Counter()
        self.spilled = 0
        self._evicted = evicted

    def accept(self, count: int, *, again: bool = False) -> None:
        """Events were handed to the sink's delivery; ``again``: they had been accepted before."""
        self.accepted += count
        # `replayed` is a part of it, so that events of an earlier run have their outcome in this account, too.
        if again:
            self.replayed += count

    def deliver(self, count: int) -> None:
        """The sink has stored events."""
        self.delivered += count

    def dead_letter(self, count: int) -> None:
        """The sink refused events for good, and the dead letters have got them."""
        self.dead_lettered += count

    def drop(self, count: int, reason: str) -> None:
        """Events will never reach the sink."""
        # Without this a reason that never occurred would show with 0.
        if count:
            self.dropped[reason] += count

    def spill(self, count: int) -> None:
        """Events stay in the journal at a stop; the next start delivers them."""
        self.spilled += count

    def account(self, in_flight: int, owed: int | None = None) -> Account:
        """The sums as of now; ``in_flight`` and ``owed`` are counted where these events are."""
        # Evicted letters were dead-lettered before, and an event may stand in one term alone.
        evicted = self._evicted()
        return Account(
            self.sink,
            self.accepted,
            self.replayed,
            self.delivered,
            self.dead_lettered - evicted,
            evicted,
            self.spilled,
            # A copy: an account is a value of its moment.
            dict(self.dropped),
            in_flight,
            owed,
        )
