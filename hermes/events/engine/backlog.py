"""The backlog of one sink: committed chunks go on in memory, or wait on disk until the sink has room for them.

A committed chunk goes on in memory while the sink keeps up. When it finds no room there the sink is behind: from then
on chunks stay on disk. `Backlog.run` reads them back in order as room appears, at a pace a little above the rate of
arrival, until the sink has caught up. Where each record is, `hermes.events.engine.owed` knows; how fast to read,
`hermes.events.engine.pace`.

Invariant: an event that the journal owes the sink is in memory or on disk alone, and nowhere twice.
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
_MOST_AT_ONCE = 2000  # events that are decoded before other tasks get the loop: about 2 ms
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

    ``take(pieces)`` brings a record's chunks into memory, all or none (False: there is no room). ``lose(events)`` hears
    of events that the journal no longer has. ``holding()`` says whether the sink refuses everything now.
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
        self._last_fed = -1  # index of the newest record that was read back

    @property
    def events(self) -> int:
        """Events that are on disk alone."""
        return self.records.events

    @property
    def unread(self) -> bool:
        """Whether there are records on disk that are to be read back, or are being read back."""
        return bool(self.records.ranges) or self._feeding

    def offer(self, chunk: Chunk) -> None:
        """A chunk was committed: it goes on in memory, or stays on disk if older come first or there is no room."""
        self._pace.record_arrival(len(chunk.events), trio.current_time())
        ranges = self.records.ranges
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
        """All tasks have ended: as `OwedRecords.owed`."""
        self._throttled.write_rest()
        return self.records.owed(self._journal.events)

    async def give_up_below(self, stop: int) -> tuple[int, int]:
        """Let the journal forget the records below ``stop``.

        Returns how many of their events were on disk alone, which are lost, and how many are in memory, which is all
        that has them from now on. Raises `hermes.LogUnavailable` and `hermes.LogDamaged`; then nothing is forgotten.
        """
        below = self.records.end_on_disk(stop)
        if below is None:
            disowned, lost = self.records.disown_below(stop)
            return lost, disowned
        before = await self._journal.events_before(below)
        if not self.records.has_on_disk(below):
            return 0, 0  # `run` has read it meanwhile; the next round of the upkeep asks again
        disowned, lost = self.records.disown_below(stop)  # first: what is settled by it is no loss
        lost += self.records.forget_on_disk(below, before)
        self._leave_no_refused_alone()
        return lost, disowned

    async def run(self) -> None:
        """Read the backlog back as fast as there is room and the pace allows, until cancelled."""
        if self.events:
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
            if not records and self._is_next(start):  # else the journal gave it up while it was read
                self._skip(stop, before)
            for record in records:
                at_once += await self._feed(record)
                # Not in each turn: a record of one event would pay a checkpoint of its own.
                if at_once >= _MOST_AT_ONCE:
                    at_once = 0
                    await trio.lowlevel.checkpoint()

    async def _feed(self, record: Record) -> int:
        """Bring the next record into memory, at its pace. Returns how many events that are."""
        records, index = self.records, record.index
        if not records.ranges or not records.ranges[0].start <= index < records.ranges[0].stop:
            return 0  # given up while it was read, or older ones are to be read again
        chunk, head = self._journal.decode(record)
        self._skip(index, head.first)
        pieces = records.read_back(chunk, head.first, self._options.max_chunk)
        count = sum(map(len, pieces))
        self._last_fed = max(self._last_fed, index)
        # Until all pieces have room: in the order "oldest" no new chunk may overtake them.
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
        while True:
            pause = self._pace.pause(trio.current_time())
            if not pause:
                return
            await trio.sleep(pause)

    @property
    def _interleaves(self) -> bool:
        """Whether new chunks may overtake records on disk: while the sink refuses everything, any may be the first that
        it takes."""
        return self._interleaved or self._holding()

    def _has_share(self, piece: Chunk) -> bool:
        """Whether records that were read back leave enough room for new chunks."""
        records = self.records
        if not self._interleaves or not records.fed_events:
            return True
        events, size = self._options.share
        return records.fed_events + len(piece.events) <= events and records.fed_bytes + piece.size <= size

    def _defer(self, chunk: Chunk) -> None:
        self.records.defer(chunk)
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
        """Records that were to be read are gone, so memory may stay empty, and nothing would try the refused again."""
        if not self.unread:
            self.read_refused_again()

    def _look_whether_behind(self) -> None:
        """A sink has caught up when it has settled the records on disk, not when memory has them: it may be away."""
        records = self.records
        if self._said_behind and not (records.ranges or records.put_back.ranges) and records.cursor > self._last_fed:
            self._said_behind = False
            _log.info("caught up", sink=self._options.sink)
