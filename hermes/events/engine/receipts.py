"""The requests that wait for the delivery of their events (``Hermes-Ack: delivered``), and their deadline.

All wait equally long, so they expire in the order in which they came, and one task with one timer is enough.
Invariants: at most `MAX_OPEN` wait, each until all outcomes are known, its time is up, or it is called off. A request
that is told of a late delivery has events without an outcome; if all have one, that is a bug, counted in ``untold``.
"""

from __future__ import annotations

import sys
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator

import trio

from hermes.base.repeated_event import RepeatedEvent
from hermes.events.ack import Outcome, Receipt, Tell
from hermes.events.engine.slices import answer_in_slices

MAX_OPEN = 50_000


class Receipts:
    """Receipts over ``sinks``, each of which expires ``timeout`` seconds after it was opened.

    ``most_untold(sink)`` is the most events of a sink that may have been noted by no receipt.

    ::

        receipts = Receipts(("main",), timeout=30.0)
        nursery.start_soon(receipts.run)
        receipt = receipts.open(events=2, tell=answer)  # or None: too many wait
        receipt.note("main", delivered=2)  # calls `answer` with `Outcome.TAKEN`
    """

    def __init__(
        self, sinks: tuple[str, ...], timeout: float, most_untold: Callable[[str], int] = lambda _sink: sys.maxsize
    ) -> None:
        self.untold: Counter[str] = Counter()
        """Events, by sink, that a receipt waited for in vain although all events there had their outcome."""
        self._sinks = sinks
        self._most_untold = most_untold
        self._timeout = timeout
        # By age, with the moment of expiry. Ordered, for a plain dict finds its first slowly when many before it left.
        self._open: OrderedDict[Receipt, float] = OrderedDict()
        self._came = RepeatedEvent()
        self._ended = False

    def __len__(self) -> int:
        return len(self._open)

    def open(self, events: int, tell: Tell) -> Receipt | None:
        """Follow ``events`` events. None: too many requests wait already, or nothing is delivered any more."""
        # Bounded, since each holds a connection and its request. After the end nobody would close the receipt.
        if self._ended or len(self._open) >= MAX_OPEN:
            return None

        # The receipt leaves before its request is told: the request's client may open the next one at once.
        def close(outcome: Outcome, closed: Receipt | None) -> None:
            del self._open[receipt]
            if outcome is Outcome.LATE:
                self._look_for_untold(receipt)
            tell(outcome, closed)

        receipt = Receipt(events, self._sinks, close)
        self._open[receipt] = trio.current_time() + self._timeout
        self._came.set()
        return receipt

    def _look_for_untold(self, receipt: Receipt) -> None:
        # Looked for when a receipt expires, not at the end of the run: expired receipts are not followed into records
        # that are read back, so their missing events could not be added up then.
        for name, sink in receipt.sinks.items():
            unknown = receipt.events - sink.known
            if unknown > (most := self._most_untold(name)):
                self.untold[name] += unknown - most

    async def expire_after(self, seconds: float) -> None:
        """Let no request wait longer than this for a delivery, since a stop has begun."""
        await trio.sleep(seconds)
        self.expire_all()

    def expire_all(self) -> None:
        """Answer every request with the outcomes that are known, since nothing more will be delivered."""
        # No receipt is opened any more, for no task would close it.
        self._ended = True
        while self._open:
            next(iter(self._open)).close(Outcome.LATE)

    async def run(self) -> None:
        """Let receipts expire, until cancelled."""
        while True:
            # Asked again after the wait: the receipt that came may be closed before this task has its turn.
            while not self._open:
                await self._came.wait()
            # The oldest may be settled before that. A receipt that is opened now expires later, so none is late.
            await trio.sleep_until(next(iter(self._open.values())))
            await answer_in_slices(self._take_due(trio.current_time()), lambda receipt: receipt.close(Outcome.LATE))

    def _take_due(self, now: float) -> Iterator[Receipt]:
        """The open receipts whose time is up, the oldest first. Each is closed by its answer before the next."""
        while self._open:
            receipt, due = next(iter(self._open.items()))
            if due > now:
                return
            yield receipt
