"""What the journal owes one sink: what of it is in memory, and what is on disk alone because memory had no room.

A committed chunk goes on in memory while the sink keeps up. When it finds no room there the sink is behind: from then
on chunks stay on disk, and are read back in order as room appears, paced a little above the rate at which new ones
arrive, until the sink has caught up. Invariants: every record from the sink's cursor on is settled, or held (it is in
memory), or in one of ``_ranges`` (on disk alone), and in one of these only; ``events`` counts those on disk alone. Made
by the delivery, which also runs `run`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog
import trio

from hermes.engine.journal import EventJournal
from hermes.errors import LogUnavailable
from hermes.event import Chunk
from hermes.log import Record
from hermes.rate import Rate
from hermes.repeated_event import RepeatedEvent
from hermes.sink import CatchUpOrder
from hermes.throttled_log import ThrottledLog

_log = structlog.get_logger("hermes.backlog")

_READ_BYTES = 4 * 2**20
_READ_RECORDS = 2000
_MOST_AT_ONCE = 2000  # events that are decoded before others get the loop: about 2 ms
_RETRY_SECONDS = 1.0
_PACE_SECONDS = 0.01  # a debt to the pace that is paid within this is not worth a timer
_LONGEST_PAUSE = 1.0  # then the pace is asked for again, for arrivals change
_MOST_RANGES = 1000  # on disk alone; where there are so many, what comes next joins the last


class _Held:
    """A record in memory. ``left`` of its ``events``, in ``pieces``, are there yet; ``fed``: it was read back.

    ``spilled`` were there when a worker stopped. ``kept`` is false when the journal has forgotten it, so that memory is
    all that has it.
    """

    __slots__ = ("events", "fed", "kept", "left", "pieces", "received_at", "spilled")

    def __init__(self, pieces: int, chunk: Chunk, *, fed: bool) -> None:
        self.pieces = pieces
        self.events = self.left = len(chunk.events)
        self.received_at = chunk.received_at
        self.fed = fed
        self.kept = True
        self.spilled = 0


class Backlog:
    """The backlog of ``sink`` in a journal.

    ``take(pieces)`` brings a record's chunks into memory, all or none (False: there is no room); pieces of records have
    ``max_chunk`` events at most. ``lose(events)`` is told of events that the journal no longer has. ``catch_up`` is the
    rate at which the backlog is read, as a multiple of the rate at which events arrive, and ``floor`` the least rate,
    in events/s. With ``order`` "interleaved" new chunks go on in memory while there are older ones on disk, and what is
    read back has at most ``share``, in events and in bytes, of the memory.
    """

    def __init__(
        self,
        sink: str,
        journal: EventJournal,
        *,
        max_chunk: int,
        catch_up: float,
        floor: float,
        order: CatchUpOrder,
        share: tuple[int, int],
        take: Callable[[Sequence[Chunk]], bool],
        lose: Callable[[int], None],
    ) -> None:
        self._sink = sink
        self._journal = journal
        self._max_chunk = max_chunk
        self._catch_up = catch_up
        self._floor = floor
        self._interleaved = order == "interleaved"
        self._share = share
        self._take = take
        self._lose = lose
        self._progress, self.events = journal.enlist(sink)
        self._ranges = [list(gap) for gap in self._progress.gaps(journal.next)]
        self._held: dict[int, _Held] = {}
        self._on_disk_since: float | None = None  # see `oldest`
        self._fed_events = self._fed_bytes = 0  # of what was read back and is in memory
        self._feeding = False
        self.on_its_way = 0
        """Events that were read back and wait for room in memory."""
        self._arrivals = Rate()
        self._debt = 0.0  # events that were read ahead of the pace, as of `_reckoned_at`
        self._reckoned_at = 0.0
        self._news = RepeatedEvent()
        self._throttled = ThrottledLog("hermes.backlog", sink=sink)
        self._said_behind = False
        self._last_fed = -1  # index of the newest record that was read back

    @property
    def cursor(self) -> int:
        """The index below which the sink needs nothing of the journal."""
        return self._progress.cursor

    @property
    def oldest(self) -> float | None:
        """When the oldest record that is not settled arrived, in Unix seconds; None: there is none, or it is not known.

        That is the record at the cursor. In memory, its time is at hand; on disk alone, the time is that of the record
        that was read before it, which is earlier by one record at most. After a start, nobody knows before the first
        record is read.
        """
        held = self._held.get(self.cursor)
        if held is not None:
            return held.received_at
        return self._on_disk_since if self._ranges else None

    def arrive(self, chunk: Chunk) -> None:
        """A chunk was committed: it goes on in memory, or stays on disk if older come first or there is no room."""
        self._arrivals.record(len(chunk.events), trio.current_time())
        older_first = len(self._ranges) >= _MOST_RANGES if self._interleaved else self._ranges or self._feeding
        if not older_first:
            pieces = chunk.split(self._max_chunk)
            if self._take(pieces):
                self._held[chunk.index] = _Held(len(pieces), chunk, fed=False)
                return
        self._leave(chunk)

    def spend(self, chunk: Chunk, count: int) -> int:
        """So many events of a chunk have their outcome, others have not. Returns how many are not in the journal."""
        held = self._held.get(chunk.index)
        if held is None:
            return count
        held.left -= count
        return 0 if held.kept else count

    def release(self, chunks: Sequence[Chunk], unspent: Sequence[int], *, settled: bool) -> int:
        """Chunks have left memory, settled or not; ``unspent`` of their events `spend` was not told of.

        Returns how many of these are not in the journal.
        """
        unkept = 0
        for chunk, count in zip(chunks, unspent, strict=True):
            index = chunk.index
            held = self._held.get(index)
            if held is None:
                unkept += count
                continue
            held.left -= count
            if held.fed:
                self._fed_events -= len(chunk.events)
                self._fed_bytes -= chunk.size
            if not held.kept:
                unkept += count
            if settled:  # if not, it is a stop, and the whole record is for the next start
                held.pieces -= 1
                if not held.pieces:
                    del self._held[index]
                    if held.kept:
                        self._progress.settle(index, index + 1, held.events)
            elif held.kept:
                held.spilled += count
        if self._said_behind:
            self._look_whether_behind()
        self._news.set()
        return unkept

    def owed(self) -> int:
        """All tasks have ended: the events that the journal says are not settled, without those that have an outcome.

        A record is delivered again as a whole when only a part of it was settled.
        """
        again = sum(held.events - held.left - held.spilled for held in self._held.values() if held.kept)
        return self._journal.events - self._progress.settled - again

    async def give_up_below(self, stop: int) -> tuple[int, int]:
        """Let the journal forget what is below ``stop``.

        Of the events there, returns how many were on disk alone, which are lost, and how many are in memory, which is
        all that has them from now on. Raises `hermes.LogUnavailable` and `hermes.LogDamaged`, and then nothing is.
        """
        on_disk = [min(end, stop) for start, end in self._ranges if start < stop]
        lost = 0
        if on_disk:
            below = on_disk[-1]
            before = await self._journal.events_before(below)
            if not any(start < below <= end for start, end in self._ranges):
                return 0, 0  # read meanwhile
            disowned = self._disown_below(stop)
            lost = self._progress.unsettled_below(below, before)
            self._progress.settle_below(below, lost)
            self._ranges = [[max(start, below), end] for start, end in self._ranges if end > below]
            self.events -= lost
        else:
            disowned = self._disown_below(stop)
        return lost, disowned

    async def run(self) -> None:
        """Read the backlog back as fast as there is room and the pace allows, until cancelled."""
        if self.events:
            self._said_behind = True
            _log.info("the journal has a backlog from before", sink=self._sink, events=self.events)
        at_once = 0
        while True:
            while not self._ranges:
                await self._news.wait()
            start, end = self._ranges[0]
            stop = min(end, start + _READ_RECORDS)
            try:
                records = await self._journal.read(start, stop, _READ_BYTES)
                before = 0 if records else await self._journal.events_before(stop)
            except LogUnavailable as error:
                self._throttled.warn("the backlog cannot be read", reason=str(error))
                await trio.sleep(_RETRY_SECONDS)
                continue
            if not records and self._is_next(start):
                self._skip(stop, before)
            for record in records:
                at_once += await self._feed(record)
                if at_once >= _MOST_AT_ONCE:
                    at_once = 0
                    await trio.lowlevel.checkpoint()

    async def _feed(self, record: Record) -> int:
        """Bring the next record into memory, at its pace. Returns how many events that are."""
        index = record.index
        if not self._ranges or not self._ranges[0][0] <= index < self._ranges[0][1]:
            return 0  # given up while it was read
        chunk, head = self._journal.decode(record)
        count = len(chunk.events)
        self._skip(index, head.first)
        self._advance(index + 1, count)
        pieces = chunk.split(self._max_chunk)
        self._held[index] = _Held(len(pieces), chunk, fed=True)
        self._last_fed = index
        self._on_disk_since = chunk.received_at
        self._feeding = True
        self.on_its_way = count
        for piece in pieces:
            while not (self._has_share(piece) and self._take((piece,))):
                await self._news.wait()
            self.on_its_way -= len(piece.events)
            self._fed_events += len(piece.events)
            self._fed_bytes += piece.size
        self._feeding = False
        self._look_whether_behind()
        await self._keep_pace(count)
        return count

    def _has_share(self, piece: Chunk) -> bool:
        """Whether what is read back leaves enough room for what is new."""
        if not self._interleaved or not self._fed_events:
            return True
        events, size = self._share
        return self._fed_events + len(piece.events) <= events and self._fed_bytes + piece.size <= size

    async def _keep_pace(self, count: int) -> None:
        """Pause until ``count`` more events are within the pace."""
        now = trio.current_time()
        rate = self._rate(now)
        self._debt = max(0.0, self._debt - rate * (now - self._reckoned_at)) + count
        self._reckoned_at = now
        while self._debt > rate * _PACE_SECONDS:
            await trio.sleep(min(self._debt / rate, _LONGEST_PAUSE))
            now = trio.current_time()
            self._debt -= rate * (now - self._reckoned_at)
            self._reckoned_at = now
            rate = self._rate(now)

    def _rate(self, now: float) -> float:
        return max(self._floor, self._arrivals.per_second(now) * self._catch_up)

    def _leave(self, chunk: Chunk) -> None:
        self.events += len(chunk.events)
        if not self._ranges:
            self._on_disk_since = chunk.received_at
        if self._ranges and self._ranges[-1][1] == chunk.index:
            self._ranges[-1][1] += 1
        else:
            self._ranges.append([chunk.index, chunk.index + 1])
        if not self._said_behind:
            self._said_behind = self._throttled.warn("behind: the backlog stays on disk")
        self._news.set()

    def _is_next(self, index: int) -> bool:
        return bool(self._ranges) and self._ranges[0][0] == index

    def _advance(self, index: int, events: int) -> None:
        """What is below ``index`` in the first range, ``events`` in all, is no longer on disk alone."""
        self.events -= events
        first = self._ranges[0]
        first[0] = index
        if first[0] >= first[1]:
            del self._ranges[0]

    def _skip(self, stop: int, before: int) -> None:
        """The first range has no records up to ``stop``: they were damaged, and a repair has cut them out."""
        start = self._ranges[0][0]
        if start < stop:
            lost = self._progress.unsettled_below(stop, before)
            lost -= sum(held.events for index, held in self._held.items() if index < stop and held.kept)
            self._progress.settle(start, stop, lost)
            self._advance(stop, lost)
            self._lose(lost)
            self._look_whether_behind()

    def _disown_below(self, stop: int) -> int:
        """The records in memory below ``stop`` are no longer the journal's; how many events of them are left."""
        disowned = 0
        for index, held in self._held.items():
            if index < stop and held.kept:
                held.kept = False
                self._progress.settle(index, index + 1, held.events)
                disowned += held.left
        return disowned

    def _look_whether_behind(self) -> None:
        """A sink has caught up when it has had what was on disk, not when memory has it: the sink may be away."""
        if self._said_behind and not self._ranges and self.cursor > self._last_fed:
            self._said_behind = False
            _log.info("caught up", sink=self._sink)
