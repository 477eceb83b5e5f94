"""The intake: the bounded channel between the edge and the sinks, and the task at its end.

The edge submits the events of a request; admission lets them in or not; they join the open chunk, and the channel
carries it. The task at the end of the channel takes every chunk that waits, counts the events once, and gives the
chunks to every sink's delivery: one wake-up a chunk of work, never one an event. With a journal it commits them first:
`hermes.events.engine.journal_intake`.

Invariant: the channel never overflows, for every chunk in it holds an event that admission has counted. Closing the
intake ends the task when all is handed on, and that in turn ends the deliveries.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import trio

from hermes.events.ack import Ack, Outcome, Receipt, Tell
from hermes.events.engine.admission import Admission
from hermes.events.engine.aggregate import Aggregator
from hermes.events.engine.delivery import Delivery
from hermes.events.engine.receipts import Receipts
from hermes.events.engine.tap import Tap
from hermes.events.event import Chunk, Event
from hermes.observe.traced_request import TracedRequest
from hermes.observe.tracing import NO_TRACING, Tracing

# A name of the module, for looking a member up on its enum takes a while.
_DURABLE = Ack.DURABLE
_GATHER_SECONDS = 0.005
# Events: counting them takes 2 to 3 ms.
_MOST_AT_ONCE = 10_000
# Handed on at once: a millisecond.
_MOST_CHUNKS = 200
MOST_IN_A_RECORD = 5_000
"""Events: encoding them takes 2 ms."""
# A larger request travels alone, so that a record of many requests stays small.
_MOST_JOINED_BYTES = 2**20
# Bytes of one commit.
_MOST_BYTES_AT_ONCE = 16 * 2**20


def nothing_to_call_off() -> None:
    """Do nothing: a commit that has begun comes to its end, whether anybody waits or not."""


@dataclass(frozen=True)
class IntakeOptions:
    """How an intake treats requests.

    ``admission`` has the bounds of the queue. ``blocking``: events for which there is no room may wait. A request that
    waits for the delivery of its events is answered after ``ack_timeout`` seconds at the latest.
    """

    admission: Admission
    blocking: bool = False
    ack_timeout: float = 30.0
    tracing: Tracing = NO_TRACING


class Intake:
    """The place for the events of requests, without a journal: they hold their room until the sinks have settled them.

    ``ack`` says how far events come before a request without a wish of its own is answered.

    ::

        intake = Intake(deliveries, Aggregator(1440), IntakeOptions(Admission(100_000, 2**28)))
        nursery.start_soon(intake.run)
        call_off = intake.submit(events, size=len(body), ack=Ack.DELIVERED, tell=answer)
        call_off()  # the client has gone: `answer` gets `Outcome.LATE`

    Attributes: 17, because each request passes here, and a look into another object for each step costs it time.
    """

    _COMMITS: ClassVar[bool] = False
    """Whether a request that waits for a commit may still be refused after it was admitted."""

    def __init__(self, deliveries: Sequence[Delivery], aggregator: Aggregator, options: IntakeOptions) -> None:
        self.admission = options.admission
        self.capacity = options.admission.max_events
        self.blocking = options.blocking
        self.ack = Ack.ACCEPTED
        self.tap = Tap()
        self.uncommitted = 0
        """Events that were taken for good and are in the channel: neither a sink nor a journal has them yet."""
        # Each chunk has an event at least, and admission bounds the events: `send_nowait` always finds a place.
        self._send, self._receive = trio.open_memory_channel[Chunk](self.capacity)
        self._deliveries = deliveries
        self._aggregator = aggregator
        self._options = options
        # The smallest of all: a chunk of this size need not be cut for any sink.
        self._max_chunk = min(delivery.max_batch for delivery in deliveries)
        self._most_in_a_chunk = min(self._max_chunk, MOST_IN_A_RECORD)
        self._open: Chunk | None = None
        self._open_unacked: Chunk | None = None
        # Where no sink is required, the first sink that settles a chunk frees its room.
        self._needed = sum(delivery.required for delivery in deliveries) or 1
        awaited = {delivery.name: delivery for delivery in deliveries if delivery.awaited}
        self.receipts = Receipts(
            tuple(awaited),
            options.ack_timeout,
            lambda name: awaited[name].untold + self.uncommitted + self.admission.events,
        )

    @property
    def accepted(self) -> int:
        """Events that were taken for good, since the start."""
        return self.admission.accepted

    def offer(self, events: list[Event], size: int, traced: TracedRequest | None = None) -> bool:
        """Take all the events, which came in ``size`` bytes, into the queue; False: there is no room.

        ``traced`` is their request, if it is traced.
        """
        if not self.admission.admit(len(events), size):
            return False
        self._join(events, size, None, traced)
        return True

    def find_refusal(self, size: int) -> Outcome | None:
        """Why a request of ``size`` bytes would find no room, before its events are decoded; None: go on."""
        # Asked before the work of decoding, so that a full service does not decode bodies only to refuse them.
        return None if self.blocking or self.admission.has_room(1, size) else Outcome.NO_ROOM

    def submit(
        self, events: list[Event], size: int, ack: Ack, tell: Tell, traced: TracedRequest | None = None
    ) -> Callable[[], None]:
        """Take all the events or refuse all, and call ``tell`` once the outcome is known, maybe at once.

        The function returned calls the wait off, as far as that is possible; ``tell`` is called all the same.
        """
        # The usual request first, and without a further call: each request passes here.
        if self.admission.admit(len(events), size):
            if ack is _DURABLE:
                self._join(events, size, tell, traced)
                return nothing_to_call_off
            return self._enter(events, size, ack, tell, traced)
        if self.blocking:
            return self._wait(events, size, ack, tell, traced)
        tell(Outcome.NO_ROOM, None)
        return nothing_to_call_off

    def offer_derived(self, events: list[Event], size: int) -> bool:
        """Take events that Hermes made of others, which are not counted again; False: there is no room."""
        # One chunk alone, which no sink has to cut; the caller has an event a call.
        if len(events) > self._max_chunk or not self.admission.admit(len(events), size):
            return False
        self._send_chunk(Chunk(events, time.time(), size, derived=True))
        self.uncommitted += len(events)
        return True

    def retry_after(self) -> int:
        """Whole seconds after which there may be room again."""
        return self.admission.retry_after(trio.current_time())

    async def run(self) -> None:
        """Hand on chunks until `close`, and then the rest; the deliveries are closed on the way out."""
        try:
            with self._receive:
                async for chunk in self._receive:
                    left: Chunk | None = chunk
                    while left is not None:
                        chunks, left = self._gather(left)
                        await self._pass_on(chunks)
        finally:
            # Cancelled or crashed: other tasks may still run and offer events, which nobody would take.
            self.admission.close()
        for delivery in self._deliveries:
            delivery.close()

    def stop_blocking(self) -> None:
        """Let no request wait for room any more, since a stop has begun; the requests that wait are refused."""
        self.blocking = False
        self.admission.dismiss_waiters()

    def close(self) -> None:
        """Take no more events. Requests that wait for room are refused."""
        self.admission.close()
        self._send.close()

    # --- in ----------------------------------------------------------------------------------------------------

    def _enter(
        self, events: list[Event], size: int, ack: Ack, tell: Tell, traced: TracedRequest | None
    ) -> Callable[[], None]:
        """Send admitted events on their way; ``tell`` is called when they are as far as ``ack`` says."""
        if ack is Ack.DELIVERED:
            return self._follow(events, size, tell, traced)
        if ack is Ack.DURABLE:
            self._join(events, size, tell, traced)
        else:
            self._join(events, size, None, traced)
            tell(Outcome.TAKEN, None)
        return nothing_to_call_off

    def _wait(
        self, events: list[Event], size: int, ack: Ack, tell: Tell, traced: TracedRequest | None
    ) -> Callable[[], None]:
        call_off: Callable[[], None] | None = None

        def admitted(taken: bool) -> None:
            nonlocal call_off
            if taken:
                call_off = self._enter(events, size, ack, tell, traced)
            else:
                tell(Outcome.NO_ROOM, None)

        stop_waiting = self.admission.wait(len(events), size, admitted)
        return lambda: (call_off or stop_waiting)()

    def _follow(self, events: list[Event], size: int, tell: Tell, traced: TracedRequest | None) -> Callable[[], None]:
        """Send events whose request waits for their delivery, in chunks of their own."""
        # Of their own, because a sink's results are noted for a chunk, not for a request in it.
        receipt = self.receipts.open(len(events), tell)
        if receipt is None:
            self.admission.expel(len(events), size, trio.current_time())
            tell(Outcome.NO_ROOM, None)
            return nothing_to_call_off
        chunk = self._new_chunk(events, size, traced)
        chunk.receipt = receipt
        for piece in self._cut(chunk):
            self._send_chunk(piece)
        if not self._COMMITS:
            self.uncommitted += len(events)
        return lambda: receipt.close(Outcome.LATE)

    def _join(self, events: list[Event], size: int, tell: Tell | None, traced: TracedRequest | None) -> None:
        """Put admitted events into the open chunk, or into new ones. Requests that wait for a commit share chunks."""
        chunk = self._open_unacked if tell is None else self._open
        if (
            chunk is not None
            and len(chunk.events) + len(events) <= self._max_chunk
            and chunk.size + size <= _MOST_JOINED_BYTES
        ):
            # The chunk is in the channel already, and not taken yet: `_gather` closes it for more.
            chunk.events += events
            chunk.size += size
            if traced is not None:
                _trace(chunk, traced, len(events))
        else:
            chunk = self._new_chunk(events, size, traced)
            pieces = self._cut(chunk)
            if len(pieces) > 1:
                # No later request joins the pieces: it would wait for a large one.
                self._open = self._open_unacked = None
                for piece in pieces[:-1]:
                    # Only a commit takes a request whole. Without a journal each piece may go on by itself.
                    piece.continues = self._COMMITS
                    if tell is not None:
                        # The request is told of its last piece; the others must not look as if nobody waits.
                        piece.waiting.append(_hear_nothing)
                chunk = pieces[-1]
            elif tell is None:
                self._open_unacked = chunk
            else:
                self._open = chunk
            for piece in pieces:
                self._send_chunk(piece)
        if tell is not None:
            chunk.waiting.append(tell)
        if tell is None or not self._COMMITS:
            self.uncommitted += len(events)

    def _new_chunk(self, events: list[Event], size: int, traced: TracedRequest | None) -> Chunk:
        chunk = Chunk(events, time.time(), size)
        if traced is not None:
            _trace(chunk, traced, len(events))
        return chunk

    def _cut(self, chunk: Chunk) -> Sequence[Chunk]:
        """The chunk in pieces that are encoded and counted in a short time, each a record or a chunk for the sinks."""
        return chunk.split(self._most_in_a_chunk)

    def _send_chunk(self, chunk: Chunk) -> None:
        # Before it is sent: a sink may settle it in the same turn of the loop.
        chunk.unsettled = self._needed
        self._send.send_nowait(chunk)

    # --- on ----------------------------------------------------------------------------------------------------

    def _gather(self, chunk: Chunk) -> tuple[list[Chunk], Chunk | None]:
        """A chunk with the chunks that wait behind, but no more at once than the loop can spare the time for.

        A request of several chunks is taken whole, and not together with smaller requests before, which would wait for
        the large one: its first chunk, if it was received, is returned for the next time.
        """
        # Requests that come from now on join a new chunk: this one is being counted or committed.
        self._open = self._open_unacked = None
        chunks, count, size = [chunk], len(chunk), chunk.size
        try:
            while (count < _MOST_AT_ONCE and size < _MOST_BYTES_AT_ONCE) or chunk.continues:
                last, chunk = chunk, self._receive.receive_nowait()
                if chunk.continues and not last.continues:
                    return chunks, chunk
                chunks.append(chunk)
                count += len(chunk)
                size += chunk.size
        except (trio.WouldBlock, trio.EndOfChannel):
            # All chunks that waited are here; the loop of `run` will meet the end of the channel by itself.
            pass
        return chunks, None

    async def _pass_on(self, chunks: list[Chunk]) -> None:
        """Hand on the chunks of one wake-up."""
        count = sum(map(len, chunks))
        await self._hand_on(chunks)
        if count < _MOST_AT_ONCE:
            # Under load each wake-up would bring a request or two. The requests of this pause come together.
            await trio.sleep(_GATHER_SECONDS)

    async def _hand_on(self, chunks: Sequence[Chunk]) -> None:
        """Give chunks to the sinks, as many at a time as the loop can spare the time for, and count them."""
        begun = count = 0
        for place, chunk in enumerate(chunks, 1):
            count += len(chunk)
            full = place - begun == _MOST_CHUNKS or (count >= _MOST_AT_ONCE and not self._COMMITS)
            if full or place == len(chunks):
                self._hand_on_now(chunks[begun:place], count)
                begun, count = place, 0
                if place < len(chunks):
                    # Shielded: committed or taken events go to every sink, or the accounts would not balance.
                    await trio.lowlevel.cancel_shielded_checkpoint()

    def _hand_on_now(self, chunks: Sequence[Chunk], count: int) -> None:
        self._count_handed_on(chunks, count)
        self._count(chunks)
        # Without a follower the tap costs this one test a wake-up.
        if self.tap.listening:
            self.tap.show(chunks)
        for delivery in self._deliveries:
            delivery.offer(chunks)

    def _count(self, chunks: Sequence[Chunk]) -> None:
        """Count the events for the aggregates, now or soon."""
        self._aggregator.add(chunks)

    def _count_handed_on(self, _chunks: Sequence[Chunk], count: int) -> None:
        """Note that chunks with ``count`` events go to the sinks now."""
        self.uncommitted -= count


def _hear_nothing(_outcome: Outcome, _receipt: Receipt | None) -> None:
    """Do nothing: the request is told of its last piece."""


def _trace(chunk: Chunk, request: TracedRequest, count: int) -> None:
    """Note that ``count`` events of the chunk belong to a traced request."""
    request.accepted = count
    if chunk.traced is None:
        chunk.traced = [request]
    else:
        chunk.traced.append(request)
