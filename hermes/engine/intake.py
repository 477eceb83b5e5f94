"""The intake: the bounded channel between the edge and the sinks, and the task at its end.

The edge offers the events of a request; admission lets them in or not; they join the open chunk, and the channel
carries it. The task that wakes takes everything that waits, counts it once, and hands it to every sink's delivery: one
wake-up a chunk of work, never one an event. Invariant: the channel never overflows, for every chunk in it
holds an event that admission has counted. Closing the intake ends the task when all is handed on, and that in turn ends
the deliveries. The edge calls `offer`, `wait` and `retry_after`; the app runs `run`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import trio

from hermes.engine.admission import Admission
from hermes.engine.aggregate import Aggregator
from hermes.engine.delivery import Delivery
from hermes.event import Chunk, Event

_GATHER_SECONDS = 0.005
_MOST_AT_ONCE = 10_000  # events; counting them takes 2 to 3 ms


class Intake:
    """What the edge gives its events to. ``blocking``: events for which there is no room may wait."""

    def __init__(
        self,
        deliveries: Sequence[Delivery],
        aggregator: Aggregator,
        *,
        queue_size: int,
        queue_bytes: int,
        blocking: bool,
    ) -> None:
        self._send, self._receive = trio.open_memory_channel[Chunk](queue_size)
        self._deliveries = deliveries
        self._aggregator = aggregator
        self._max_chunk = min(delivery.max_batch for delivery in deliveries)
        self._open: Chunk | None = None
        self.admission = Admission(queue_size, queue_bytes)
        # Events hold their room until every required sink has settled them; where none is required, the first sink.
        waited_for = [delivery for delivery in deliveries if delivery.required]
        self._needed = len(waited_for) or 1
        for delivery in waited_for or deliveries:
            delivery.on_settled = self._settle
        self.capacity = queue_size
        self.blocking = blocking

    def offer(self, events: list[Event], size: int) -> bool:
        """Take all the events, which came in ``size`` bytes, or none (False)."""
        count = len(events)
        if not self.admission.admit(count, size):
            return False
        chunk = self._open
        if chunk is not None and len(chunk.events) + count <= self._max_chunk:
            chunk.events += events
            chunk.size += size
        else:
            self._take(events, size)
        return True

    def wait(self, events: list[Event], size: int, settle: Callable[[bool], None]) -> Callable[[], None]:
        """Take them when there is room, and then ``settle(True)``. The function returned calls it off, with False."""

        def admitted(taken: bool) -> None:
            if taken:
                self._take(events, size)
            settle(taken)

        return self.admission.wait(len(events), size, admitted)

    def offer_derived(self, events: list[Event], size: int) -> bool:
        """Take events that Hermes made of others, which are not counted again, or none (False)."""
        if len(events) > self._max_chunk or not self.admission.admit(len(events), size):
            return False
        self._send_chunk(Chunk(events, time.time(), size, derived=True))
        return True

    def retry_after(self) -> int:
        """Whole seconds after which there may be room again."""
        return self.admission.retry_after(trio.current_time())

    async def run(self) -> None:
        """Hand on what comes until `close`, and then the rest; the deliveries are closed on the way out."""
        try:
            with self._receive:
                async for chunk in self._receive:
                    if self._hand_on(chunk) < _MOST_AT_ONCE:
                        # Under load each wake-up would bring a request or two. What comes in this pause comes at once.
                        await trio.sleep(_GATHER_SECONDS)
        finally:
            self.admission.close()  # cancelled or crashed: others may still run, and nobody takes what they offer
        for delivery in self._deliveries:
            delivery.close()

    def stop_blocking(self) -> None:
        """A stop has begun: nobody waits for room any more, and those who do are refused."""
        self.blocking = False
        self.admission.dismiss_waiters()

    def close(self) -> None:
        """Take nothing any more. Those who wait for room are refused."""
        self.admission.close()
        self._send.close()

    def _take(self, events: list[Event], size: int) -> None:
        """Send admitted events on their way in a new chunk, to which others may be added until it is received."""
        chunk = Chunk(events, time.time(), size)
        if len(events) <= self._max_chunk:
            self._open = chunk
        for piece in chunk.split(self._max_chunk):
            self._send_chunk(piece)

    def _send_chunk(self, chunk: Chunk) -> None:
        chunk.unsettled = self._needed
        self._send.send_nowait(chunk)

    def _hand_on(self, chunk: Chunk) -> int:
        """Hand on a chunk with what waits behind it, but no more at once than the loop can spare the time for."""
        self._open = None
        chunks, count = [chunk], len(chunk)
        try:
            while count < _MOST_AT_ONCE:
                chunk = self._receive.receive_nowait()
                chunks.append(chunk)
                count += len(chunk)
        except (trio.WouldBlock, trio.EndOfChannel):
            pass  # all that waited is here; the loop above will meet the end of the channel by itself
        self._aggregator.add(chunks)
        for delivery in self._deliveries:
            delivery.offer(chunks)
        return count

    def _settle(self, chunks: Sequence[Chunk]) -> None:
        count = size = 0
        for chunk in chunks:
            chunk.unsettled -= 1
            if chunk.unsettled == 0:
                count += len(chunk.events)
                size += chunk.size
        if count:
            self.admission.leave(count, size, trio.current_time())
