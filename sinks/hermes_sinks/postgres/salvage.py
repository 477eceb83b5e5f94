"""Finds the rows that a server refuses, and stores all others.

Parts are stored from the front. A refused part is tried again up to the row that the server names, or up to its half if
the server names no row; then the named row is tried alone; after each success the next part is twice as large.
Invariants: only a row that was refused alone counts as refused. ``k`` bad rows of ``n`` cost O(k log n) attempts and
each row is sent a few times, so that a client that sends only bad rows cannot stop the sink.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from hermes_sinks.postgres.faults import RowFault

Store = Callable[[Sequence[bytes]], Awaitable[RowFault | None]]
"""Stores all the rows together and returns None, or stores no row and returns the fault."""


async def store_the_good(rows: Sequence[bytes], store: Store, fault: RowFault | None = None) -> dict[int, str]:
    """Store the good rows, in order; return the reason of each refused row, by its index.

    ``fault`` is the fault of all rows together, if the caller has tried them already. ::

        async def store(part: Sequence[bytes]) -> RowFault | None: ...

        refused = await store_the_good(rows, store)
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
            # Twice as many after each success: ``k`` bad rows of ``n`` cost O(k log n) attempts.
            size = 2 * len(part)
        elif len(part) > 1:
            size, suspect = _narrow(at, len(part), fault)
        else:
            refused[at] = fault.reason
            # One row next, because bad rows come in runs.
            at, size = at + 1, 1
    return refused


def _narrow(at: int, size: int, fault: RowFault) -> tuple[int, int]:
    """Return how many rows to try after a refusal of ``size`` rows from ``at``, and the suspected row or -1."""
    if fault.line is None or not 0 <= fault.line < size:
        return max(1, size // 2), -1
    return max(1, fault.line), at + fault.line
