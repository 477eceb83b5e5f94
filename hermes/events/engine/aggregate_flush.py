"""The optional flush of counts to the sinks: the counts since the last flush, as events.

Invariant: summing ``count`` over all flushed events of a type and minute gives its count as of the last flush, for the
next flush has the counts that found no room in this one. Each count is an event of its own request, so that no number
of them is too many for a small queue. Runs every AGGREGATE_FLUSH_INTERVAL.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import msgspec
import trio

from hermes.events.engine.aggregate import Aggregator
from hermes.events.event import Event

TYPE = "hermes.aggregate"


async def flush_aggregates(aggregator: Aggregator, offer: Callable[[list[Event], int], bool], interval: float) -> None:
    """Every ``interval`` seconds offer the growth of each count as one event, until cancelled."""
    flushed: dict[str, int] = {}
    while True:
        await trio.sleep(interval)
        counts = aggregator.snapshot()
        # Minutes that left the aggregates never come back, so their keys would only take memory.
        flushed = {key: count for key, count in flushed.items() if key in counts}
        for key, count in counts.items():
            grown = count - flushed.get(key, 0)
            if not grown:
                continue
            event = _event(key, grown)
            if not offer([event], len(memoryview(event.payload))):
                # The queue is full: clients come first, and the next flush makes up for it.
                break
            flushed[key] = count
            # There may be 50,000 counts, each an event of its own.
            await trio.lowlevel.checkpoint()


def _event(key: str, count: int) -> Event:
    kind, _, minute = key.rpartition(":")
    payload = msgspec.json.encode({"type": kind, "minute": int(minute), "count": count})
    # A new id each time: the growth of the next flush is another event, though the type and the minute are the same.
    return Event(uuid4().hex, "hermes", TYPE, int(minute) * 60, msgspec.Raw(payload))
