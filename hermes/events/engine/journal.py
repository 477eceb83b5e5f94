"""The event journal: every accepted chunk as a record of the log, and how far each sink has come in it.

Invariants: a chunk that `append` has given an index survives a crash; a record is trimmed only when every sink has
settled the record, and after the progress that says so was saved. So a start delivers again at most the records that
were settled since the last save, and never fewer than the unsettled ones. Events are numbered for good, in the order of
the records, so that missing events can be counted. The intake appends; the backlogs read; the upkeep saves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import structlog
import trio

from hermes.base.errors import LogDamaged, LogUnavailable
from hermes.base.repeated_event import RepeatedEvent
from hermes.events.ack import Receipt
from hermes.events.engine.collectors import JournalMetrics
from hermes.events.engine.journal_record import Head, decode_chunk, decode_head, encode_chunk, events_with, lost_events
from hermes.events.engine.progress import Progress, ProgressState
from hermes.events.event import Chunk
from hermes.store.log import Log, Record

_log = structlog.get_logger("hermes.journal")

# Below the bound, so that room is made before a request is refused for want of it.
_CROWDED = 0.9
# Seconds between log lines while the storage keeps failing.
_SAY_AGAIN = 30.0
# Seconds without a failed append after which a save that succeeds means that the storage works.
_PROBATION = 5.0


class JournalState(msgspec.Struct, frozen=True):
    """The log's snapshot, as JSON: how many events the journal has ever taken, and each sink's progress."""

    events: int
    sinks: dict[str, ProgressState]


class EventJournal:
    """The journal on an open log. Made by `open_journal`.

    ``next`` is the index that the next record gets, and ``events`` how many events all records before had, ever.
    ``capacity`` is JOURNAL_MAX_BYTES, and ``room`` how many bytes more stay within this bound. ``failing`` is the fault
    of the storage; None: the storage works. ``receipts`` follow events of open requests by their record's index. A sink
    of which nothing was saved begins where ``unknown`` says.

    ::

        journal = await open_journal(log, max_bytes=2**30)
        progress, owed = journal.register("main")
        await journal.append([chunk])  # chunk.index is its place now
        progress.settle(chunk.index, chunk.index + 1, len(chunk))
        await journal.save()  # trims the record, since every sink has settled it

    Attributes: 16, because every request reads ``room``, ``next`` and ``events`` as plain numbers kept beside the log.
    """

    def __init__(
        self, log: Log, max_bytes: int, events: int, saved: Mapping[str, ProgressState], unknown: ProgressState
    ) -> None:
        # Not the log's own number, which is ahead of `events` while an append is about to return.
        self.next = log.next
        self.events = events
        self.receipts: dict[int, Receipt] = {}
        self.failing: str | None = None
        # Kept as a number, because every request asks.
        self.room = max_bytes - log.statistics().bytes
        self.capacity = max_bytes
        self.metrics = JournalMetrics(lambda: self.bytes, max_bytes)
        lost = log.statistics().lost
        self.metrics.lost_records, self.metrics.lost_events = lost.records, lost_events(lost) or 0
        self._log = log
        self._saved = dict(saved)
        self._unknown = unknown
        self._sinks: dict[str, Progress] = {}
        self._last_saved: JournalState | None = None
        self._say_again_at = 0.0
        self._recovers_at = 0.0
        self._room_wanted = False
        self._room_news = RepeatedEvent()

    @property
    def first(self) -> int:
        """The index of the oldest record that is kept."""
        return self._log.first

    @property
    def bytes(self) -> int:
        """Bytes of the records that are kept."""
        return self._log.statistics().bytes

    @property
    def crowded(self) -> bool:
        """Whether sinks that may lose events should make room."""
        return self.bytes > self.capacity * _CROWDED

    def want_room(self) -> None:
        """Ask the upkeep to make room soon, since a request was refused for want of room."""
        self._room_wanted = True
        self._room_news.set()

    async def wait_room_wanted(self) -> None:
        """Wait until `want_room` has been called since the last `take_room_wanted`."""
        while not self._room_wanted:
            await self._room_news.wait()

    def take_room_wanted(self) -> bool:
        """Whether a request wanted room since the last call."""
        # One round serves all the requests that were refused since the last.
        wanted, self._room_wanted = self._room_wanted, False
        return wanted

    def register(self, sink: str) -> tuple[Progress, int]:
        """A sink's progress, and how many events the journal owes the sink. A new sink begins with the next event."""
        # Popped, so that the sinks that are left over are the ones that are no longer configured.
        progress = Progress.restore(self._saved.pop(sink, self._unknown), self.next)
        # Nothing is left to be read, so nothing is owed, whatever the saved count says after a loss of records.
        if progress.cursor == self.next:
            progress.settled = self.events
        self._sinks[sink] = progress
        return progress, self.events - progress.settled

    def forget_unknown_sinks(self) -> None:
        """Let sinks that are no longer configured hold nothing back; the events that they were owed are said once."""
        for sink, state in self._saved.items():
            if owed := self.events - state.settled:
                _log.warning("a sink that is no longer configured gives up its backlog", sink=sink, events=owed)
        self._saved.clear()

    async def append(self, chunks: Sequence[Chunk]) -> None:
        """Commit chunks, a record each, and give each its index.

        Raises `hermes.LogUnavailable`: no chunk is in the journal. Cancelled, they may be there after a restart.
        """
        records = []
        events = self.events
        for chunk in chunks:
            records.append(encode_chunk(chunk, events))
            events += len(chunk.events)
            if chunk.continues:
                # Of a large request: each record takes some milliseconds, and others have their turn between.
                await trio.lowlevel.checkpoint()
        began = trio.current_time()
        try:
            index = await self._log.append(records, expected_index=self.next)
        except LogUnavailable as error:
            self.metrics.failed_commits += 1
            self._recovers_at = trio.current_time() + _PROBATION
            self._fail(error)
            raise
        self.metrics.commit_seconds.observe(trio.current_time() - began)
        self._recover()
        self.next = index + len(records)
        self.events = events
        self.room = self.capacity - self.bytes
        # From here on the chunks are in the journal, and a sink without room for them may leave them there.
        for place, chunk in enumerate(chunks, index):
            chunk.index = place
            if chunk.receipt is not None:
                chunk.receipt.durable = True
                self.receipts[place] = chunk.receipt

    async def read(self, start: int, stop: int, max_bytes: int) -> list[Record]:
        """Records from ``start`` to before ``stop``, as many as ``max_bytes`` allow, but one at least if there is one.

        Records that a repair has found lost are left out. Raises `hermes.LogUnavailable` and `hermes.LogDamaged`.
        """
        records = await self._log.read(start, max_records=stop - start, max_bytes=max_bytes)
        # The log passes over lost records, so as many others may reach beyond ``stop``.
        return [record for record in records if record.index < stop]

    def decode(self, record: Record) -> tuple[Chunk, Head]:
        """The chunk of a record, with the receipt of a request that still waits. Raises `hermes.LogDamaged`."""
        chunk, head = decode_chunk(record.data, record.index)
        chunk.receipt = self.receipts.get(record.index)
        return chunk, head

    async def events_before(self, index: int) -> int:
        """How many events the journal took before the record at ``index``, which is not beyond `next`.

        If that record was lost, it counts as one before. Raises `hermes.LogUnavailable` and `hermes.LogDamaged`.
        """
        # As of now: while the log is read, more events may come.
        events = self.events
        # There is no record yet whose head would say it.
        if index == self.next:
            return events
        records = await self._log.read(index, max_records=1)
        return decode_head(records[0].data, records[0].index).first if records else events

    async def save(self) -> None:
        """Save the progress of every sink, then trim. A storage that fails now is tried again the next time."""
        # Requests that have their answer, so that an index that nobody waits for takes no memory.
        self.receipts = {index: receipt for index, receipt in self.receipts.items() if not receipt.closed}
        state = JournalState(self.events, {name: progress.state() for name, progress in self._sinks.items()})
        # A storage that has failed is written to all the same, to see whether it works again.
        if state == self._last_saved and self.failing is None:
            return
        # The slowest sink holds the trim.
        cursor = min(saved.cursor for saved in state.sinks.values())
        try:
            await self._log.take_snapshot(cursor, msgspec.json.encode(state))
            # After the snapshot: a record goes only when the saved progress says that nobody needs it.
            await self._log.trim(cursor)
        except LogUnavailable as error:
            self._fail(error)
            return
        self._last_saved = state
        self.room = self.capacity - self.bytes
        # Not soon after a failed append: a save may succeed where there is no room for a record.
        if trio.current_time() >= self._recovers_at:
            self._recover()

    def untrimmed(self) -> int:
        """Records that the last save should have trimmed and that are still there. Anything but 0 is a bug."""
        if self._last_saved is None or self.failing is not None:
            return 0
        return max(0, min(saved.cursor for saved in self._last_saved.sinks.values()) - self.first)

    async def look_around(self) -> None:
        """See whether journals beside this one have no owner. A storage that fails now is asked the next time."""
        try:
            unowned = await self._log.count_unowned()
        except LogUnavailable:
            return
        # Said when another one is found, not at every look.
        if unowned > self.metrics.unowned:
            _log.warning("journals without an owner keep events that nobody delivers", journals=unowned)
        self.metrics.unowned = unowned

    def statistics(self) -> dict[str, object]:
        """Numbers of the journal, for people."""
        log = self._log.statistics()
        return {
            "first": log.first,
            "next": log.next,
            "bytes": log.bytes,
            "events": self.events,
            "commits": log.commits,
            "failed_commits": log.failed_commits,
            "cursors": {name: progress.cursor for name, progress in self._sinks.items()},
            "failing": self.failing,
        }

    def _fail(self, error: LogUnavailable) -> None:
        # Said again and again, because a service that takes no events must not look idle in the log.
        now = trio.current_time()
        if self.failing is None or now >= self._say_again_at:
            self._say_again_at = now + _SAY_AGAIN
            _log.error("the journal's storage fails", reason=str(error))
        self.failing = str(error)

    def _recover(self) -> None:
        if self.failing is not None:
            _log.warning("the journal's storage works again")
            self.failing = None


async def open_journal(log: Log, max_bytes: int) -> EventJournal:
    """The journal as its log left it.

    Raises `hermes.LogDamaged` if the snapshot, or the record at an end, is unreadable, and `hermes.LogUnavailable`.
    """
    state = JournalState(0, {})
    if log.snapshot is not None:
        try:
            state = msgspec.json.decode(log.snapshot.state, type=JournalState)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise LogDamaged(f"the event journal's snapshot cannot be read: {error}; see `hermes log check`") from error
    # Events taken since the last save are in the records alone; events that the log has lost at its end are in the
    # snapshot alone.
    last = await _last_record(log)
    lost = log.statistics().lost
    # Not even the numbers of lost events come again: so each sink is told how many it will never have.
    events = max(state.events, _events_with(last) if last is not None else 0, events_with(lost.last) or 0)
    if lost.records:
        _log.error("events that were acknowledged are gone", records=lost.records, events=lost_events(lost))
    unknown = ProgressState(log.next, events)
    if log.snapshot is None and log.next > log.first:
        # There are records but no saved progress: deliver all of them again.
        oldest = await log.read(log.first, max_records=1)
        unknown = ProgressState(log.first, decode_head(oldest[0].data, oldest[0].index).first if oldest else events)
    return EventJournal(log, max_bytes, events, state.sinks, unknown)


async def _last_record(log: Log) -> Record | None:
    """The newest record that can be read; the records after it were lost, and a repair says so."""
    # Backwards in growing steps: usually the last record can be read, and a long damage takes few reads.
    step, last = 1, None
    while last is None and step <= 2 * (log.next - log.first):
        index = max(log.first, log.next - step)
        while records := await log.read(index):
            last = records[-1]
            index = last.index + 1
        step *= 2
    return last


def _events_with(record: Record) -> int:
    """How many events were taken with this record and before."""
    head = decode_head(record.data, record.index)
    return head.first + head.count
