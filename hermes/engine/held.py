"""`HeldRecords`: where each record of the journal is that one sink has not settled yet.

A record is held (in memory) or in one of ``ranges`` (on disk alone). Invariants: every record from the sink's cursor on
is settled, or held, or in one range, and in one of these only; ``events`` counts those on disk alone. Pure: the backlog
reads the journal and the clock.
"""

from __future__ import annotations

from collections.abc import Sequence

from hermes.engine.progress import Progress
from hermes.event import Chunk

MAX_RANGES = 1000
"""Ranges on disk alone. Where there are as many, the next record joins the last range, so memory stays bounded."""


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


class HeldRecords:
    """The unsettled records of one sink, by its ``progress`` in a journal whose next record gets ``next_index``.

    At first all of them are on disk alone, ``events`` in all.
    """

    def __init__(self, progress: Progress, next_index: int, events: int) -> None:
        self.progress = progress
        self.events = events
        self.ranges = [list(gap) for gap in progress.gaps(next_index)]
        self.held: dict[int, _Held] = {}
        self.fed_events = self.fed_bytes = 0
        """Events and bytes that were read back and are in memory."""
        self._on_disk_since: float | None = None

    @property
    def cursor(self) -> int:
        """The index below which the sink needs nothing of the journal."""
        return self.progress.cursor

    @property
    def oldest(self) -> float | None:
        """When the oldest unsettled record arrived, in Unix seconds; None if there is none, or nobody knows.

        That is the record at the cursor. In memory, its time is at hand. On disk alone, the time is that of the record
        read before it, which is earlier by one record at most. After a start, nobody knows before the first read.
        """
        held = self.held.get(self.cursor)
        if held is not None:
            return held.received_at
        return self._on_disk_since if self.ranges else None

    # --- into memory ---------------------------------------------------------------------------------------------

    def hold(self, chunk: Chunk, pieces: int, *, fed: bool) -> None:
        """The record of ``chunk`` is in memory, in so many pieces; ``fed``: it was read back."""
        self.held[chunk.index] = _Held(pieces, chunk, fed=fed)
        if fed:
            self._on_disk_since = chunk.received_at

    def note_fed(self, piece: Chunk) -> None:
        """A piece that was read back has its place in memory."""
        self.fed_events += len(piece.events)
        self.fed_bytes += piece.size

    def spend(self, chunk: Chunk, count: int) -> int:
        """``count`` events of a chunk have their outcome, others have not. Returns how many no journal has."""
        held = self.held.get(chunk.index)
        if held is None:
            return count  # it was taken while the journal's storage failed, and has no record
        held.left -= count
        return 0 if held.kept else count

    def release(self, chunks: Sequence[Chunk], unspent: Sequence[int], *, settled: bool) -> int:
        """Chunks have left memory, settled or not; `spend` was not told of ``unspent`` of their events.

        Returns how many of these the journal does not have.
        """
        uncommitted = 0
        for chunk, count in zip(chunks, unspent, strict=True):
            held = self.held.get(chunk.index)
            if held is None:
                uncommitted += count
                continue
            held.left -= count
            if held.fed:
                self.fed_events -= len(chunk.events)
                self.fed_bytes -= chunk.size
            if not held.kept:
                uncommitted += count
            if settled:  # if not, it is a stop, and the whole record is for the next start
                held.pieces -= 1
                if not held.pieces:
                    del self.held[chunk.index]
                    if held.kept:
                        self.progress.settle(chunk.index, chunk.index + 1, held.events)
            elif held.kept:
                held.spilled += count
        return uncommitted

    # --- on disk alone -------------------------------------------------------------------------------------------

    def defer(self, chunk: Chunk) -> None:
        """The record of ``chunk``, the newest, stays on disk alone until it is read back."""
        self.events += len(chunk.events)
        if not self.ranges:
            self._on_disk_since = chunk.received_at
        # Chunks come in the order of their indexes, so a sink that stays behind has one range, however long.
        if self.ranges and self.ranges[-1][1] == chunk.index:
            self.ranges[-1][1] += 1
        else:
            self.ranges.append([chunk.index, chunk.index + 1])

    def advance(self, index: int, events: int) -> None:
        """The first range begins at ``index`` now; ``events`` before it are no longer on disk alone."""
        self.events -= events
        first = self.ranges[0]
        first[0] = index
        if first[0] >= first[1]:
            del self.ranges[0]

    def skip(self, stop: int, before: int) -> int:
        """The journal has no records from the start of the first range up to ``stop``: a repair has cut them out.

        ``before`` is how many events the journal took before ``stop``. Returns how many events this loses.
        """
        start = self.ranges[0][0]
        if start >= stop:
            return 0
        lost = self.progress.unsettled_below(stop, before)
        # Records in memory are unsettled as well, but their events are not lost: memory has them.
        lost -= sum(held.events for index, held in self.held.items() if index < stop and held.kept)
        self.progress.settle(start, stop, lost)
        self.advance(stop, lost)
        return lost

    # --- what the journal forgets --------------------------------------------------------------------------------

    def end_on_disk(self, stop: int) -> int | None:
        """The index behind the last record below ``stop`` that is on disk alone; None if there is none."""
        ends = [min(end, stop) for start, end in self.ranges if start < stop]
        return ends[-1] if ends else None

    def has_on_disk(self, end: int) -> bool:
        """Whether the record before ``end`` is still on disk alone."""
        return any(start < end <= stop for start, stop in self.ranges)

    def forget_on_disk(self, below: int, before: int) -> int:
        """The journal forgets the records on disk alone below ``below``; it took ``before`` events before that index.

        Returns how many events this loses.
        """
        lost = self.progress.unsettled_below(below, before)
        self.progress.settle_below(below, lost)
        self.ranges = [[max(start, below), end] for start, end in self.ranges if end > below]
        self.events -= lost
        return lost

    def disown_below(self, stop: int) -> int:
        """The journal forgets the records in memory below ``stop``. Returns how many of their events are left."""
        disowned = 0
        for index, held in self.held.items():
            if index < stop and held.kept:
                # Settled in the journal's eyes, so that it can be trimmed; memory alone has its events from now on.
                held.kept = False
                self.progress.settle(index, index + 1, held.events)
                disowned += held.left
        return disowned

    def owed(self, journal_events: int) -> int:
        """All tasks have ended: the unsettled events of the journal, which took ``journal_events``, without an outcome.

        A record of which a part is settled is delivered again as a whole, so the part that has its outcome counts too.
        """
        again = sum(held.events - held.left - held.spilled for held in self.held.values() if held.kept)
        return journal_events - self.progress.settled - again
