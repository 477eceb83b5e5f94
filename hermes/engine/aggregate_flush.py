"""The optional flush of counts to the sinks: the counts since the last flush, as events.

Invariant: summing ``count`` over all flushed events of a type and minute gives its count as of the last flush, for
what finds no room is made up for by the next. Each count is an event of its own request, so that no number of them is
too many for a small queue. Runs every AGGREGATE_FLUSH_INTERVAL. Run by the app as one task.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import msgspec
import trio

from hermes.engine.aggregate import Aggregator
from hermes.event import Event

TYPE = "hermes.aggregate"


async def flush_aggregates(aggregator: Aggregator, offer: Callable[[list[Event], int], bool], interval: float) -> None:
    """Every ``interval`` seconds offer the growth of each count as one event, until cancelled."""
    flushed: dict[str, int] = {}
    while True:
        await trio.sleep(interval)
        counts = aggregator.snapshot()
        flushed = {key: count for key, count in flushed.items() if key in counts}
        for key, count in counts.items():
            grown = count - flushed.get(key, 0)
            if not grown:
                continue
            event = _event(key, grown)
            if not offer([event], len(memoryview(event.payload))):
                break
            flushed[key] = count
            await trio.lowlevel.checkpoint()


def _event(key: str, count: int) -> Event:
    kind, _, minute = key.rpartition(":")
    payload = msgspec.json.encode({"type": kind, "minute": int(minute), "count": count})
    return Event(uuid4().hex, "hermes", TYPE, int(minute) * 60, msgspec.Raw(payload))
