"""Checks that a cancelled write leaves nothing half done, and no answer that a later write takes for its own.

Invariant: a write is cancelled at each of its awaits in turn, once at the await itself and once while the awaited
operation is under way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import trio

from hermes.events.event import Batch, Event
from hermes.events.sink import Sink
from hermes.testing.events import bad_events, make_batch, make_events
from hermes.testing.probe import SinkCheckFailed, SinkProbe, fail

# A bound on the rounds: a sink that pauses for every event would make as many rounds as it has events.
MOST_PAUSES = 200
# Seconds. 0 cancels at the await itself; after 2 ms a local server has the request, and its answer is under way.
CANCEL_DELAYS = (0.0, 0.002)


@dataclass(frozen=True)
class CancelledWrites:
    """The checks of one sink; ``atomic`` is the sink's claim."""

    probe: SinkProbe
    atomic: bool
    run_id: str

    async def leave_nothing_half_done(self) -> None:
        """Check that a cancelled batch can be written again, and is complete then."""
        check = "cancellation"
        async with self.probe.opened(check) as sink:
            for delay in CANCEL_DELAYS:
                for pause in range(MOST_PAUSES):
                    # New ids in each round: a sink that stores an id once would take a leftover of the round before for
                    # success.
                    events = self._events(f"{check}-{delay}-{pause}", min(12, sink.max_batch))
                    # The write ended before this pause, so later pauses do not exist.
                    if not await self._cancel_one(check, sink, events, pause, delay):
                        break

    async def _cancel_one(self, check: str, sink: Sink, events: list[Event], pause: int, delay: float) -> bool:
        """Cancel a write ``delay`` seconds after its pause number ``pause``; return whether it reached this pause."""
        # Several chunks, so that a sink which writes chunk by chunk can be cancelled between two of them.
        batch = make_batch(events, chunk=5)
        reached, cancelled = await self._cancel(check, sink, batch, pause, delay)
        when = f"after a write was cancelled at its await number {pause + 1}"
        # A write that ended in time is complete; only a write that was cut off may be incomplete.
        if self.atomic and cancelled and self.probe.read_back is not None:
            stored = len(await self.probe.stored(events))
            if stored not in (0, len(events)):
                advice = "put the whole batch into one transaction, or do not claim `atomic`"
                fail(check, f"{when}, {stored} of its {len(events)} events were stored", advice)
        try:
            await self.probe.write(check, sink, batch)
            await self.probe.expect(check, events, repeated=True)
        except SinkCheckFailed as failure:
            failure.add_note(f"This happened {when}: clean up in `finally`, in a shielded scope with a deadline.")
            raise
        return reached

    async def leave_no_answer_behind(self) -> None:
        """Check that the write after a cancelled write gets its own answer.

        A sink that keeps its connection after a cancelled write reads the answer to the cancelled write as the answer
        to the next one: it loses rejected events, rejects good ones, or returns before its events are stored.
        """
        check = "the write after a cancelled one"
        async with self.probe.opened(check) as sink:
            # One less than the limit: a bad event joins the batch.
            size = max(1, min(12, sink.max_batch - 1))
            refusable = await self._find_refusable(check, sink)
            for delay in CANCEL_DELAYS:
                for pause in range(MOST_PAUSES):
                    name = f"{check}-{delay}-{pause}"
                    # The cancelled batch and the next differ in size, so that a mixed-up answer shows in the number of
                    # its rows.
                    one = self._events(f"{name}-one", 1)
                    many = self._events(f"{name}-many", size)
                    bad = [] if refusable is None else [self._bad_events(name)[refusable]]
                    reached, _ = await self._cancel(check, sink, make_batch(one), pause, delay)
                    if not reached:
                        break
                    await self._write_after(check, sink, [*many, *bad], len(bad))
                    # The other way round: here the cancelled write has the bad event, and a rejection would hit the
                    # next batch.
                    await self._cancel(check, sink, make_batch(bad or one), pause, delay)
                    await self._write_after(check, sink, self._events(f"{name}-last", size), 0)

    async def _find_refusable(self, check: str, sink: Sink) -> int | None:
        """Return the index of a bad event that the sink rejects; None if the sink takes all of them."""
        # By trial: one storage takes what another refuses.
        for place, event in enumerate(self._bad_events(check)):
            _, refused = await self.probe.try_write(check, sink, make_batch([event]))
            if refused:
                return place
        return None

    async def _cancel(self, check: str, sink: Sink, batch: Batch, pause: int, delay: float) -> tuple[bool, bool]:
        """Cancel a write ``delay`` seconds after its pause number ``pause``.

        Returns whether the write reached the pause, and whether it was cut off.
        """
        reached = False

        def before_pause(number: int) -> None:
            nonlocal reached
            if number == pause:
                reached = True
                scope.deadline = trio.current_time() + delay
                if not delay:
                    scope.cancel()

        with trio.CancelScope() as scope:
            await self.probe.try_write(check, sink, batch, before_pause)
        return reached, scope.cancelled_caught

    async def _write_after(self, check: str, sink: Sink, events: list[Event], bad: int) -> None:
        """Write events of which the last ``bad`` must be rejected, and check that the answer is for this write."""
        advice = (
            "after a cancelled write, throw away the connection, or whatever else an answer may still come on: in "
            "`finally`, in a shielded scope with a deadline"
        )
        _, refused = await self.probe.try_write(check, sink, make_batch(events))
        expected = set(range(len(events) - bad, len(events)))
        if set(refused) != expected:
            what = f"write() rejected {sorted(refused)} where only {sorted(expected)} may be"
            fail(check, f"{what}: that is the answer to the cancelled write", advice)
        try:
            await self.probe.expect(check, events[: len(events) - bad])
        except SinkCheckFailed as failure:
            failure.add_note(f"It may have taken the answer to the cancelled write for its own: {advice}.")
            raise

    def _events(self, name: str, count: int) -> list[Event]:
        return make_events(count, prefix=f"{self.run_id}-{name.replace(' ', '-')}", payload=b'{ "n": 1.50 }')

    def _bad_events(self, name: str) -> Sequence[Event]:
        return bad_events(f"{self.run_id}-{name.replace(' ', '-')}")
