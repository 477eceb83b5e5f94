"""`OwedRecords`: where each record of the journal is that one sink has not settled yet.

A record is loaded (in memory), or in one of ``ranges`` (on disk alone, to be read back), or in ``put_back`` (on disk
alone again, since the sink refused it and others need the room). Invariants: every record from the sink's cursor on is
settled, or in one of these places, and in one only; ``events`` counts those on disk alone. Pure: the backlog reads the
journal and the clock.
"""

from __future__ import annotations

from collections.abc import Sequence

from hermes.events.engine.loaded import LoadedRecord, select_events
from hermes.events.engine.progress import Progress
from hermes.events.engine.put_back import Part, PutBack, Range, to_bits
from hermes.events.event import Chunk

MAX_RANGES = 1000
"""Ranges on disk alone. Where there are as many, the next record joins the last range, so memory stays bounded; as many
again may be of records that were put back, and as many of these may have parts."""


class OwedRecords:
    """The unsettled records of one sink, by its ``progress`` in a journal whose next record gets ``next_index``.

    At first all of them are on disk alone, ``events`` in all. ``first`` is the number of the next record's first event.
    """

    def __init__(self, progress: Progress, next_index: int, events: int, first: int) -> None:
        self.progress = progress
        self.events = events
        self.ranges = [Range(*gap) for gap in progress.gaps(next_index)]
        self.put_back = PutBack()
        self.loaded: dict[int, LoadedRecord] = {}
        self.refused = 0
        """Records in memory that were put back before."""
        self._back = 0  # events that were put back, of records that have others in memory
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
        """When the oldest unsettled record arrived, in Unix seconds; None if there is none, or nobody knows.

        That is the record at the cursor. In memory, or put back, its time is at hand. On disk alone, the time is that
        of the record read before it, which is earlier by one record at most. After a start, nobody knows before the
        first read.
        """
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
        """The record of ``chunk``, the newest, is in memory, in these pieces."""
        loaded = self.loaded[chunk.index] = LoadedRecord(chunk, self._next_first)
        self._next_first += loaded.events
        loaded.share_out(pieces, range(loaded.events))

    def read_back(self, chunk: Chunk, first: int, most: int) -> Sequence[Chunk]:
        """The record of ``chunk``, the first on disk alone, was read back. Returns what is left of it, in pieces."""
        index = chunk.index
        loaded = self.loaded[index] = LoadedRecord(chunk, first)
        loaded.fed = True
        loaded.held_at = self.ranges[0].held_at
        self.refused += loaded.held_at is not None
        self._on_disk_since = chunk.received_at
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
        """A piece that was read back has its place in memory."""
        self.fed_events += len(piece.events)
        self.fed_bytes += piece.size

    def held_at(self, chunk: Chunk) -> int | None:
        """When the sink first refused the chunk, which is in memory, before its record was put back; None: never."""
        loaded = self.loaded.get(chunk.index)
        return loaded.held_at if loaded is not None else None

    def spend(self, chunk: Chunk, count: int) -> int:
        """``count`` events of a chunk have their outcome, others have not. Returns how many no journal has."""
        loaded = self.loaded.get(chunk.index)
        if loaded is None:
            return count  # it was taken while the journal's storage failed, and has no record
        loaded.left -= count
        return 0 if loaded.kept else count

    def release(self, chunks: Sequence[Chunk], unspent: Sequence[int], *, settled: bool) -> int:
        """Chunks have left memory, settled or not; `spend` was not told of ``unspent`` of their events.

        Returns how many of these the journal does not have.
        """
        uncommitted = 0
        for chunk, count in zip(chunks, unspent, strict=True):
            loaded = self.loaded.get(chunk.index)
            if loaded is None:
                uncommitted += count
                continue
            loaded.left -= count
            self._note_left(loaded, chunk)
            if not loaded.kept:
                uncommitted += count
            if settled:  # if not, it is a stop, and the whole record is for the next start
                self._end_piece(loaded, chunk)
            elif loaded.kept:
                loaded.spilled += count
        return uncommitted

    def _note_left(self, loaded: LoadedRecord, chunk: Chunk) -> None:
        if loaded.fed:
            self.fed_events -= len(chunk.events)
            self.fed_bytes -= chunk.size

    def _end_piece(self, loaded: LoadedRecord, chunk: Chunk) -> None:
        """A piece of a record is no longer in memory; with its last piece, the record has a new place."""
        if loaded.places is not None:
            loaded.places.pop(chunk, None)
        loaded.pieces -= 1
        if loaded.pieces:
            return
        index = chunk.index
        del self.loaded[index]
        self.refused -= loaded.held_at is not None
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
        """The record of ``chunk``, the newest, stays on disk alone until it is read back."""
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
        """The first range begins at ``index`` now; ``events`` before it are no longer on disk alone."""
        self.events -= events
        first = self.ranges[0]
        first.start = index
        if first.start >= first.stop:
            del self.ranges[0]

    def skip(self, stop: int, before: int) -> int:
        """The journal has no records from the start of the first range up to ``stop``: a repair has cut them out.

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
        lost = gone - self.put_back.done_between(start, stop)
        self.put_back.forget(start, stop)
        self.advance(stop, lost)
        return lost

    # --- refused records, on disk again --------------------------------------------------------------------------

    def can_put_back(self, chunks: Sequence[Chunk]) -> bool:
        """Whether the journal has the records of all these chunks, and there is a place to remember them."""
        back = self.put_back
        if len(back.ranges) + len(self.ranges) >= 2 * MAX_RANGES or len(back.parts) >= MAX_RANGES:
            return False
        records = [self.loaded.get(chunk.index) for chunk in chunks]
        return all(loaded is not None and loaded.kept for loaded in records)

    def return_to_disk(self, chunks: Sequence[Chunk], left: Sequence[Sequence[int]], held_at: int) -> None:
        """Chunks leave memory, refused when there were ``held_at`` witnesses; `can_put_back` has allowed it.

        Of each chunk, the events at the places in ``left`` have no outcome.
        """
        for chunk, places in zip(chunks, left, strict=True):
            loaded = self.loaded[chunk.index]
            loaded.left -= len(places)
            self.events += len(places)
            self._back += len(places)
            self._note_left(loaded, chunk)
            if places:
                own = None if loaded.places is None else loaded.places[chunk]
                loaded.back |= to_bits(places if own is None else [own[place] for place in places])
                loaded.put_back_at = held_at
            self._end_piece(loaded, chunk)

    def read_refused_again(self) -> None:
        """What was put back is to be read again, in the order of the journal, and before newer records."""
        back = self.put_back
        if back.ranges and (not self.ranges or back.ranges[0].start < self.ranges[0].start):
            self._on_disk_since = back.ranges[0].received_at
        self.ranges = sorted([*back.take(), *self.ranges], key=lambda each: each.start)

    # --- what the journal forgets --------------------------------------------------------------------------------

    def end_on_disk(self, stop: int) -> int | None:
        """The index behind the last record below ``stop`` that is on disk alone; None if there is none."""
        return max((min(each.stop, stop) for each in self._on_disk() if each.start < stop), default=None)

    def has_on_disk(self, end: int) -> bool:
        """Whether the record before ``end`` is still on disk alone."""
        return any(each.start < end <= each.stop for each in self._on_disk())

    def _on_disk(self) -> Sequence[Range]:
        return [*self.ranges, *self.put_back.ranges]

    def forget_on_disk(self, below: int, before: int) -> int:
        """The journal forgets the records on disk alone below ``below``; it took ``before`` events before that index.

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
        """The journal forgets the records in memory below ``stop``.

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
        """All tasks have ended: the unsettled events of the journal, which took ``journal_events``, without an outcome.

        A record of which a part is settled is delivered again as a whole, so the part that has its outcome counts too.
        """
        again = sum(
            loaded.events - loaded.left - loaded.spilled - loaded.back.bit_count()
            for loaded in self.loaded.values()
            if loaded.kept
        )
        again += sum(part.done for part in self.put_back.parts.values())
        return journal_events - self.progress.settled - again
