"""`JournalIntake`: the intake that commits events to the journal before it hands them on.

One commit answers every request whose events it has. Invariant: an event that was answered as durable is in the
journal, and a refused event is in no sink. Events hold their room until they are committed, for from then on the disk
has them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

import trio

from hermes.base.errors import LogUnavailable
from hermes.events.ack import Ack, Outcome, Receipt, Tell
from hermes.events.engine.aggregate import Aggregator
from hermes.events.engine.delivery import Delivery
from hermes.events.engine.intake import MOST_IN_A_RECORD, Intake, IntakeOptions, nothing_to_call_off
from hermes.events.engine.journal import EventJournal
from hermes.events.engine.journal_record import fits_record
from hermes.events.engine.slices import answer_in_slices
from hermes.events.event import Chunk, Event
from hermes.observe.traced_request import TracedRequest

# Of a request that is cut; encoding them takes a few milliseconds.
_MOST_BYTES_IN_A_RECORD = 2 * 2**20
# Events: 2 ms.
_COUNTED_AT_ONCE = 10_000
# Chunks, each of 5,000 events at most.
_MOST_UNCOUNTED = 32


class JournalIntake(Intake):
    """As `Intake`, with a ``journal`` between the edge and the sinks."""

    _COMMITS = True

    def __init__(
        self, deliveries: Sequence[Delivery], aggregator: Aggregator, options: IntakeOptions, journal: EventJournal
    ) -> None:
        super().__init__(deliveries, aggregator, options)
        # A client without a wish of its own is answered when its events are committed.
        self.ack = Ack.DURABLE
        self._journal = journal
        self._uncounted: deque[Chunk] = deque()
        # The size of a record; the backlog of a sink cuts records for this sink.
        self._most_in_a_chunk = MOST_IN_A_RECORD

    @property
    def accepted(self) -> int:
        """Events that were taken for good, since the start."""
        # Events that hold room are not committed yet, and may still be refused.
        return self.admission.accepted - self.admission.events + self.uncommitted

    def find_refusal(self, size: int) -> Outcome | None:
        """As `Intake.find_refusal`, or the journal has no room."""
        journal = self._journal
        # Events that were admitted are not in the journal yet, but have their claim on its room.
        if size + self.admission.bytes > journal.room:
            journal.want_room()
            return Outcome.NO_SPACE
        return super().find_refusal(size)

    def submit(
        self, events: list[Event], size: int, ack: Ack, tell: Tell, traced: TracedRequest | None = None
    ) -> Callable[[], None]:
        """As `Intake.submit`, unless the journal has no room for the events, now or ever."""
        journal = self._journal
        # 413 for a request that would never fit: with 503 its client would come again for ever.
        if size > journal.capacity or not _fit_records(events, size):
            tell(Outcome.TOO_LARGE, None)
        elif size + self.admission.bytes > journal.room:
            journal.want_room()
            tell(Outcome.NO_SPACE, None)
        else:
            return super().submit(events, size, ack, tell, traced)
        return nothing_to_call_off

    def _cut(self, chunk: Chunk) -> Sequence[Chunk]:
        # By bytes too: a record is encoded in one step of the loop.
        most = len(chunk) * _MOST_BYTES_IN_A_RECORD // max(1, chunk.size)
        return chunk.split(min(self._most_in_a_chunk, max(1, most)))

    async def _pass_on(self, chunks: list[Chunk]) -> None:
        """Commit chunks, hand them on, and answer the requests that wait for the commit.

        The next commit takes the requests that come during this one, so no pause is needed to gather them.
        """
        promised = [chunk for chunk in chunks if not chunk.waiting and chunk.receipt is None]
        refused: list[Chunk] = []
        try:
            with self._options.tracing.commit(chunks):
                await self._journal.append(chunks)
        except LogUnavailable:
            # A request that was answered as accepted cannot be refused any more: its events go on without a place in
            # the journal.
            refused = [chunk for chunk in chunks if chunk.waiting or chunk.receipt is not None]
            chunks = promised
            for traced in chain.from_iterable(chunk.traced or () for chunk in refused):
                traced.accepted = 0
        now = trio.current_time()
        # Before anything is handed on or answered: a client that hears of the failure may come again at once.
        self.admission.expel(sum(map(len, refused)), sum(chunk.size for chunk in refused), now)
        await self._hand_on(chunks)
        # After the sinks have the chunks, so that a client that has its 202 finds its event in the accounts.
        await answer_in_slices(_take_waiting(chunks), lambda tell: tell(Outcome.TAKEN, None))
        await answer_in_slices(_take_waiting(refused), lambda tell: tell(Outcome.FAILED, None))
        await answer_in_slices(_take_followed(refused), lambda receipt: receipt.close(Outcome.FAILED))
        await self._count_meanwhile()

    def _count(self, chunks: Sequence[Chunk]) -> None:
        self._uncounted += chunks

    async def _count_meanwhile(self) -> None:
        """Count the chunks that were handed on, until the next commit has chunks, or too many are left."""
        # A neighbour of a large request waits for its own commit alone, and not for the count of 100,000 events.
        uncounted = self._uncounted
        while uncounted and (not self._receive.statistics().current_buffer_used or len(uncounted) > _MOST_UNCOUNTED):
            counted: list[Chunk] = []
            count = 0
            while uncounted and count < _COUNTED_AT_ONCE:
                chunk = uncounted.popleft()
                counted.append(chunk)
                count += len(chunk)
            self._aggregator.add(counted)
            if uncounted:
                await trio.lowlevel.checkpoint()

    def _count_handed_on(self, _chunks: Sequence[Chunk], count: int) -> None:
        self.uncommitted -= sum([len(chunk) for chunk in _chunks if not chunk.waiting and chunk.receipt is None])
        self.admission.leave(count, sum([chunk.size for chunk in _chunks]), trio.current_time())


def _fit_records(events: list[Event], size: int) -> bool:
    """Whether the journal can keep a request of ``size`` bytes in the records into which the request is cut."""
    # By record, not as a whole: a request of many events is several records of one commit.
    if len(events) <= MOST_IN_A_RECORD:
        return fits_record(events, size)
    starts = range(0, len(events), MOST_IN_A_RECORD)
    return all(fits_record(events[start : start + MOST_IN_A_RECORD], size) for start in starts)


def _take_waiting(chunks: Sequence[Chunk]) -> Iterator[Tell]:
    """The requests that wait for the commit of these chunks, each taken from its chunk, so that it is answered once."""
    for chunk in chunks:
        waiting, chunk.waiting = chunk.waiting, []
        yield from waiting


def _take_followed(chunks: Sequence[Chunk]) -> Iterator[Receipt]:
    for chunk in chunks:
        if chunk.receipt is not None:
            yield chunk.receipt
