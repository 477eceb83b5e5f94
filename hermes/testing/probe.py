"""Opens a sink, writes and reads back, and watches: each step is bounded in time, each fault reported in plain words.

Invariant: every fault of a sink leaves this module as a `SinkCheckFailed` that says what to do, except an exception
that the sink's ``open`` raises itself.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import NoReturn

import trio

from hermes.base.errors import BatchRejected, SinkUnavailable
from hermes.events.event import Batch, Event
from hermes.events.sink import Sink
from hermes.testing.opening import opened_within
from hermes.testing.stepping import Watch

OpenSink = Callable[[], AbstractAsyncContextManager[Sink]]
ReadBack = Callable[[], Awaitable[Iterable[Event]]]

# Seconds between two awaits of a write. Far more than any sink needs, so that a slow machine does not fail a good sink.
LONGEST_STEP = 1.0


class SinkCheckFailed(AssertionError):
    """A sink breaks the contract; the message names the broken promise and the remedy."""


def fail(check: str, what: str, advice: str) -> NoReturn:
    """Raise `SinkCheckFailed` with the finding and the advice."""
    raise SinkCheckFailed(f"{check}: {what}. {advice[0].upper()}{advice[1:]}.")


@dataclass(frozen=True)
class SinkProbe:
    """One sink, its storage and its claims; the fields are the parameters of `check_sink`."""

    open_sink: OpenSink
    read_back: ReadBack | None
    stores_once: bool
    keeps_order: bool
    exact_payload: bool
    timeout: float

    def opened(self, check: str) -> AbstractAsyncContextManager[Sink]:
        """Open the sink for a block; opening and closing may each take ``timeout``."""

        def tell(words: str) -> None:
            fail(check, words, "bound what it waits for")

        return opened_within(self.timeout, self.open_sink, tell)

    async def write(
        self, check: str, sink: Sink, batch: Batch, *, before_pause: Callable[[int], None] = lambda _number: None
    ) -> Watch:
        """Write a batch that the sink must store completely."""
        watch, refused = await self.try_write(check, sink, batch, before_pause)
        if refused:
            advice = "every event that keeps the rules of `hermes.Event` has to be stored"
            fail(check, f"write() rejected good events: {refused}", advice)
        return watch

    async def try_write(
        self, check: str, sink: Sink, batch: Batch, before_pause: Callable[[int], None] = lambda _number: None
    ) -> tuple[Watch, dict[int, str]]:
        """Write a batch and watch the call; return the rejected events' reasons by index."""
        watch = Watch(before_pause)
        refused: dict[int, str] = {}
        with trio.CancelScope(deadline=trio.current_time() + self.timeout) as bound:
            try:
                await watch.run(sink.write(batch))
            except SinkUnavailable as error:
                # The check runs against a working storage, so there is no reason for a retry.
                fail(check, f"write() said unavailable: {error}", "it must succeed while the storage works")
            except BatchRejected as error:
                refused = error.reasons
            # The engine lets such an exception crash the service; the author learns of it here.
            except Exception as error:
                raise SinkCheckFailed(
                    f"{check}: write() let {type(error).__name__} escape: {error}. Turn what may pass into "
                    "SinkUnavailable, what the events are to blame for into BatchRejected."
                ) from error
        if bound.cancelled_caught:
            fail(check, f"write() took longer than {self.timeout:g} s", "bound what it waits for")
        # A sink may return from an empty batch at once.
        if len(batch) and not watch.pauses:
            fail(check, "write() never let another task run", "await something: trio.lowlevel.checkpoint() at least")
        if watch.longest > LONGEST_STEP:
            advice = "run blocking calls in trio.to_thread.run_sync, and await between slices of long computations"
            fail(check, f"write() kept every other task waiting for {watch.longest:.1f} s", advice)
        for index, reason in refused.items():
            # The engine makes a dead letter of each entry; an index outside of the batch would lose the letter.
            if not (type(index) is int and 0 <= index < len(batch) and isinstance(reason, str) and reason):
                advice = "the keys are indexes in the batch, the values say why in words"
                fail(check, f"BatchRejected has {index!r}: {reason!r} for {len(batch)} events", advice)
        return watch, refused

    async def stored(self, events: Iterable[Event]) -> list[Event]:
        """Return the stored ones of ``events``, found by their ids, in the order of reading."""
        if self.read_back is None:
            return []
        # The storage may hold other tests' events, and earlier checks' ones.
        ids = {event.id for event in events}
        with trio.fail_after(self.timeout):
            return [event for event in await self.read_back() if event.id in ids]

    async def expect(
        self, check: str, events: Sequence[Event], *, repeated: bool = False, in_order: bool = True
    ) -> None:
        """Check that these events are stored, each once unless it was written repeatedly."""
        if self.read_back is None:
            return
        stored = await self.stored(events)
        counts = Counter(event.id for event in stored)
        for event in events:
            if not counts[event.id]:
                advice = "return from write() only when every event is stored and can be read"
                fail(check, f"the event {event.id!r} is not there ({len(counts)} of {len(events)} are)", advice)
            # Without the claim a repetition is allowed only for events that were written twice.
            if counts[event.id] > 1 and (self.stores_once or not repeated):
                advice = "ignore ids that are stored, or do not claim `stores_once`" if repeated else "write each once"
                fail(check, f"the event {event.id!r} is stored {counts[event.id]} times", advice)
        found = {event.id: event for event in stored}
        for event in events:
            self._compare(check, event, found[event.id])
        # Concurrent and repeated writes have no order to keep.
        if self.keeps_order and in_order and not repeated:
            order = [event.id for event in stored]
            if order != [event.id for event in events]:
                fail(check, f"the order was lost: {order[:5]}…", "write in order, or do not claim `keeps_order`")

    def _compare(self, check: str, sent: Event, stored: Event) -> None:
        for name in ("user_id", "type", "timestamp"):
            if getattr(sent, name) != getattr(stored, name):
                fail(
                    check,
                    f"{name} of {sent.id!r} came back as {getattr(stored, name)!r} instead of {getattr(sent, name)!r}",
                    "escape what the format gives a meaning to, and keep text as Unicode",
                )
        one, other = bytes(sent.payload), bytes(stored.payload)
        # json.loads compares big numbers exactly, and ignores white space and the order of keys.
        if one != other and (self.exact_payload or json.loads(one) != json.loads(other)):
            advice = "store bytes(event.payload) as they are" + (
                ", or say `exact_payload=False` if the storage re-writes JSON" if self.exact_payload else ""
            )
            fail(check, f"the payload of {sent.id!r} came back as {other[:200]!r} instead of {one[:200]!r}", advice)
