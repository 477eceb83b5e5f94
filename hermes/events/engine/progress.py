"""How far one sink has come in the journal: a cursor, and the settled ranges beyond it. Pure.

Batches are settled in any order, so beyond the cursor there are ranges that are settled and gaps that are not.
Invariants: everything below ``cursor`` is settled; ranges do not touch, so neighbours are one; ``settled`` counts the
settled events since the journal began. A saved state never says more than is settled: a range that the state leaves out
is only delivered again. Kept by the backlog of a sink, saved by the journal.
"""

from __future__ import annotations

import msgspec

MOST_RANGES = 1000
"""Ranges of a saved state. Events of ranges beyond them are delivered again after a crash."""


class ProgressState(msgspec.Struct, frozen=True):
    """The saved state: the cursor, the events settled in all, and ``(start, stop, events)`` of each range beyond it."""

    cursor: int
    settled: int
    done: tuple[tuple[int, int, int], ...] = ()


class Progress:
    """The progress of a sink that begins at ``cursor``, before which ``settled`` events were taken.

    >>> progress = Progress(cursor=0, settled=0)
    >>> progress.settle(1, 3, events=20)  # two records, before the first one is settled
    >>> progress.cursor, progress.gaps(stop=4)
    (0, [(0, 1), (3, 4)])
    >>> progress.settle(0, 1, events=10)
    >>> progress.cursor, progress.settled
    (3, 30)
    """

    def __init__(self, cursor: int, settled: int) -> None:
        self.cursor = cursor
        self.settled = settled
        # Stops of the ranges beyond the cursor, by their starts, and the other way round: to settle a record takes the
        # same time however many ranges there are.
        self._stops: dict[int, int] = {}
        self._starts: dict[int, int] = {}
        # Events of each range, by its start.
        self._events: dict[int, int] = {}

    @classmethod
    def restore(cls, state: ProgressState, end: int) -> Progress:
        """The progress of a saved state in a log that ends before ``end`` now.

        Where the log has lost its end, the settled records there are gone: the records that come in their place are not
        settled.
        """
        # Beyond the log's end there are no records: their indexes will be those of others.
        progress = cls(min(state.cursor, end), state.settled)
        for start, stop, events in state.done:
            if stop <= end:
                progress._add(start, stop, events)
            else:
                progress.settled -= events
        return progress

    def settle(self, start: int, stop: int, events: int) -> None:
        """Settle the unsettled records from ``start`` to before ``stop``, with ``events`` events in all."""
        self.settled += events
        self._add(start, stop, events)

    def settle_below(self, stop: int, events: int) -> None:
        """Settle every unsettled record below ``stop``, with ``events`` events in all; the cursor is below ``stop``."""
        for start in [start for start in self._stops if start < stop]:
            self._pop(start)
        self.settled += events
        self.cursor = self._pop(stop)[0] if stop in self._stops else stop

    def unsettled_below(self, stop: int, before: int) -> int:
        """How many events are not settled below ``stop``, when ``before`` events are in all the records below.

        The last record below ``stop`` must be unsettled: a settled range that crosses `stop` has one total, so its
        share below `stop` is unknown.
        """
        # What is settled below the stop is all that is settled, less the ranges beyond.
        beyond = sum(events for start, events in self._events.items() if start >= stop)
        return before - (self.settled - beyond)

    def gaps(self, stop: int) -> list[tuple[int, int]]:
        """The ranges below ``stop`` that are not settled, in order."""
        gaps, start = [], self.cursor
        for begin in sorted(self._stops):
            if begin >= stop:
                break
            gaps.append((start, begin))
            start = self._stops[begin]
        if start < stop:
            gaps.append((start, stop))
        return gaps

    def state(self) -> ProgressState:
        """The state to save."""
        # In order, so that the newest ranges are the ones that are left out.
        ranges = sorted(self._stops.items())
        done = tuple((start, stop, self._events[start]) for start, stop in ranges[:MOST_RANGES])
        left_out = sum(self._events[start] for start, _ in ranges[MOST_RANGES:])
        return ProgressState(self.cursor, self.settled - left_out, done)

    def _add(self, start: int, stop: int, events: int) -> None:
        # The cursor takes in the range that begins where the new one ends.
        if start == self.cursor:
            self.cursor = self._pop(stop)[0] if stop in self._stops else stop
            return
        if start in self._starts:
            # Neighbours become one, so a sink that keeps up has few ranges, however many records it has settled.
            first = self._starts[start]
            events += self._pop(first)[1]
            start = first
        if stop in self._stops:
            stop, more = self._pop(stop)
            events += more
        self._stops[start] = stop
        self._starts[stop] = start
        self._events[start] = events

    def _pop(self, start: int) -> tuple[int, int]:
        """Take out the range that begins at ``start``; its end and its events."""
        stop = self._stops.pop(start)
        del self._starts[stop]
        return stop, self._events.pop(start)
