"""The upkeep of the journal: saves the progress of the sinks, trims records that all have settled, makes room.

Invariant: only sinks that are not waited for lose events to a crowded journal, the oldest first, each counted, and only
if that lets the journal forget a record.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio

from hermes.base.cleanup import clean_up
from hermes.base.errors import LogUnavailable
from hermes.events.engine.delivery import Delivery
from hermes.events.engine.journal import EventJournal
from hermes.observe.throttled_log import ThrottledLog

# Seconds: in Postgres a look is a query over all logs of the database.
_LOOK_AROUND = 15.0
# Seconds between two saves: at most the records settled in this time are delivered twice after a crash.
_PERIOD = 0.5
_LEAST_PERIOD = 0.02
# A crowded journal forgets this part of its records at a time: few, since they are lost, but not one by one.
_SHARE = 16
_LAST_SAVE_SECONDS = 5.0


async def keep_up(journal: EventJournal, deliveries: Sequence[Delivery]) -> None:
    """Save, trim and make room twice a second, and soon after a request found no room, until cancelled."""
    throttled = ThrottledLog("hermes.journal")
    look_at = trio.current_time()
    try:
        while True:
            with trio.move_on_after(_PERIOD):
                await journal.wait_room_wanted()
                # Many requests are refused together, and one round serves all of them.
                await trio.sleep(_LEAST_PERIOD)
            # Before the save, so that the next round sees the requests that are refused during it.
            room_wanted = journal.take_room_wanted()
            await journal.save()
            if trio.current_time() >= look_at:
                look_at = trio.current_time() + _LOOK_AROUND
                await journal.look_around()
            # A journal that cannot be read keeps what it has: nothing is given up whose number nobody knows.
            try:
                while (room_wanted or journal.crowded) and await _make_room(journal, deliveries):
                    room_wanted = False
            except LogUnavailable as error:
                throttled.warn("the journal cannot be read to make room", reason=str(error))
    finally:
        throttled.write_rest()


async def save_at_the_end(journal: EventJournal) -> None:
    """Save for the last time, so that a start after this stop delivers nothing twice. Bounded in time."""
    with clean_up(_LAST_SAVE_SECONDS):
        await journal.save()


async def _make_room(journal: EventJournal, deliveries: Sequence[Delivery]) -> bool:
    """Let the journal forget its oldest records, unless an awaited sink still needs them. Returns whether it did.

    Raises `hermes.LogUnavailable`.
    """
    # A sink that somebody waits for keeps its records, however long the others wait for room: requests are refused.
    first = journal.first
    stop = first + max(1, (journal.next - first) // _SHARE)
    stop = min([stop, *(delivery.cursor for delivery in deliveries if delivery.awaited)])
    if stop <= first:
        return False
    for delivery in deliveries:
        if delivery.cursor < stop:
            await delivery.give_up_below(stop)
    # Only a saved progress lets the journal trim.
    await journal.save()
    return journal.first > first
