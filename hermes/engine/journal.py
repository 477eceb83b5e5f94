"""The event journal: every accepted chunk as a record of the log, and how far each sink has come in it.

Invariants: a chunk that `append` has given an index survives a crash; a record is trimmed only when every sink has
settled it, and after the progress that says so was saved. So a start delivers again at most what was settled since the
last save, and never less than what was not. The intake appends; the
backlogs read; the upkeep saves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import structlog
import trio

from hermes.ack import Receipt
from hermes.engine.journal_record import decode_chunk, decode_head, encode_chunk
from hermes.engine.progress import Progress, ProgressState
from hermes.errors import LogDamaged, LogUnavailable
from hermes.event import Chunk
from hermes.log import Log
from hermes.metrics import JournalMetrics

_log = structlog.get_logger("hermes.journal")

_CROWDED = 0.9
_SAVE_PAUSE = 30.0  # a journal that cannot save says so this often, in seconds


class JournalState(msgspec.Struct, frozen=True):
    """The log's snapshot, as JSON: how many events the journal has ever taken, and each sink's progress."""

    events: int
    sinks: dict[str, ProgressState]


class EventJournal:
    """The journal on an open log. Made by `open_journal`.

    ``events`` counts all events that it ever took. ``room`` is how many bytes more stay within JOURNAL_MAX_BYTES.
    ``receipts`` follow events of open requests by their record's index.
    """

    def __init__(self, log: Log, max_bytes: int, events: int, saved: Mapping[str, ProgressState]) -> None:
        self.events = events
        self.receipts: dict[int, Receipt] = {}
        self.failing: str | None = None
        self.room = max_bytes - log.statistics().bytes  # kept, for every request asks
        self.metrics = JournalMetrics(lambda: self.bytes, max_bytes)
        self._max_bytes = max_bytes
        self._log = log
        self._saved = dict(saved)
        self._sinks: dict[str, Progress] = {}
        self._last_saved: JournalState | None = None
        self._unsaved_since = -_SAVE_PAUSE

    @property
    def bytes(self) -> int:
        """Bytes of the records that are kept."""
        return self._log.statistics().bytes

    @property
    def next(self) -> int:
        """The index that the next record gets."""
        return self._log.next

    @property
    def crowded(self) -> bool:
        """Whether sinks that may lose events should make room."""
        return self.bytes > self._max_bytes * _CROWDED

    def enlist(self, sink: str) -> tuple[Progress, int]:
        """A sink's progress, and how many events the journal owes it. One that is new begins with what comes next."""
        state = self._saved.pop(sink, None)
        if state is None:
            fresh = self._last_snapshot_was_lost()
            progress = Progress(self._log.first, 0) if fresh else Progress(self._log.next, self.events)
        else:
            # A damaged tail that was cut may have been delivered: what comes in its place has not.
            at_most = self._log.next
            done = tuple(part for part in state.done if part[1] <= at_most)
            progress = Progress.restore(
                ProgressState(min(state.cursor, at_most), min(state.settled, self.events), done)
            )
        self._sinks[sink] = progress
        return progress, max(0, self.events - progress.settled)

    def forget_strangers(self) -> None:
        """Sinks that are no longer configured hold nothing back any more; what they were owed is said once."""
        for sink, state in self._saved.items():
            if owed := self.events - state.settled:
                _log.warning("a sink that is no longer configured gives up its backlog", sink=sink, events=owed)
        self._saved.clear()

    async def append(self, chunks: Sequence[Chunk]) -> None:
        """Commit chunks, a record each, and give each its index.

        Raises `hermes.LogUnavailable`: none of them is in the journal.
        """
        records = []
        first = self.events
        for chunk in chunks:
            records.append(encode_chunk(chunk, first))
            first += len(chunk.events)
        began = trio.current_time()
        try:
            index = await self._log.append(records, expected_index=self._log.next)
        except LogUnavailable as error:
            self.metrics.failed_commits += 1
            self._fail(error)
            raise
        self.metrics.commit_seconds.observe(trio.current_time() - began)
        self._recover()
        self.room = self._max_bytes - self.bytes
        self.events = first
        for place, chunk in enumerate(chunks, index):
            chunk.index = place
            if chunk.receipt is not None:
                chunk.receipt.durable = True
                self.receipts[place] = chunk.receipt

    async def read(self, start: int, stop: int, max_bytes: int) -> list[Chunk]:
        """Chunks from ``start`` to before ``stop``, as many as ``max_bytes`` allow and one at least if there is any.

        Raises `hermes.LogUnavailable` and `hermes.LogDamaged`.
        """
        records = await self._log.read(start, max_records=stop - start, max_bytes=max_bytes)
        chunks = []
        for record in records:
            if record.index >= stop:
                break
            chunk, _ = decode_chunk(record.data, record.index)
            chunk.receipt = self.receipts.get(record.index)
            chunks.append(chunk)
        return chunks

    async def event_number(self, index: int) -> int:
        """How many events the journal took before the record at ``index``."""
        records = await self._log.read(index, max_records=1, max_bytes=1)
        return decode_head(records[0].data, records[0].index).first if records else self.events

    async def save(self) -> None:
        """Save the progress of every sink, then trim. A storage that fails now is tried again the next time."""
        state = JournalState(self.events, {name: progress.state() for name, progress in self._sinks.items()})
        if state == self._last_saved and self.failing is None:
            return
        cursor = min(saved.cursor for saved in state.sinks.values())
        try:
            await self._log.take_snapshot(cursor, msgspec.json.encode(state))
            await self._log.trim(cursor)
        except LogUnavailable as error:
            self._fail(error)
        else:
            self._last_saved = state
            self.room = self._max_bytes - self.bytes
            self._recover()
        for index in [index for index, receipt in self.receipts.items() if receipt.settled]:
            del self.receipts[index]

    def statistics(self) -> dict[str, object]:
        """What the journal holds, for people."""
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

    def _last_snapshot_was_lost(self) -> bool:
        """Records but no word of who has had them: nobody knows better than to deliver them again."""
        return self._log.snapshot is None and self._log.next > self._log.first

    def _fail(self, error: LogUnavailable) -> None:
        now = trio.current_time()
        if self.failing is None or now >= self._unsaved_since + _SAVE_PAUSE:
            self._unsaved_since = now
            _log.error("the journal's storage fails", reason=str(error))
        self.failing = str(error)

    def _recover(self) -> None:
        if self.failing is not None:
            _log.warning("the journal's storage works again")
            self.failing = None


async def open_journal(log: Log, max_bytes: int) -> EventJournal:
    """The journal as its log left it. Raises `hermes.LogDamaged` for a snapshot or a last record that is unreadable."""
    events, sinks = 0, dict[str, ProgressState]()
    if log.snapshot is not None:
        try:
            state = msgspec.json.decode(log.snapshot.state, type=JournalState)
        except msgspec.DecodeError as error:
            raise LogDamaged(f"the event journal's snapshot cannot be read: {error}; see `hermes log check`") from error
        events, sinks = state.events, state.sinks
    if log.next > log.first:
        last = (await log.read(log.next - 1, max_records=1))[-1:]
        for record in last:
            head = decode_head(record.data, record.index)
            events = head.first + head.count
    return EventJournal(log, max_bytes, events, sinks)
