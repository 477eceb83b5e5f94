"""Counts the letters that left a store because newer ones needed their room. Pure.

Invariant: every letter that leaves for want of room is counted once, under its source, in ``by_source``; those that
were added through the same store since it was opened are also in ``own``, for they are outcomes of this run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, Metric

if TYPE_CHECKING:
    from hermes.dead_letters.contract import Source


class Evictions:
    """What one open store has evicted. Numbers are those of letters; a letter's number is given once."""

    def __init__(self) -> None:
        self.by_source: Counter[Source] = Counter()
        self.own: Counter[Source] = Counter()
        self._added: list[tuple[int, int]] = []  # ranges of numbers, in order: after the first, up to the second

    @property
    def total(self) -> int:
        """All that were evicted since the store was opened."""
        return self.by_source.total()

    def collect(self) -> Iterator[Metric]:
        """The metric of the store, for Prometheus."""
        yield CounterMetricFamily(
            "hermes_dead_letters_evicted", "Dead letters that made room for newer ones", self.total
        )

    def add(self, after: int, up_to: int, evicted: Iterable[tuple[int, Source]]) -> None:
        """Letters were added that got numbers above ``after`` and up to ``up_to``, and then others were evicted.

        ``evicted`` has the number and the source of each.
        """
        if up_to > after:
            if self._added and self._added[-1][1] >= after:
                self._added[-1] = (self._added[-1][0], up_to)
            else:
                self._added.append((after, up_to))
        newest = 0
        for number, source in evicted:
            newest = max(newest, number)
            self.by_source[source] += 1
            self.own[source] += any(first < number <= last for first, last in self._added)
        # The oldest leave first, so nothing at or below the newest of them is left to be evicted.
        self._added = [(first, last) for first, last in self._added if last > newest]
