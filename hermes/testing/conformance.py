"""The conformance suite for sinks: checks a real sink against the promises that the engine relies on.

    async def test_my_sink_conforms(tmp_path):
        await check_sink(lambda: open_my_sink(tmp_path), read_back, stores_once=True)

Invariant: the engine can deliver to a sink that passes; a promise beyond the contract (`hermes.Sink`) is checked only
if the sink claims it. Runs under pytest-trio or any Trio program, without a running Hermes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from uuid import uuid4

import trio

from hermes.events.event import MAX_TIMESTAMP, Batch, Event
from hermes.events.sink import Sink
from hermes.testing.cancelled_writes import CancelledWrites
from hermes.testing.events import awkward_events, bad_events, big_event, make_batch, make_events
from hermes.testing.probe import OpenSink, ReadBack, SinkCheckFailed, SinkProbe, fail

# A sink may take more, but a test of a larger batch takes minutes and finds no other faults.
MOST_EVENTS = 20_000


async def check_sink(
    open_sink: OpenSink,
    read_back: ReadBack | None = None,
    *,
    stores_once: bool = False,
    keeps_order: bool = False,
    atomic: bool = False,
    exact_payload: bool = True,
    largest_payload: int = 2**20,
    latest_timestamp: int = MAX_TIMESTAMP,
    timeout: float = 60.0,
) -> None:
    """Check every promise that the engine relies on. Raises `SinkCheckFailed` for the first one that the sink breaks.

    ``open_sink()`` opens the sink, as its plugin's ``open`` does; it is called many times, over the same storage.
    ``read_back()`` returns all events in that storage, including the events of this run; without it only the behaviour
    is checked, not the stored events. The sink's claims:

    - ``stores_once``: an event id that arrives again is not stored again
    - ``keeps_order``: events are read back in the order of their batch
    - ``atomic``: a cancelled write stores all of its events or none
    - ``exact_payload``: payloads are read back byte for byte; if False, as equal JSON

    ``largest_payload`` is in bytes. ``latest_timestamp``, in Unix seconds, is the last time that the storage can hold:
    the sink must reject later events, and never store another time in their place. ``timeout`` is the longest time, in
    seconds, that any single step may take.

        sink = ScriptedSink()

        async def read_back() -> list[Event]:
            return sink.stored

        await check_sink(sink.open, read_back, keeps_order=True, atomic=True)
    """
    probe = SinkProbe(open_sink, read_back, stores_once, keeps_order, exact_payload, timeout)
    # Ids of this run alone: the storage may have the events of an earlier one.
    checks = _Checks(probe, atomic, largest_payload, latest_timestamp, run_id=uuid4().hex[:12])
    await checks.run()


@dataclass(frozen=True)
class _Checks:
    probe: SinkProbe
    atomic: bool
    largest_payload: int
    latest_timestamp: int
    run_id: str

    async def run(self) -> None:
        cancelled = CancelledWrites(self.probe, self.atomic, self.run_id)
        # The large batches come last: `read_back` reads the whole storage each time.
        await self.attributes_are_sane()
        await self.closing_is_safe()
        await self.small_batches_arrive()
        await self.awkward_events_arrive()
        await self.repeated_events_arrive()
        await cancelled.leave_nothing_half_done()
        await self.bad_events_cost_only_themselves()
        await cancelled.leave_no_answer_behind()
        await self.concurrent_writes_arrive()
        await self.the_largest_batch_arrives()

    async def attributes_are_sane(self) -> None:
        async with self.probe.opened("open") as sink:
            for name in ("max_batch", "concurrency"):
                value = getattr(sink, name, None)
                # `type` instead of isinstance: True is an int too.
                if type(value) is not int or value < 1:
                    fail("attributes", f"{name} is {value!r}", f"give the sink an int `{name}` of at least 1")

    async def closing_is_safe(self) -> None:
        check = "closing"
        batch = make_batch(self._events(check, 3))
        async with self.probe.opened(check) as sink:
            await self.probe.write(check, sink, batch)
        try:
            async with self.probe.opened(check):
                # `open` must close the sink after an exception, and let the exception pass.
                raise _Mark
        except _Mark:
            pass
        else:
            fail(check, "an exception raised inside `async with` was swallowed", "let it pass through `open`")
        with trio.CancelScope() as scope:
            async with self.probe.opened(check) as sink:
                # Closing in a cancelled scope: a sink that awaits without a shield leaves its connection open here.
                scope.cancel()
                await self.probe.write(check, sink, batch)
                await trio.lowlevel.checkpoint()
        async with self.probe.opened(check) as sink:
            await self.probe.write(check, sink, batch)
        await self.probe.expect(check, batch.events, repeated=True)

    async def small_batches_arrive(self) -> None:
        check = "small batches"
        events = self._events(check, 4)
        async with self.probe.opened(check) as sink:
            # The engine never writes an empty batch, but an author's own code may.
            await self.probe.write(check, sink, Batch([]))
            await self.probe.write(check, sink, make_batch(events[:1]))
            # Chunks of one event: a sink must not expect one chunk in a batch.
            for part in _parts(events[1:], min(3, sink.max_batch)):
                await self.probe.write(check, sink, make_batch(part, chunk=1))
        await self.probe.expect(check, events)

    async def awkward_events_arrive(self) -> None:
        check = "awkward events"
        awkward = awkward_events(prefix=self.run_id)
        events = [event for event in awkward if event.timestamp <= self.latest_timestamp]
        # The largest payload goes through the same checks as the awkward ones.
        events.append(big_event(self.largest_payload, id=f"{self.run_id}-big"))
        async with self.probe.opened(check) as sink:
            for part in _parts(events, min(7, sink.max_batch)):
                await self.probe.write(check, sink, make_batch(part, chunk=2))
            for late in awkward:
                if late.timestamp > self.latest_timestamp:
                    _watch, refused = await self.probe.try_write(check, sink, make_batch([late]))
                    if not refused:
                        fail(check, f"write() took the time {late.timestamp}", "reject an event that cannot be stored")
        await self.probe.expect(check, events)

    async def repeated_events_arrive(self) -> None:
        check = "repeated events"
        events = self._events(check, 8)
        async with self.probe.opened(check) as sink:
            size = min(6, sink.max_batch)
            await self.probe.write(check, sink, make_batch(events[:size]))
            await self.probe.write(check, sink, make_batch(events[:size]))
            # Some events again, some new ones: a batch that fails for its old events would lose the new ones.
            for part in _parts(events, size):
                await self.probe.write(check, sink, make_batch(part))
            # The same ids twice in one batch: Postgres refuses to update a row twice in one statement.
            for part in _parts([*events[-2:], *events[-2:]], size):
                await self.probe.write(check, sink, make_batch(part))
        await self.probe.expect(check, events, repeated=True)

    async def bad_events_cost_only_themselves(self) -> None:
        check = "bad events"
        good = self._events(check, 4)
        bad = bad_events(f"{self.run_id}-{check.replace(' ', '-')}")
        # Good events on both sides of each bad one: a sink may lose those before it or those after it.
        mixed = [good[0], bad[0], good[1], bad[1], good[2], bad[2], good[3]]
        async with self.probe.opened(check) as sink:
            for part in _parts(mixed, min(len(mixed), sink.max_batch)):
                _, refused = await self.probe.try_write(check, sink, make_batch(part))
                for event in (part[index] for index in refused):
                    # A sink that rejects a whole batch for one bad event loses good events.
                    if event in good:
                        fail(check, f"the good event {event.id!r} was rejected as well", "reject the bad ones only")
        await self.probe.expect(check, good)

    async def concurrent_writes_arrive(self) -> None:
        check = "concurrent writes"
        async with self.probe.opened(check) as sink:
            size = min(200, sink.max_batch)
            # As many at once as the sink claims in `concurrency`.
            own = [self._events(f"{check}-{n}", size) for n in range(sink.concurrency)]
            await self._write_together(check, sink, [make_batch(events) for events in own])
            await self.probe.expect(check, [event for events in own for event in events], in_order=False)
            shared = self._events(f"{check}-shared", size)
            # Opposite orders of the same ids: two transactions that lock rows in the order of the batch deadlock.
            orders = [shared, shared[::-1]] * sink.concurrency
            await self._write_together(check, sink, [make_batch(order) for order in orders[: sink.concurrency]])
            await self.probe.expect(check, shared, repeated=True, in_order=False)

    async def _write_together(self, check: str, sink: Sink, batches: Iterable[Batch]) -> None:
        failures: list[SinkCheckFailed] = []

        async def write(batch: Batch) -> None:
            try:
                await self.probe.write(check, sink, batch)
            except SinkCheckFailed as failure:
                # Kept instead of raised, so that a test shows the first failure and not an exception group.
                failures.append(failure)

        async with trio.open_nursery() as nursery:
            for batch in batches:
                nursery.start_soon(write, batch)
        if failures:
            raise failures[0]

    async def the_largest_batch_arrives(self) -> None:
        check = "the largest batch"
        async with self.probe.opened(check) as sink:
            events = self._events(check, min(sink.max_batch, MOST_EVENTS))
            # Chunks of the size that one request brings.
            await self.probe.write(check, sink, make_batch(events, chunk=500))
        await self.probe.expect(check, events)

    def _events(self, check: str, count: int) -> list[Event]:
        return make_events(count, prefix=f"{self.run_id}-{check.replace(' ', '-')}", payload=b'{ "n": 1.50 }')


class _Mark(Exception):
    """Raised by a check inside an open sink."""


def _parts(events: Sequence[Event], size: int) -> Iterator[Sequence[Event]]:
    return (events[start : start + size] for start in range(0, len(events), size))
