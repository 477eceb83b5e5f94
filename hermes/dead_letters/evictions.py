"""Counts the letters that came into a store, and those that left it because newer ones needed their room. Pure.

Invariant: every letter that leaves for want of room is counted once, under its source, in ``by_source``. ``own`` counts
only the letters that this open store had added itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from hermes.dead_letters.contract import Source


class Evictions:
    """The evictions of one open store, by source.

    >>> from hermes.dead_letters import Source
    >>> evictions, source = Evictions(), Source("events", "postgres")
    >>> evictions.add(2, after=7, up_to=9, evicted=[(1, source)])  # letter 1 is of an earlier run
    >>> evictions.add(1, after=9, up_to=10, evicted=[(8, source)])  # letter 8 is of this one
    >>> evictions.total, evictions.own[source]
    (2, 1)
    """

    def __init__(self) -> None:
        self.came = 0
        """Letters that were added through this store, those included that took the place of an older letter."""
        self.by_source: Counter[Source] = Counter()
        # An event that this run dead-lettered and that was then evicted has the outcome "evicted" in this run's
        # account. A letter of an earlier run, or of another instance, is in no account of this run.
        self.own: Counter[Source] = Counter()
        self._added: list[tuple[int, int]] = []  # ranges of numbers, in order: after the first, up to the second

    @property
    def total(self) -> int:
        """The letters that were evicted since the store was opened."""
        return self.by_source.total()

    def collect(self) -> Iterator[Metric]:
        """The metric of the store, for Prometheus."""
        # Here: the package is imported for a list of the commands, and prometheus-client takes a while.
        from prometheus_client.core import CounterMetricFamily

        yield CounterMetricFamily(
            "hermes_dead_letters_evicted", "Dead letters that made room for newer ones", self.total
        )

    def add(self, count: int, after: int, up_to: int, evicted: Iterable[tuple[int, Source]]) -> None:
        """``count`` letters came, the new ones with numbers above ``after`` and up to ``up_to``; then others left.

        ``evicted`` has the number and the source of each evicted letter.
        """
        self.came += count
        # Otherwise each letter took the place of an older one, and there is no new number.
        if up_to > after:
            # Joining neighbouring ranges keeps the list short: with one writer there is one range.
            if self._added and self._added[-1][1] >= after:
                self._added[-1] = (self._added[-1][0], up_to)
            else:
                self._added.append((after, up_to))
        newest = 0
        for number, source in evicted:
            # The highest, not the last: RETURNING gives the rows in no promised order.
            newest = max(newest, number)
            self.by_source[source] += 1
            self.own[source] += any(first < number <= last for first, last in self._added)
        # The oldest leave first, so nothing at or below the newest of them is left to be evicted.
        self._added = [(first, last) for first, last in self._added if last > newest]
