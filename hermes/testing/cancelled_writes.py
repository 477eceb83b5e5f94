"""What a cancelled write may leave behind: nothing half done, and no answer that a later write takes for its own.

Invariant: a write is cancelled at each of its awaits in turn, at the await itself and while what it waits for is under
way. Called by `hermes.testing.check_sink`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import trio

from hermes.event import Batch, Event
from hermes.sink import Sink
from hermes.testing.events import bad_events, make_batch, make_events
from hermes.testing.probe import SinkCheckFailed, SinkProbe, fail

MOST_PAUSES = 200  # of one write that are cancelled, each in turn
CANCEL_DELAYS = (0.0, 0.002)  # at the await itself, and while what it waits for is under way


@dataclass(frozen=True)
class CancelledWrites:
    """The checks of one sink; ``atomic`` is what it claims."""

    probe: SinkProbe
    atomic: bool
    run_id: str

    async def leave_nothing_half_done(self) -> None:
        """The same batch can be written again, and is all there then."""
        check = "cancellation"
        async with self.probe.opened(check) as sink:
            for delay in CANCEL_DELAYS:
                for pause in range(MOST_PAUSES):
                    events = self._events(f"{check}-{delay}-{pause}", min(12, sink.max_batch))
                    if not await self._cancel_one(check, sink, events, pause, delay):
                        break

    async def _cancel_one(self, check: str, sink: Sink, events: list[Event], pause: int, delay: float) -> bool:
        """Cancel a write ``delay`` seconds after its pause of this number; return whether it got that far."""
        batch = make_batch(events, chunk=5)
        reached, cancelled = await self._cancel(check, sink, batch, pause, delay)
        when = f"after a write was cancelled at its await number {pause + 1}"
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
        """The write after a cancelled one gets its own answer, and not the one that nobody waited for.

        A sink that keeps its connection after a cancelled write reads the answer to that write as the answer to the
        next one: it loses rejected events, rejects good ones, or returns before its events are stored.
        """
        check = "the write after a cancelled one"
        async with self.probe.opened(check) as sink:
            size = max(1, min(12, sink.max_batch - 1))
            refusable = await self._find_refusable(check, sink)
            for delay in CANCEL_DELAYS:
                for pause in range(MOST_PAUSES):
                    name = f"{check}-{delay}-{pause}"
                    one = self._events(f"{name}-one", 1)
                    many = self._events(f"{name}-many", size)
                    bad = [] if refusable is None else [self._bad_events(name)[refusable]]
                    reached, _ = await self._cancel(check, sink, make_batch(one), pause, delay)
                    if not reached:
                        break
                    await self._write_after(check, sink, [*many, *bad], len(bad))
                    await self._cancel(check, sink, make_batch(bad or one), pause, delay)
                    await self._write_after(check, sink, self._events(f"{name}-last", size), 0)

    async def _find_refusable(self, check: str, sink: Sink) -> int | None:
        """Which of the bad events the sink refuses, by its place; None for a sink that takes them all."""
        for place, event in enumerate(self._bad_events(check)):
            _, refused = await self.probe.try_write(check, sink, make_batch([event]))
            if refused:
                return place
        return None

    async def _cancel(self, check: str, sink: Sink, batch: Batch, pause: int, delay: float) -> tuple[bool, bool]:
        """Cancel a write ``delay`` seconds after its pause of this number; whether it got that far, and was cut off."""
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
        """Write events of which the last ``bad`` have to be refused, and see that they got the answer of their own."""
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
