"""`Buffer`: the chunks that wait for a worker of one sink, and the batches that its workers have in hand.

Invariants: an event is in a waiting chunk or in one job in hand; where ``bounded`` is asked for, both together are
within the bounds of the queue, for there admission holds nothing back.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

from hermes.base.dispatch import Dispatcher, QueueFull, ShuttingDown, Stopped
from hermes.events.engine.context import SinkContext
from hermes.events.engine.job import Job
from hermes.events.event import Batch, Chunk
from hermes.events.settings import EngineSettings


class Buffer:
    """The buffer of the sink of ``context``: flushed by interval or by size, see `hermes.base.dispatch`.

    ``waiting`` gives the chunks of one batch after the other; ``jobs`` are the batches in hand.
    """

    def __init__(self, context: SinkContext, service: EngineSettings) -> None:
        sink, settings = context.sink, context.settings
        # A single batch, and a single request, always find room, however small the queue is.
        self.max_events = max(service.queue_size, sink.max_batch)
        self.max_bytes = max(service.queue_bytes, service.max_body_bytes)
        # A set: workers end in any order.
        self.jobs: set[Job] = set()
        self.waiting: Dispatcher[Chunk] = Dispatcher(
            interval=settings.flush_interval or service.flush_interval,
            # Half of the queue: the other half can come in while this is written, so that no request is refused for
            # events that wait for company.
            flush_items=min(settings.batch_size or service.batch_size, sink.max_batch, max(1, service.queue_size // 2)),
            flush_bytes=max(1, self.max_bytes // 2),
            max_batch_items=sink.max_batch,
            max_buffered_items=self.max_events,
            max_buffered_bytes=self.max_bytes,
            size=attrgetter("size"),
            count=len,
        )
        self._numbers = context.numbers
        # Kept as sums, because `take` asks for them with each record, and many batches may be in hand.
        self._events_in_hand = self._bytes_in_hand = 0

    def take(self, pieces: Sequence[Chunk], *, bounded: bool) -> bool:
        """Let all pieces of a record wait, or none (False). ``bounded``: the batches in hand take room, too."""
        # A single piece beside no batch in hand needs no look: `enqueue` has the bounds of the waiting chunks itself.
        if bounded and (self._events_in_hand or len(pieces) > 1):
            count = self._events_in_hand + sum(map(len, pieces))
            size = self._bytes_in_hand + sum(piece.size for piece in pieces)
            if not self.waiting.has_room(count, size):
                return False
        for piece in pieces:
            # A record from a time with larger settings may be larger than the whole buffer; alone it does no harm.
            piece.size = min(piece.size, self.max_bytes)
            try:
                self.waiting.enqueue(piece)
            except (QueueFull, ShuttingDown, Stopped):
                return False
        return True

    def take_in_hand(self, chunks: Sequence[Chunk]) -> Job:
        """Make one batch of chunks that have waited."""
        # In hand at once, before anything awaits: the account counts events where they are.
        job = Job(Batch(chunks))
        self.jobs.add(job)
        self._events_in_hand += job.left
        self._bytes_in_hand += sum(chunk.size for chunk in chunks)
        self._numbers.batch_size.observe(job.left)
        return job

    def put_down(self, job: Job) -> None:
        """A worker is done with a batch, or a stop has ended the work."""
        self.jobs.discard(job)
        # The events that the batch had at first, not the events that are left: `take_in_hand` added all of them.
        self._events_in_hand -= len(job.batch)
        self._bytes_in_hand -= sum(chunk.size for chunk in job.batch.chunks)

    @property
    def events(self) -> int:
        """Events without an outcome: in the chunks that wait, and left of the batches in hand."""
        return self.waiting.statistics().buffered_items + sum(job.left for job in self.jobs)

    @property
    def held(self) -> int:
        """Events in hand that the sink has refused together with nearly everything else."""
        return sum(job.held_events for job in self.jobs)

    @property
    def oldest(self) -> float | None:
        """When the oldest event arrived, in Unix seconds; None: there is none."""
        # The first chunk of a batch is its oldest, for chunks wait in the order in which they came.
        arrivals = [job.batch.chunks[0].received_at for job in self.jobs]
        if (first := self.waiting.peek()) is not None:
            arrivals.append(first.received_at)
        return min(arrivals, default=None)
