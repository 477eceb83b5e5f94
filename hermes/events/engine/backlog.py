"""The backlog of one sink: committed chunks go on in memory, or wait on disk until the sink has room for them.

A committed chunk goes on in memory while the sink keeps up. When it finds no room there the sink is behind: from then
on chunks stay on disk. `Backlog.run` reads them back in order as room appears, at a pace a little above the rate of
arrival, until the sink has caught up. Where each record is, `hermes.events.engine.owed` knows; how fast to read,
`hermes.events.engine.pace`.

Invariant: an event that the journal owes the sink is in memory or on disk alone, never in both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
import trio

from hermes.base.errors import LogUnavailable
from hermes.base.repeated_event import RepeatedEvent
from hermes.events.engine.journal import EventJournal
from hermes.events.engine.owed import MAX_RANGES, OwedRecords
from hermes.events.engine.pace import Pace
from hermes.events.event import Chunk
from hermes.events.sink import DeliverySettings
from hermes.observe.throttled_log import ThrottledLog
from hermes.store.log import Record

_log = structlog.get_logger("hermes.backlog")

_READ_BYTES = 4 * 2**20
_READ_RECORDS = 2000
# Events that are decoded before other tasks get the loop: about 2 ms.
_MOST_AT_ONCE = 2000
_RETRY_SECONDS = 1.0


@dataclass(frozen=True)
class BacklogOptions:
    """How the backlog of ``sink`` is read.

    Pieces of records have at most ``max_chunk`` events. With CATCH_UP_ORDER "interleaved" new chunks go on in memory
    while there are older ones on disk, and records that were read back have at most ``share`` of the memory, in events
    and in bytes.
    """

    sink: str
    settings: DeliverySettings
    max_chunk: int
    share: tuple[int, int]


class Backlog:
    """The backlog in ``journal``.

    ``take(pieces)`` brings all chunks of a record into memory, or returns False: there is no room. ``lose(events)`` is
    told how many events the journal no longer has. ``holding()`` says whether the sink refuses everything now.

    ::

        backlog = Backlog(journal, options, take=buffer.take, lose=count_lost, holding=lambda: calls.holding)
        nursery.start_soon(backlog.run)
        backlog.offer(chunk)  # committed: the chunk is in memory now, or `run` reads it back later
        backlog.release([chunk], [len(chunk)], settled=True)  # a worker is done with the chunk
    """

    def __init__(
        self,
        journal: EventJournal,
        options: BacklogOptions,
        take: Callable[[Sequence[Chunk]], bool],
        lose: Callable[[int], None],
        holding: Callable[[], bool],
    ) -> None:
        progress, owed = journal.register(options.sink)
        self.records = OwedRecords(progress, journal.next, owed, journal.events)
        self.on_its_way = 0
        """Events that were read back and wait for room in memory."""
        self._journal = journal
        self._options = options
        self._take = take
        self._lose = lose
        self._holding = holding
        self._pace = Pace(options.settings.catch_up, options.settings.catch_up_floor)
        self._interleaved = options.settings.catch_up_order == "interleaved"
        self._feeding = False
        self._news = RepeatedEvent()
        self._throttled = ThrottledLog("hermes.backlog", sink=options.sink)
        self._said_behind = False
        # Index of the newest record that was read back: the sink has caught up when it has settled this one.
        self._last_fed = -1

    @property
    def events(self) -> int:
        """Events that are on disk alone."""
        return self.records.events

    @property
    def unread(self) -> bool:
        """Whether there are records on disk that are to be read back, or are being read back."""
        return bool(self.records.ranges) or self._feeding

    def offer(self, chunk: Chunk) -> None:
        """Bring a committed chunk into memory, or leave it on disk if older chunks come first or there is no room."""
        # The pace of reading back is a multiple of the rate of arrival.
        self._pace.record_arrival(len(chunk.events), trio.current_time())
        ranges = self.records.ranges
        # Each overtaken record is a range of its own; at the bound the chunks wait, and join one range.
        older_first = len(ranges) >= MAX_RANGES if self._interleaves else ranges or self._feeding
        if not older_first:
            pieces = chunk.split(self._options.max_chunk)
            if self._take(pieces):
                self.records.load(chunk, pieces)
                return
        self._defer(chunk)

    def release(self, chunks: Sequence[Chunk], unspent: Sequence[int], *, settled: bool) -> int:
        """As `OwedRecords.release`; the room that the chunks had may be given to records on disk."""
        uncommitted = self.records.release(chunks, unspent, settled=settled)
        # Asked only while the sink is behind: this runs for every batch.
        if self._said_behind:
            self._look_whether_behind()
        self._news.set()
        return uncommitted

    def return_to_disk(self, chunks: Sequence[Chunk], left: Sequence[Sequence[int]], held_at: int) -> None:
        """As `OwedRecords.return_to_disk`; the room that the chunks had is for other records on disk."""
        self.records.return_to_disk(chunks, left, held_at)
        self._news.set()

    def read_refused_again(self) -> None:
        """As `OwedRecords.read_refused_again`, as soon as there is room."""
        self.records.read_refused_again()
        self._news.set()

    def end(self) -> int:
        """End after all tasks have ended, and return the same as `OwedRecords.owed`."""
        self._throttled.write_rest()
        return self.records.owed(self._journal.events)

    async def give_up_below(self, stop: int) -> tuple[int, int]:
        """Let the journal forget the records below ``stop``.

        Returns how many of their events were on disk alone, which are lost, and how many are in memory, which alone has
        them from now on. Raises `hermes.LogUnavailable` and `hermes.LogDamaged`; then nothing is forgotten.
        """
        below = self.records.end_on_disk(stop)
        if below is None:
            disowned, lost = self.records.disown_below(stop)
            return lost, disowned
        before = await self._journal.events_before(below)
        if not self.records.has_on_disk(below):
            # `run` has read the record meanwhile; the next round of the upkeep asks again.
            return 0, 0
        # First the records in memory: these are settled by it, and so they do not count as lost.
        disowned, lost = self.records.disown_below(stop)
        lost += self.records.forget_on_disk(below, before)
        self._leave_no_refused_alone()
        return lost, disowned

    async def run(self) -> None:
        """Read the backlog back as fast as there is room and the pace allows, until cancelled."""
        if self.events:
            # So that the log says as well when this backlog is settled.
            self._said_behind = True
            _log.info("the journal has a backlog from before", sink=self._options.sink, events=self.events)
        at_once = 0
        while True:
            while not self.records.ranges:
                await self._news.wait()
            start = self.records.ranges[0].start
            stop = min(self.records.ranges[0].stop, start + _READ_RECORDS)
            try:
                # Without records here, the number of events before the end says how many are lost.
                records = await self._journal.read(start, stop, _READ_BYTES)
                before = 0 if records else await self._journal.events_before(stop)
            except LogUnavailable as error:
                self._throttled.warn("the backlog cannot be read", reason=str(error))
                await trio.sleep(_RETRY_SECONDS)
                continue
            # If the range begins elsewhere now, the journal gave the records up while they were read.
            if not records and self._is_next(start):
                self._skip(stop, before)
            for record in records:
                at_once += await self._feed(record)
                # Not in each turn: a record of one event would pay a checkpoint of its own.
                if at_once >= _MOST_AT_ONCE:
                    at_once = 0
                    await trio.lowlevel.checkpoint()

    async def _feed(self, record: Record) -> int:
        """Bring the next record into memory, at its pace. Returns the number of its events."""
        records, index = self.records, record.index
        if not records.ranges or not records.ranges[0].start <= index < records.ranges[0].stop:
            # The record was given up while it was read, or older ones are to be read again before it.
            return 0
        chunk, head = self._journal.decode(record)
        self._skip(index, head.first)
        pieces = records.read_back(chunk, head.first, self._options.max_chunk)
        count = sum(map(len, pieces))
        # Not always this record: refused ones are read again, and they are older.
        self._last_fed = max(self._last_fed, index)
        # Until all pieces have room, `offer` has to know: in the order "oldest" no new chunk may overtake the record.
        self._feeding = True
        self.on_its_way = count
        for piece in pieces:
            while not (self._has_share(piece) and self._take((piece,))):
                await self._news.wait()
            self.on_its_way -= len(piece.events)
            records.note_fed(piece)
        self._feeding = False
        self._look_whether_behind()
        await self._keep_pace(count)
        return count

    async def _keep_pace(self, count: int) -> None:
        self._pace.owe(count, trio.current_time())
        # Asked again after each pause, because the rate of arrival changes: a large record must not bind the pace to
        # the rate of the moment when it was read.
        while True:
            pause = self._pace.pause(trio.current_time())
            if not pause:
                return
            await trio.sleep(pause)

    @property
    def _interleaves(self) -> bool:
        """Whether new chunks may overtake records on disk."""
        # While the sink refuses everything, the order is lost anyway, and any chunk may be the first that is taken.
        return self._interleaved or self._holding()

    def _has_share(self, piece: Chunk) -> bool:
        """Whether records that were read back leave enough room for new chunks."""
        # A record alone always passes: it may be larger than the share.
        records = self.records
        if not self._interleaves or not records.fed_events:
            return True
        events, size = self._options.share
        return records.fed_events + len(piece.events) <= events and records.fed_bytes + piece.size <= size

    def _defer(self, chunk: Chunk) -> None:
        self.records.defer(chunk)
        # Said once: a sink that is a little too slow falls behind and catches up many times a second.
        if not self._said_behind:
            self._said_behind = self._throttled.warn("behind: the backlog stays on disk")
        self._news.set()

    def _is_next(self, index: int) -> bool:
        return bool(self.records.ranges) and self.records.ranges[0].start == index

    def _skip(self, stop: int, before: int) -> None:
        lost = self.records.skip(stop, before)
        if lost:
            self._lose(lost)
        self._leave_no_refused_alone()
        self._look_whether_behind()

    def _leave_no_refused_alone(self) -> None:
        """Have refused records read again if no other record is left that would be read."""
        # Memory may stay empty now, and then no worker would ever find out that the sink takes events again.
        if not self.unread:
            self.read_refused_again()

    def _look_whether_behind(self) -> None:
        """Log that the sink has caught up, once it has."""
        # A sink has caught up when it has settled the records on disk, not when memory has them: the sink may be away.
        records = self.records
        if self._said_behind and not (records.ranges or records.put_back.ranges) and records.cursor > self._last_fed:
            self._said_behind = False
            _log.info("caught up", sink=self._options.sink)
