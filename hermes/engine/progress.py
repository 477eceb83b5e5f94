"""How far one sink has come in the journal: a cursor, and what is settled beyond it. Pure.

Batches are settled in any order, so beyond the cursor there are ranges that are done and gaps that are not. Invariants:
everything below ``cursor`` is settled; ranges are apart, so neighbours are one; ``settled`` counts the events of all
that is settled, since the journal began. A saved state never says more than is settled: what it leaves out is only
delivered again. Called by the backlog of a sink, and saved by the journal.
"""

from __future__ import annotations

import msgspec

_MOST_RANGES = 1000  # in a saved state; what is beyond them is delivered again after a crash


class ProgressState(msgspec.Struct, frozen=True):
    """What is saved: the cursor, the events settled in all, and ``(start, stop, events)`` of each range beyond it."""

    cursor: int
    settled: int
    done: tuple[tuple[int, int, int], ...] = ()


class Progress:
    """The progress of a sink that begins at ``cursor``, when ``settled`` events were before it."""

    def __init__(self, cursor: int, settled: int) -> None:
        self.cursor = cursor
        self.settled = settled
        self._stops: dict[int, int] = {}  # of each range beyond the cursor, by its start, and the other way round
        self._starts: dict[int, int] = {}
        self._events: dict[int, int] = {}  # of each range, by its start

    @classmethod
    def restore(cls, state: ProgressState) -> Progress:
        """What a saved state says."""
        progress = cls(state.cursor, state.settled)
        for start, stop, events in state.done:
            progress._add(start, stop, events)
        return progress

    def settle(self, start: int, stop: int, events: int) -> None:
        """The records from ``start`` to before ``stop``, ``events`` in all, have their outcome."""
        self.settled += events
        self._add(start, stop, events)

    def _add(self, start: int, stop: int, events: int) -> None:
        if start == self.cursor:
            self.cursor = self._pop(stop)[0] if stop in self._stops else stop
            return
        if start in self._starts:
            first = self._starts.pop(start)
            events += self._events.pop(first)
            del self._stops[first]
            start = first
        if stop in self._stops:
            stop, more = self._pop(stop)
            events += more
        self._stops[start] = stop
        self._starts[stop] = start
        self._events[start] = events

    def _pop(self, start: int) -> tuple[int, int]:
        stop = self._stops.pop(start)
        del self._starts[stop]
        return stop, self._events.pop(start)

    def gaps(self, stop: int) -> list[tuple[int, int]]:
        """The ranges below ``stop`` that are not settled, in order."""
        gaps, start = [], self.cursor
        for begin in sorted(self._stops):
            if begin >= stop:
                break
            if start < begin:
                gaps.append((start, begin))
            start = self._stops[begin]
        if start < stop:
            gaps.append((start, stop))
        return gaps

    def state(self) -> ProgressState:
        """What to save."""
        ranges = sorted(self._stops.items())
        done = tuple((start, stop, self._events[start]) for start, stop in ranges[:_MOST_RANGES])
        left_out = sum(self._events[start] for start, _ in ranges[_MOST_RANGES:])
        return ProgressState(self.cursor, self.settled - left_out, done)
