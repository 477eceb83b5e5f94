"""The requests that wait for the delivery of their events (``Hermes-Ack: delivered``), and their deadline.

All wait equally long, so they expire in the order in which they came, and one task with one timer does for all.
Invariants: at most `MAX_OPEN` wait, each until it is settled, expires or is called off; ``unanswered`` counts, for each
sink, the events of which it has noted no outcome, whether their request waits for that or has given up. Filled by the
intake; the app runs `run`.
"""

from __future__ import annotations

from collections import Counter, OrderedDict

import trio

from hermes.ack import Outcome, Receipt, Settle

MAX_OPEN = 50_000
_MOST_AT_ONCE = 500  # answers before others get the loop: some 5 ms


class Receipts:
    """Receipts over ``sinks``, each of which expires ``timeout`` seconds after it was opened."""

    def __init__(self, sinks: tuple[str, ...], timeout: float) -> None:
        self._sinks = sinks
        self._timeout = timeout
        # By age, with the moment of expiry. Ordered, for a plain dict finds its first slowly when many before it left.
        self._open: OrderedDict[Receipt, float] = OrderedDict()
        self._first = trio.Event()
        self._ended = False
        self.unanswered: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._open)

    def open(self, events: int, settle: Settle) -> Receipt | None:
        """Follow ``events`` events; None: too many requests wait already, or nothing is delivered any more."""
        if self._ended or len(self._open) >= MAX_OPEN:
            return None

        def close(outcome: Outcome, closed: Receipt | None) -> None:
            del self._open[receipt]
            if outcome is Outcome.FAILED:  # nothing of it was taken, so no sink will ever note anything
                self._expect(-events)
            settle(outcome, closed)

        receipt = Receipt(events, self._sinks, close, self._noted)
        self._expect(events)
        self._open[receipt] = trio.current_time() + self._timeout
        self._first.set()
        return receipt

    def _expect(self, events: int) -> None:
        for sink in self._sinks:
            self.unanswered[sink] += events

    def _noted(self, sink: str, events: int) -> None:
        self.unanswered[sink] -= events

    async def expire_after(self, seconds: float) -> None:
        """A stop has begun: nobody waits longer than this for a delivery."""
        await trio.sleep(seconds)
        self.expire_all()

    def expire_all(self) -> None:
        """Nothing more will be delivered: everybody is told what is known."""
        self._ended = True
        while self._open:
            next(iter(self._open)).settle(Outcome.LATE)

    async def run(self) -> None:
        """Let receipts expire, until cancelled."""
        while True:
            while not self._open:  # those who came may have gone before we look
                self._first = trio.Event()
                await self._first.wait()
            # The oldest may be settled before that. Those that come now expire later, so nobody is told too late.
            await trio.sleep_until(next(iter(self._open.values())))
            self._expire(trio.current_time())

    def _expire(self, now: float) -> None:
        """Tell those who are due, a number of them; with more of them `run` comes back at once."""
        for _ in range(_MOST_AT_ONCE):
            receipt, due = next(iter(self._open.items()), (None, now))
            if receipt is None or due > now:
                return
            receipt.settle(Outcome.LATE)
