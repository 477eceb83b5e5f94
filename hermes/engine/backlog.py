"""What the journal owes one sink: how far the sink has come, and what is on disk because memory had no room.

A committed chunk goes on in memory while the sink keeps up. When its buffer is full the sink falls behind: from then on
chunks stay on disk, and are read back in order as room appears, paced a little above the rate at which new ones arrive,
until the sink has caught up. Invariants: every record from the cursor on is settled, in the buffer, in a worker's
hands, or in one of ``ranges``; what is in ``ranges`` takes no memory. Made by the delivery, which also runs `run`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import structlog
import trio

from hermes.engine.admission import DrainRate
from hermes.engine.journal import EventJournal
from hermes.errors import LogUnavailable
from hermes.event import Chunk

_log = structlog.get_logger("hermes.backlog")

_READ_BYTES = 4 * 2**20
_READ_RECORDS = 500  # decoding them keeps the loop for a few milliseconds
_RETRY_SECONDS = 1.0
_PACE_SECONDS = 0.01  # what the pace is ahead of its schedule by less than this is not worth a timer

Order = Literal["oldest", "interleaved"]


class Backlog:
    """The backlog of ``sink`` in a journal.

    ``take(pieces)`` puts a record's chunks into the sink's buffer, all or none (False: it has no room).
    ``lose(events)`` is told of events that the journal no longer has. ``catch_up`` is the rate at which the backlog is
    read, as a multiple of the rate at which events arrive, and ``floor`` the least rate, in events/s.
    """

    def __init__(
        self,
        sink: str,
        journal: EventJournal,
        *,
        max_chunk: int,
        catch_up: float,
        floor: float,
        order: Order,
        take: Callable[[Sequence[Chunk]], bool],
        lose: Callable[[int], None],
    ) -> None:
        self._sink = sink
        self._journal = journal
        self._max_chunk = max_chunk
        self._catch_up = catch_up
        self._floor = floor
        self._interleaved = order == "interleaved"
        self._take_in = take
        self._lose = lose
        self._progress, self.owed = journal.enlist(sink)
        self._ranges = [list(gap) for gap in self._progress.gaps(journal.next)]
        self.events = self.owed if self._ranges else 0
        self._split: dict[int, list[int]] = {}  # pieces unsettled and events in all, of records that were cut up
        self._arrivals = DrainRate()
        self._feeding = False
        self._due = 0.0  # when the pace allows the next record, in Trio's time
        self._news = trio.Event()

    @property
    def behind(self) -> bool:
        """Whether there is anything that only the disk has."""
        return bool(self._ranges)

    def arrive(self, chunk: Chunk) -> bool:
        """A chunk was committed. True: it goes into the buffer; False: it stays on disk, for older ones come first."""
        self._arrivals.record(len(chunk.events), trio.current_time())
        if self._interleaved or not (self._ranges or self._feeding):
            return True
        self.leave(chunk)
        return False

    def cut(self, chunk: Chunk) -> Sequence[Chunk]:
        """A record as the sink can take it: it is settled when all its pieces are."""
        pieces = chunk.split(self._max_chunk)
        if len(pieces) > 1:
            self._split[chunk.index] = [len(pieces), len(chunk.events)]
            for piece in pieces:
                piece.index, piece.receipt = chunk.index, chunk.receipt
        return pieces

    def leave(self, chunk: Chunk) -> None:
        """A committed chunk stays on disk, for the buffer has no room."""
        self.events += len(chunk.events)
        if self._ranges and self._ranges[-1][1] == chunk.index:
            self._ranges[-1][1] += 1
        else:
            if not self._ranges:
                _log.warning("behind: the backlog stays on disk", sink=self._sink)
            self._ranges.append([chunk.index, chunk.index + 1])
        self._news.set()

    def release(self, chunks: Sequence[Chunk], *, settled: bool) -> None:
        """Chunks have left the buffer for good, settled or not."""
        for chunk in chunks if settled else ():
            index = chunk.index
            if index < 0:
                continue
            split = self._split.get(index)
            if split is None:
                self._progress.settle(index, index + 1, len(chunk.events))
                continue
            split[0] -= 1
            if not split[0]:
                del self._split[index]
                self._progress.settle(index, index + 1, split[1])
        self._news.set()

    async def give_up_oldest(self, share: int) -> int:
        """Give up the oldest part (1 / ``share``) of what is on disk; return how many events that is.

        Raises `hermes.LogUnavailable`.
        """
        if not self._ranges:
            return 0
        (start, stop), last = self._ranges[0], self._ranges[-1][1]
        cut = min(stop, start + max(1, (last - start) // share))
        lost = await self._journal.event_number(cut) - await self._journal.event_number(start)
        if not self._ranges or self._ranges[0][0] != start:
            return 0  # read meanwhile
        self._take(cut)
        self._progress.settle(start, cut, lost)
        self.events -= lost
        return lost

    async def run(self) -> None:
        """Read the backlog back as fast as there is room and the pace allows, until cancelled."""
        while True:
            while not self._ranges:
                await self._wait_for_news()
            start, stop = self._ranges[0]
            try:
                chunks = await self._journal.read(start, min(stop, start + _READ_RECORDS), _READ_BYTES)
            except LogUnavailable as error:
                _log.warning("the backlog cannot be read", sink=self._sink, reason=str(error))
                await trio.sleep(_RETRY_SECONDS)
                continue
            if not chunks:
                self._skip(start, min(stop, start + _READ_RECORDS))
            for chunk in chunks:
                await self._feed(chunk)

    async def _feed(self, chunk: Chunk) -> None:
        """Bring the next record into the buffer, at its pace."""
        index, count = chunk.index, len(chunk.events)
        if not self._ranges or not self._ranges[0][0] <= index < self._ranges[0][1]:
            return  # given up while it was read
        self._skip(self._ranges[0][0], index)
        self._take(index + 1)
        self.events -= count
        self._feeding = True
        for piece in self.cut(chunk):
            while not self._take_in((piece,)):
                await self._wait_for_news()
        self._feeding = False
        if not self._ranges:
            self._caught_up()
        await self._keep_pace(count)

    async def _keep_pace(self, count: int) -> None:
        now = trio.current_time()
        rate = max(self._floor, self._arrivals.per_second(now) * self._catch_up)
        self._due = max(self._due, now) + count / rate
        if self._due > now + _PACE_SECONDS:
            await trio.sleep_until(self._due)

    def _caught_up(self) -> None:
        if self.events:  # what the journal was thought to hold, and does not
            self._lose(self.events)
            self.events = 0
        _log.info("caught up", sink=self._sink)

    def _take(self, index: int) -> None:
        """What is below ``index`` in the first range is no longer only on disk."""
        first = self._ranges[0]
        first[0] = index
        if first[0] >= first[1]:
            del self._ranges[0]

    def _skip(self, start: int, stop: int) -> None:
        """The journal has no records there any more: damaged, and cut out by a repair."""
        if start < stop:
            self._take(stop)
            self._progress.settle(start, stop, 0)
            if not self._ranges:
                self._caught_up()

    async def _wait_for_news(self) -> None:
        self._news = trio.Event()
        await self._news.wait()
