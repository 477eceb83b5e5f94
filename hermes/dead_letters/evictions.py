"""Counts the letters that left a store because newer ones needed their room. Pure.

Invariant: every letter that leaves for want of room is counted once, under its sink, in ``by_sink``; those that were
added through the same store since it was opened are also in ``own``, for they are outcomes of events of this run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, Metric


class Evictions:
    """What one open store has evicted. Numbers are those of letters; a letter's number is given once."""

    def __init__(self) -> None:
        self.by_sink: Counter[str] = Counter()
        self.own: Counter[str] = Counter()
        self._added: list[tuple[int, int]] = []  # ranges of numbers, in order: after the first, up to the second

    @property
    def total(self) -> int:
        """All that were evicted since the store was opened."""
        return self.by_sink.total()

    def collect(self) -> Iterator[Metric]:
        """The metric of the store, for Prometheus."""
        yield CounterMetricFamily(
            "hermes_dead_letters_evicted", "Dead letters that made room for newer ones", self.total
        )

    def add(self, after: int, up_to: int, evicted: Iterable[tuple[int, str]]) -> None:
        """Letters were added that got numbers above ``after`` and up to ``up_to``, and then others were evicted.

        ``evicted`` has the number and the sink of each.
        """
        if up_to > after:
            if self._added and self._added[-1][1] >= after:
                self._added[-1] = (self._added[-1][0], up_to)
            else:
                self._added.append((after, up_to))
        newest = 0
        for number, sink in evicted:
            newest = max(newest, number)
            self.by_sink[sink] += 1
            self.own[sink] += any(first < number <= last for first, last in self._added)
        # The oldest leave first, so nothing at or below the newest of them is left to be evicted.
        self._added = [(first, last) for first, last in self._added if last > newest]
