"""The requests that wait for the delivery of their events (``Hermes-Ack: delivered``), and their deadline.

All wait equally long, so they expire in the order in which they came, and one task with one timer does for all.
Invariant: at most `MAX_OPEN` wait, each until it is settled, expires or is called off. Filled by the intake; the app
runs `run`.
"""

from __future__ import annotations

from collections import deque

import trio

from hermes.ack import Outcome, Receipt, Settle

MAX_OPEN = 50_000


class Receipts:
    """Receipts over ``sinks``, each of which expires ``timeout`` seconds after it was opened."""

    def __init__(self, sinks: tuple[str, ...], timeout: float) -> None:
        self._sinks = sinks
        self._timeout = timeout
        self._open: deque[tuple[float, Receipt]] = deque()
        self._first = trio.Event()
        self._ended = False

    def open(self, events: int, settle: Settle) -> Receipt | None:
        """Follow ``events`` events; None: too many requests wait already, or nothing is delivered any more."""
        self._forget_settled()
        if self._ended or len(self._open) >= MAX_OPEN:
            return None
        receipt = Receipt(events, self._sinks, settle)
        self._open.append((trio.current_time() + self._timeout, receipt))
        self._first.set()
        return receipt

    def expire_all(self) -> None:
        """Nothing more will be delivered: everybody is told what is known."""
        self._ended = True
        while self._open:
            self._open.popleft()[1].settle(Outcome.LATE)

    async def run(self) -> None:
        """Let receipts expire, until cancelled."""
        while True:
            if not self._open:
                self._first = trio.Event()
                await self._first.wait()
                continue
            due = self._open[0][0]
            await trio.sleep_until(due)
            while self._open and self._open[0][0] <= trio.current_time():
                self._open.popleft()[1].settle(Outcome.LATE)

    def _forget_settled(self) -> None:
        while self._open and self._open[0][1].settled:
            self._open.popleft()
