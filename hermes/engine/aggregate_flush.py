"""The optional flush of counts to the sinks: what was counted since the last one, as events.

Invariant: summing ``count`` over all flushed events of a type and minute gives its count, for a flush that finds no
room is made up for by the next. Runs every AGGREGATE_FLUSH_INTERVAL. Run by the app as one task.
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
        events = [
            _event(key, count - flushed.get(key, 0)) for key, count in counts.items() if count != flushed.get(key)
        ]
        size = sum(len(bytes(event.payload)) for event in events)
        if events and offer(events, size):
            flushed = counts


def _event(key: str, count: int) -> Event:
    kind, _, minute = key.rpartition(":")
    payload = msgspec.json.encode({"type": kind, "minute": int(minute), "count": count})
    return Event(uuid4().hex, "hermes", TYPE, int(minute) * 60, msgspec.Raw(payload))
