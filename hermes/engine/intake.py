"""The intake: the bounded channel between the edge and the sinks, and the task at its end.

The edge offers a chunk; admission lets it in or not; the channel carries it. The task that wakes takes everything that
waits, counts it once, and hands it to every sink's delivery: one wake-up a chunk of work, never one an event.
Invariant: the channel never overflows, for admission bounds what can be in it. Closing the intake ends the task when all is handed
on, and that in turn ends the deliveries. The edge calls `offer`, `wait` and `retry_after`; the app runs `run`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from hermes.engine.admission import Admission
from hermes.engine.aggregate import Aggregator
from hermes.engine.delivery import Delivery
from hermes.event import Chunk


class Intake:
    """What the edge gives its chunks to. ``blocking``: a chunk for which there is no room may wait."""

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
        waited_for = [delivery for delivery in deliveries if delivery.required]
        self.admission = Admission(
            queue_size,
            queue_bytes,
            self._send.send_nowait,
            max_chunk=min(delivery.max_batch for delivery in deliveries),
            needed=len(waited_for) or 1,
        )
        for delivery in waited_for or deliveries:
            delivery.on_settled = self._settle
        self.capacity = queue_size
        self.blocking = blocking

    def offer(self, chunk: Chunk) -> bool:
        """Take all events of a chunk, or none (False)."""
        return self.admission.offer(chunk)

    def wait(self, chunk: Chunk, settle: Callable[[bool], None]) -> Callable[[], None]:
        """Take a chunk when there is room, then ``settle(True)``. The function returned calls it off, with False."""
        return self.admission.wait(chunk, settle)

    def retry_after(self) -> int:
        """Whole seconds after which there may be room again."""
        return self.admission.retry_after(trio.current_time())

    async def run(self) -> None:
        """Hand on what comes until `close`, and then the rest; the deliveries are closed on the way out."""
        with self._receive:
            async for chunk in self._receive:
                self._hand_on(chunk)
        for delivery in self._deliveries:
            delivery.close()

    def close(self) -> None:
        """Take nothing any more. Those who wait for room are refused."""
        self.admission.close()
        self._send.close()

    def _hand_on(self, chunk: Chunk) -> None:
        chunks = [chunk]
        try:
            while True:
                chunks.append(self._receive.receive_nowait())
        except (trio.WouldBlock, trio.EndOfChannel):
            pass  # all that waited is here; the loop above will meet the end of the channel by itself
        self._aggregator.add(chunks)
        for delivery in self._deliveries:
            delivery.offer(chunks)

    def _settle(self, chunks: Sequence[Chunk]) -> None:
        self.admission.settle(chunks, trio.current_time())
