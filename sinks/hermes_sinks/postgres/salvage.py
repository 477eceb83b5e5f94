"""Finding the rows that a server refuses, and storing all others.

Parts are stored from the front. A part that is refused is tried again up to the row that the server names (half of it
where it names none); the row behind that alone; after each success twice as much. Invariant: only a row that was
refused alone counts as refused. ``k`` bad rows of ``n`` cost O(k log n) attempts, and each row is sent a few times,
however many are bad: a client that sends nothing but bad rows must not be able to stop the sink. Called by it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from hermes_sinks.postgres.faults import RowFault

Store = Callable[[Sequence[bytes]], Awaitable[RowFault | None]]
"""Stores rows together or, when it returns a fault, none of them."""


async def store_the_good(rows: Sequence[bytes], store: Store, fault: RowFault | None = None) -> dict[int, str]:
    """Store what can be stored, in order; return the reason for each row that cannot, by its index.

    ``fault`` is what came of all rows together, if that was tried already.
    """
    refused: dict[int, str] = {}
    at, size = 0, len(rows)
    suspect = -1
    if fault is not None:
        size, suspect = _narrow(at, size, fault)
    while at < len(rows):
        part = rows[at : at + (1 if at == suspect else size)]
        fault = await store(part)
        if fault is None:
            at += len(part)
            size = 2 * len(part)
        elif len(part) > 1:
            size, suspect = _narrow(at, len(part), fault)
        else:
            refused[at] = fault.reason
            at, size = at + 1, 1  # bad rows come in runs
    return refused


def _narrow(at: int, size: int, fault: RowFault) -> tuple[int, int]:
    """After a refusal of ``size`` rows from ``at``: how many to try next, and the row to suspect (-1: none)."""
    if fault.line is None or not 0 <= fault.line < size:
        return max(1, size // 2), -1
    return max(1, fault.line), at + fault.line
