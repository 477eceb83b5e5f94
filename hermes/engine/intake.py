"""The intake: the bounded channel between the edge and the sinks, and the task at its end.

The edge offers the events of a request; admission lets them in or not; they join the open chunk, and the channel
carries it. The task that wakes takes everything that waits, commits it to the journal if there is one (one commit
answers every request in it), counts it once, and hands it to every sink's delivery: one wake-up a chunk of work, never
one an event. Invariants: the channel never overflows, for every chunk in it holds an event that admission has counted;
what was answered as durable is in the journal, and what is refused is in no sink. Closing the intake ends the task when
all is handed on, and that in turn ends the deliveries. The edge calls `offer`, `submit` and `retry_after`; the app runs
`run`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

import trio

from hermes.ack import Ack, Outcome, Receipt, Settle
from hermes.engine.admission import Admission
from hermes.engine.aggregate import Aggregator
from hermes.engine.delivery import Delivery
from hermes.engine.journal import EventJournal
from hermes.engine.journal_record import fits_record
from hermes.engine.receipts import Receipts
from hermes.engine.slices import answer_in_slices
from hermes.engine.tap import Tap
from hermes.errors import LogUnavailable
from hermes.event import Chunk, Event
from hermes.traced import TracedRequest
from hermes.traces.work import NO_TRACING, Tracing

_DURABLE = Ack.DURABLE  # a name of the module, for looking a member up on its enum takes a while
_GATHER_SECONDS = 0.005
_MOST_AT_ONCE = 10_000  # events; counting them takes 2 to 3 ms
_MOST_IN_A_RECORD = 5_000  # events; encoding them takes 2 ms
_MOST_JOINED_BYTES = 2**20  # a request that is larger travels alone, so that a record of many stays small
_MOST_BYTES_AT_ONCE = 16 * 2**20  # of one commit


def _nothing_to_call_off() -> None:
    """A commit that has begun comes to its end, whoever waits for it."""


class Intake:
    """What the edge gives its events to. ``blocking``: events for which there is no room may wait.

    ``ack`` is how far events come before a request that does not say otherwise is answered. Without a ``journal``
    events hold their room until every required sink has settled them, with one until they are committed. The delivery
    of events is awaited from the required sinks; where none is required, from the first.
    """

    def __init__(
        self,
        deliveries: Sequence[Delivery],
        aggregator: Aggregator,
        *,
        queue_size: int,
        queue_bytes: int,
        blocking: bool,
        journal: EventJournal | None = None,
        ack_timeout: float = 30.0,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self._send, self._receive = trio.open_memory_channel[Chunk](queue_size)
        self._deliveries = deliveries
        self._aggregator = aggregator
        self._journal = journal
        self._tracing = tracing
        self._max_chunk = min(delivery.max_batch for delivery in deliveries)
        self._open: Chunk | None = None
        self._open_unacked: Chunk | None = None
        self.admission = Admission(queue_size, queue_bytes)
        self.tap = Tap()
        self.traced: TracedRequest | None = None
        """The request whose events are being offered, while that is one that is traced."""
        self.uncommitted = 0
        """Events that were taken for good and are in the channel: neither a sink nor a journal has them yet."""
        required = [delivery for delivery in deliveries if delivery.required]
        self._needed = len(required) or 1  # where none is required, the first to settle frees the room
        if journal is None:
            for delivery in required or deliveries:
                delivery.on_settled = self._settle
        awaited = required or [deliveries[0]]
        for delivery in awaited:
            delivery.awaited = True
        by_name = {delivery.name: delivery for delivery in awaited}
        self.receipts = Receipts(
            tuple(by_name), ack_timeout, lambda name: by_name[name].untold + self.uncommitted + self.admission.events
        )
        self.ack = Ack.ACCEPTED if journal is None else Ack.DURABLE
        self.capacity = queue_size
        self.blocking = blocking

    @property
    def accepted(self) -> int:
        """Events that were taken for good, since the start."""
        admission = self.admission
        if self._journal is None:
            return admission.accepted
        return admission.accepted - admission.events + self.uncommitted  # what holds room there is not committed yet

    def offer(self, events: list[Event], size: int) -> bool:
        """Take all the events, which came in ``size`` bytes, into the queue, or none (False)."""
        if not self.admission.admit(len(events), size):
            return False
        self._join(events, size, None)
        return True

    def find_refusal(self, size: int) -> Outcome | None:
        """Why a request of ``size`` bytes would find no room, as far as is known before its events are; None: go on."""
        journal = self._journal
        if journal is not None and size + self.admission.bytes > journal.room:
            journal.want_room()
            return Outcome.NO_SPACE
        return None if self.blocking or self.admission.has_room(1, size) else Outcome.NO_ROOM

    def submit(self, events: list[Event], size: int, ack: Ack, settle: Settle) -> Callable[[], None]:
        """Take all the events or none, and call ``settle`` once it is known how they fared, maybe at once.

        The function returned calls the wait off, as far as that is possible; ``settle`` is called all the same.
        """
        journal = self._journal
        if journal is not None:
            if size > journal.capacity or not _fit_records(events, size):
                settle(Outcome.TOO_LARGE, None)
                return _nothing_to_call_off
            if size + self.admission.bytes > journal.room:
                journal.want_room()
                settle(Outcome.NO_SPACE, None)
                return _nothing_to_call_off
        if self.admission.admit(len(events), size):
            if ack is _DURABLE:
                self._join(events, size, settle)
                return _nothing_to_call_off
            return self._enter(events, size, ack, settle)
        if self.blocking:
            return self._wait(events, size, ack, settle)
        settle(Outcome.NO_ROOM, None)
        return _nothing_to_call_off

    def offer_derived(self, events: list[Event], size: int) -> bool:
        """Take events that Hermes made of others, which are not counted again, or none (False)."""
        if len(events) > self._max_chunk or not self.admission.admit(len(events), size):
            return False
        self._send_chunk(Chunk(events, time.time(), size, derived=True))
        self.uncommitted += len(events)
        return True

    def retry_after(self) -> int:
        """Whole seconds after which there may be room again."""
        return self.admission.retry_after(trio.current_time())

    async def run(self) -> None:
        """Hand on what comes until `close`, and then the rest; the deliveries are closed on the way out."""
        try:
            with self._receive:
                async for chunk in self._receive:
                    chunks = self._gather(chunk)
                    count = sum(map(len, chunks))
                    if self._journal is not None:
                        # What comes during the commit comes in the next one: that is pause enough.
                        await self._commit_and_hand_on(self._journal, chunks)
                        continue
                    await self._hand_on(chunks)
                    if count < _MOST_AT_ONCE:
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

    # --- in ----------------------------------------------------------------------------------------------------

    def _enter(self, events: list[Event], size: int, ack: Ack, settle: Settle) -> Callable[[], None]:
        """Admitted events go on their way; ``settle`` hears when they are as far as ``ack`` says."""
        if ack is Ack.DELIVERED:
            return self._follow(events, size, settle)
        if ack is Ack.DURABLE:
            self._join(events, size, settle)
        else:
            self._join(events, size, None)
            settle(Outcome.TAKEN, None)
        return _nothing_to_call_off

    def _wait(self, events: list[Event], size: int, ack: Ack, settle: Settle) -> Callable[[], None]:
        call_off: Callable[[], None] | None = None
        traced = self.traced

        def admitted(taken: bool) -> None:
            nonlocal call_off
            if taken:
                present, self.traced = self.traced, traced
                try:
                    call_off = self._enter(events, size, ack, settle)
                finally:
                    self.traced = present
            else:
                settle(Outcome.NO_ROOM, None)

        stop_waiting = self.admission.wait(len(events), size, admitted)
        return lambda: (call_off or stop_waiting)()

    def _follow(self, events: list[Event], size: int, settle: Settle) -> Callable[[], None]:
        """Events whose request waits for their delivery travel in chunks of their own."""
        receipt = self.receipts.open(len(events), settle)
        if receipt is None:
            self.admission.expel(len(events), size, trio.current_time())
            settle(Outcome.NO_ROOM, None)
            return _nothing_to_call_off
        chunk = self._new_chunk(events, size)
        chunk.receipt = receipt
        for piece in self._cut(chunk):
            self._send_chunk(piece)
        if self._journal is None:
            self.uncommitted += len(events)
        return lambda: receipt.settle(Outcome.LATE)

    def _join(self, events: list[Event], size: int, settle: Settle | None) -> None:
        """Put admitted events into the open chunk, or into new ones. Requests that wait for a commit share chunks."""
        chunk = self._open_unacked if settle is None else self._open
        if (
            chunk is not None
            and len(chunk.events) + len(events) <= self._max_chunk
            and chunk.size + size <= _MOST_JOINED_BYTES
        ):
            chunk.events += events
            chunk.size += size
            if self.traced is not None:
                _trace(chunk, self.traced, len(events))
        else:
            chunk = self._new_chunk(events, size)
            pieces = self._cut(chunk)
            if len(pieces) > 1:
                self._open = self._open_unacked = None
                for piece in pieces[:-1]:
                    piece.continues = self._journal is not None
                    if settle is not None:
                        piece.waiting.append(_hear_nothing)  # the request hears of its last piece
                chunk = pieces[-1]
            elif settle is None:
                self._open_unacked = chunk
            else:
                self._open = chunk
            for piece in pieces:
                self._send_chunk(piece)
        if settle is not None:
            chunk.waiting.append(settle)
        if settle is None or self._journal is None:
            self.uncommitted += len(events)

    def _new_chunk(self, events: list[Event], size: int) -> Chunk:
        chunk = Chunk(events, time.time(), size)
        if self.traced is not None:
            _trace(chunk, self.traced, len(events))
        return chunk

    def _cut(self, chunk: Chunk) -> Sequence[Chunk]:
        """The chunk as it is encoded and counted in a short time: the records of one commit, or what the sinks take."""
        return chunk.split(_MOST_IN_A_RECORD if self._journal is not None else min(self._max_chunk, _MOST_IN_A_RECORD))

    def _send_chunk(self, chunk: Chunk) -> None:
        chunk.unsettled = self._needed
        self._send.send_nowait(chunk)

    # --- on ----------------------------------------------------------------------------------------------------

    def _gather(self, chunk: Chunk) -> list[Chunk]:
        """A chunk with what waits behind it, but no more at once than the loop can spare the time for."""
        self._open = self._open_unacked = None
        chunks, count, size = [chunk], len(chunk), chunk.size
        try:
            while (count < _MOST_AT_ONCE and size < _MOST_BYTES_AT_ONCE) or chunk.continues:
                chunk = self._receive.receive_nowait()
                chunks.append(chunk)
                count += len(chunk)
                size += chunk.size
        except (trio.WouldBlock, trio.EndOfChannel):
            pass  # all that waited is here; the loop above will meet the end of the channel by itself
        return chunks

    async def _commit_and_hand_on(self, journal: EventJournal, chunks: list[Chunk]) -> None:
        """Commit chunks, hand them on, and answer those who wait for the commit."""
        promised = [chunk for chunk in chunks if not chunk.waiting and chunk.receipt is None]
        refused: list[Chunk] = []
        try:
            with self._tracing.commit(chunks):
                await journal.append(chunks)
        except LogUnavailable:
            # What was answered already, as no more than accepted, goes on without a place in the journal.
            refused = [chunk for chunk in chunks if chunk.waiting or chunk.receipt is not None]
            chunks = promised
            for traced in chain.from_iterable(chunk.traced or () for chunk in refused):
                traced.accepted = 0
        now = trio.current_time()
        self.admission.expel(sum(map(len, refused)), sum(chunk.size for chunk in refused), now)
        await self._hand_on(chunks)
        await answer_in_slices(_take_waiting(chunks), lambda settle: settle(Outcome.TAKEN, None))
        await answer_in_slices(_take_waiting(refused), lambda settle: settle(Outcome.FAILED, None))
        await answer_in_slices(_take_followed(refused), lambda receipt: receipt.settle(Outcome.FAILED))

    async def _hand_on(self, chunks: Sequence[Chunk]) -> None:
        """Count chunks and give them to the sinks, as many at a time as the loop can spare the time for."""
        begun = count = 0
        for place, chunk in enumerate(chunks, 1):
            count += len(chunk)
            if count >= _MOST_AT_ONCE or place == len(chunks):
                self._hand_on_now(chunks[begun:place], count)
                begun, count = place, 0
                if place < len(chunks):
                    # Shielded: what is committed, or taken, goes to every sink, or the accounts would not balance.
                    await trio.lowlevel.cancel_shielded_checkpoint()

    def _hand_on_now(self, chunks: Sequence[Chunk], count: int) -> None:
        if self._journal is None:
            self.uncommitted -= count
        else:
            self.uncommitted -= sum([len(chunk) for chunk in chunks if not chunk.waiting and chunk.receipt is None])
            self.admission.leave(count, sum([chunk.size for chunk in chunks]), trio.current_time())
        self._aggregator.add(chunks)
        if self.tap.listening:
            self.tap.show(chunks)
        for delivery in self._deliveries:
            delivery.offer(chunks)

    def _settle(self, chunks: Sequence[Chunk]) -> None:
        count = size = 0
        for chunk in chunks:
            chunk.unsettled -= 1
            if chunk.unsettled == 0:
                count += len(chunk.events)
                size += chunk.size
        if count:
            self.admission.leave(count, size, trio.current_time())


def _fit_records(events: list[Event], size: int) -> bool:
    """Whether the journal can keep a request of ``size`` bytes in the records that it is cut into."""
    if len(events) <= _MOST_IN_A_RECORD:
        return fits_record(events, size)
    starts = range(0, len(events), _MOST_IN_A_RECORD)
    return all(fits_record(events[start : start + _MOST_IN_A_RECORD], size) for start in starts)


def _hear_nothing(_outcome: Outcome, _receipt: Receipt | None) -> None:
    """What settles a piece of a request that hears of another."""


def _trace(chunk: Chunk, request: TracedRequest, count: int) -> None:
    """``count`` of the chunk's events are those of a traced request."""
    request.accepted = count
    if chunk.traced is None:
        chunk.traced = [request]
    else:
        chunk.traced.append(request)


def _take_waiting(chunks: Sequence[Chunk]) -> Iterator[Settle]:
    """The requests that wait for the commit of these chunks; each is taken from its chunk, so it is answered once."""
    for chunk in chunks:
        waiting, chunk.waiting = chunk.waiting, []
        yield from waiting


def _take_followed(chunks: Sequence[Chunk]) -> Iterator[Receipt]:
    for chunk in chunks:
        if chunk.receipt is not None:
            yield chunk.receipt
