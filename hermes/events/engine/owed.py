"""`OwedRecords`: where each record is that the journal owes one sink, because the sink has not settled the record yet.

A record is loaded (in memory), or in one of ``ranges`` (on disk alone, to be read back), or in ``put_back`` (on disk
alone again, since the sink refused it and others need the room). Invariants: every record from the sink's cursor on is
settled, or in exactly one of these places; ``events`` counts the events on disk alone. Pure: the backlog reads the
journal and the clock.
"""

from __future__ import annotations

from collections.abc import Sequence

from hermes.events.engine.loaded import LoadedRecord, select_events
from hermes.events.engine.progress import Progress
from hermes.events.engine.put_back import Part, PutBack, Range, to_bits
from hermes.events.event import Chunk

MAX_RANGES = 1000
"""The most ranges on disk alone: beyond, the next record joins the last range, so memory stays bounded. As many again
may be of records that were put back, and as many of these records may have parts."""


class OwedRecords:
    """The unsettled records of one sink, by its ``progress`` in a journal whose next record gets ``next_index``.

    At first all of them are on disk alone, ``events`` in all. ``first`` is the number of the next record's first event.

    >>> records = OwedRecords(Progress(cursor=0, settled=0), next_index=0, events=0, first=0)
    >>> chunks = [make_chunk([make_event("a")]), make_chunk([make_event("b")])]
    >>> for index, chunk in enumerate(chunks):
    ...     chunk.index = index
    >>> records.load(chunks[0], [chunks[0]])  # the first has room in memory
    >>> records.defer(chunks[1])  # the second has not
    >>> records.release([chunks[0]], [1], settled=True)
    0
    >>> records.cursor, records.events
    (1, 1)
    """

    def __init__(self, progress: Progress, next_index: int, events: int, first: int) -> None:
        self.progress = progress
        self.events = events
        self.ranges = [Range(*gap) for gap in progress.gaps(next_index)]
        self.put_back = PutBack()
        self.loaded: dict[int, LoadedRecord] = {}
        self.refused = 0
        """Records in memory that were put back before."""
        # Events that were put back, of records that have others in memory: `put_back` has whole records alone.
        self._back = 0
        self.fed_events = self.fed_bytes = 0
        """Events and bytes that were read back and are in memory."""
        self._next_first = first
        self._on_disk_since: float | None = None

    @property
    def cursor(self) -> int:
        """The index below which the sink needs nothing of the journal."""
        return self.progress.cursor

    @property
    def oldest(self) -> float | None:
        """When the oldest unsettled record arrived, in Unix seconds; None if there is no such record, or nobody knows.

        The oldest is the record at the cursor. In memory, or put back, its time is at hand. On disk alone, the time is
        the one of the record read before, which is earlier by one record at most. After a start, nobody knows before
        the first read.
        """
        # Nothing is read to answer: the status asks every second, also while the journal's storage fails.
        loaded = self.loaded.get(self.cursor)
        if loaded is not None:
            return loaded.received_at
        back = self.put_back.ranges
        if back and back[0].start == self.cursor:
            return back[0].received_at
        return self._on_disk_since if self.ranges else None

    @property
    def refused_on_disk(self) -> int:
        """Events that were put back on disk and are not to be read for now."""
        return self.put_back.events + self._back

    # --- into memory ---------------------------------------------------------------------------------------------

    def load(self, chunk: Chunk, pieces: Sequence[Chunk]) -> None:
        """Note that the record of ``chunk``, the newest, is in memory, in these pieces."""
        loaded = self.loaded[chunk.index] = LoadedRecord(chunk, self._next_first)
        self._next_first += loaded.events
        if len(pieces) > 1:
            loaded.share_out(pieces, range(loaded.events))

    def read_back(self, chunk: Chunk, first: int, most: int) -> Sequence[Chunk]:
        """Note that the record of ``chunk``, the first on disk alone, was read back.

        Returns the events that have no outcome, in pieces of ``most`` events.
        """
        index = chunk.index
        loaded = self.loaded[index] = LoadedRecord(chunk, first)
        loaded.fed = True
        loaded.held_at = self.ranges[0].held_at
        self.refused += loaded.held_at is not None
        self._on_disk_since = chunk.received_at
        # A record of which some events have their outcome: to give the sink the others again would count them twice.
        part = self.put_back.take_part(index)
        places: Sequence[int] = range(loaded.events)
        if part is not None:
            places = part.places()
            loaded.left = len(places)
            chunk = select_events(chunk, places)
        self.advance(index + 1, loaded.left)
        pieces = chunk.split(most)
        loaded.share_out(pieces, places)
        return pieces

    def note_fed(self, piece: Chunk) -> None:
        """Note that a piece that was read back has its place in memory."""
        # Counted by piece: the pieces of a large record come in one by one, as there is room.
        self.fed_events += len(piece.events)
        self.fed_bytes += piece.size

    def held_at(self, chunk: Chunk) -> int | None:
        """At how many witnesses the sink first refused the chunk, before its record was put back; None: never."""
        loaded = self.loaded.get(chunk.index)
        return loaded.held_at if loaded is not None else None

    def spend(self, chunk: Chunk, count: int) -> int:
        """Note the outcome of ``count`` events of a chunk, but not of all. Returns how many of them no journal has."""
        loaded = self.loaded.get(chunk.index)
        if loaded is None:
            # The chunk was taken while the journal's storage failed, and has no record.
            return count
        loaded.left -= count
        return 0 if loaded.kept else count

    def release(self, chunks: Sequence[Chunk], unspent: Sequence[int], *, settled: bool) -> int:
        """Note that chunks have left memory, settled or not; `spend` was not told of ``unspent`` of their events.

        Returns how many of these the journal does not have.
        """
        uncommitted = 0
        for chunk, count in zip(chunks, unspent, strict=True):
            loaded = self.loaded.get(chunk.index)
            if loaded is None:
                uncommitted += count
                continue
            loaded.left -= count
            if loaded.fed:
                self._note_left(chunk)
            if not loaded.kept:
                uncommitted += count
            # If not, a stop has come, and the whole record is for the next start.
            if settled:
                # The usual record, without a call: this runs for every record of every sink.
                if loaded.places is None and loaded.held_at is None and loaded.kept:
                    index = chunk.index
                    del self.loaded[index]
                    self.progress.settle(index, index + 1, loaded.events)
                else:
                    self._end_piece(loaded, chunk)
            elif loaded.kept:
                loaded.spilled += count
        return uncommitted

    def _note_left(self, chunk: Chunk) -> None:
        self.fed_events -= len(chunk.events)
        self.fed_bytes -= chunk.size

    def _end_piece(self, loaded: LoadedRecord, chunk: Chunk) -> None:
        """A piece of a record is no longer in memory; with its last piece, the record has a new place."""
        # The piece keeps its events alive, and the record lives until its last piece has ended.
        if loaded.places is not None:
            loaded.places.pop(chunk, None)
        loaded.pieces -= 1
        if loaded.pieces:
            return
        index = chunk.index
        del self.loaded[index]
        self.refused -= loaded.held_at is not None
        # Settled only as a whole: the progress knows records, not events.
        if loaded.back:
            self._back -= loaded.back.bit_count()
            self.put_back.add(
                index,
                held_at=loaded.put_back_at,
                first=loaded.first,
                part=Part(loaded.events, loaded.back),
                received_at=loaded.received_at,
            )
        elif loaded.kept:
            self.progress.settle(index, index + 1, loaded.events)

    # --- on disk alone -------------------------------------------------------------------------------------------

    def defer(self, chunk: Chunk) -> None:
        """Note that the record of ``chunk``, the newest, stays on disk alone until it is read back."""
        self.events += len(chunk.events)
        self._next_first += len(chunk.events)
        if not self.ranges:
            self._on_disk_since = chunk.received_at
        # Chunks come in the order of their indexes, so a sink that stays behind has one range, however long.
        last = self.ranges[-1] if self.ranges else None
        if last is not None and last.stop == chunk.index and last.held_at is None:
            last.stop += 1
        else:
            self.ranges.append(Range(chunk.index, chunk.index + 1))

    def advance(self, index: int, events: int) -> None:
        """Let the first range begin at ``index``; ``events`` before this record are no longer on disk alone."""
        self.events -= events
        first = self.ranges[0]
        first.start = index
        if first.start >= first.stop:
            del self.ranges[0]

    def skip(self, stop: int, before: int) -> int:
        """Give up the records from the start of the first range up to ``stop``, which a repair has cut out.

        ``before`` is how many events the journal took before ``stop``. Returns how many events this loses.
        """
        start = self.ranges[0].start
        if start >= stop:
            return 0
        gone = self.progress.unsettled_below(stop, before)
        # Records in memory, or put back, are unsettled as well, but their events are not lost.
        gone -= sum(loaded.events for index, loaded in self.loaded.items() if index < stop and loaded.kept)
        gone -= self.put_back.events_before(stop)
        self.progress.settle(start, stop, gone)
        # Events that had their outcome before their record was put back are not lost, either.
        lost = gone - self.put_back.done_between(start, stop)
        self.put_back.forget(start, stop)
        self.advance(stop, lost)
        return lost

    # --- refused records, on disk again --------------------------------------------------------------------------

    def can_put_back(self, chunks: Sequence[Chunk]) -> bool:
        """Whether the journal has the records of all these chunks, and there is a place to remember them."""
        # Bounds of memory: a job may go beyond them by its own chunks. Refused without a place, it stays in memory.
        back = self.put_back
        if len(back.ranges) + len(self.ranges) >= 2 * MAX_RANGES or len(back.parts) >= MAX_RANGES:
            return False
        # Chunks that no journal has, or has any more, would be lost: memory is their only place.
        records = [self.loaded.get(chunk.index) for chunk in chunks]
        return all(loaded is not None and loaded.kept for loaded in records)

    def return_to_disk(self, chunks: Sequence[Chunk], left: Sequence[Sequence[int]], held_at: int) -> None:
        """Let chunks leave memory that were refused at ``held_at`` witnesses, after `can_put_back` has said yes.

        Of each chunk, the events at the places in ``left`` have no outcome.
        """
        for chunk, places in zip(chunks, left, strict=True):
            loaded = self.loaded[chunk.index]
            loaded.left -= len(places)
            self.events += len(places)
            self._back += len(places)
            if loaded.fed:
                self._note_left(chunk)
            if places:
                # A place in the piece is not a place in the record, where the record has several pieces.
                own = None if loaded.places is None else loaded.places[chunk]
                loaded.back |= to_bits(places if own is None else [own[place] for place in places])
                loaded.put_back_at = held_at
            self._end_piece(loaded, chunk)

    def read_refused_again(self) -> None:
        """Have the put back records read again, in the order of the journal, and before newer records."""
        back = self.put_back
        if back.ranges and (not self.ranges or back.ranges[0].start < self.ranges[0].start):
            self._on_disk_since = back.ranges[0].received_at
        # In order again, since `skip` relies on the first range being the oldest.
        self.ranges = sorted([*back.take(), *self.ranges], key=lambda each: each.start)

    # --- what the journal forgets --------------------------------------------------------------------------------

    def end_on_disk(self, stop: int) -> int | None:
        """The index behind the last record below ``stop`` that is on disk alone; None if no record is."""
        return max((min(each.stop, stop) for each in self._on_disk() if each.start < stop), default=None)

    def has_on_disk(self, end: int) -> bool:
        """Whether the record before ``end`` is still on disk alone."""
        return any(each.start < end <= each.stop for each in self._on_disk())

    def _on_disk(self) -> Sequence[Range]:
        # The journal forgets a record whether the sink was asked to take it or not.
        return [*self.ranges, *self.put_back.ranges]

    def forget_on_disk(self, below: int, before: int) -> int:
        """Give up the records on disk alone below ``below``; the journal took ``before`` events before that index.

        Returns how many events this loses.
        """
        gone = self.progress.unsettled_below(below, before)
        self.progress.settle_below(below, gone)
        lost = gone - self.put_back.done_between(0, below)
        self.ranges = [each for each in self.ranges if each.stop > below]
        for each in self.ranges:
            each.start = max(each.start, below)
        self.put_back.forget(0, below)
        self.put_back.cut(below, before)
        self.events -= lost
        return lost

    def disown_below(self, stop: int) -> tuple[int, int]:
        """Note that the journal forgets the records in memory below ``stop``.

        Returns how many of their events are left in memory, and how many were put back on disk, which are lost.
        """
        disowned = lost = 0
        for index, loaded in self.loaded.items():
            if index < stop and loaded.kept:
                # Settled in the journal's eyes, so that it can be trimmed; memory alone has its events from now on.
                loaded.kept = False
                self.progress.settle(index, index + 1, loaded.events)
                disowned += loaded.left
                lost += loaded.back.bit_count()
                loaded.back = 0
        self.events -= lost
        self._back -= lost
        return disowned, lost

    def owed(self, journal_events: int) -> int:
        """After all tasks have ended: the unsettled events without an outcome, of the ``journal_events`` ever taken."""
        # A record of which some events have their outcome is delivered again as a whole at the next start. The account
        # is about this run, so these events do not count.
        again = sum(
            loaded.events - loaded.left - loaded.spilled - loaded.back.bit_count()
            for loaded in self.loaded.values()
            if loaded.kept
        )
        again += sum(part.done for part in self.put_back.parts.values())
        return journal_events - self.progress.settled - again
