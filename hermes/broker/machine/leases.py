"""The leases of a group: the message and the end of each.

Invariants: a message has at most one lease; a step costs as much as the leases that begin or end. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from typing import NamedTuple

_SLACK = 64
"""So many entries may be out of date, beside a share of those that are not, before a walk over all is worth it."""


class LeaseRun(NamedTuple):
    """The leases of one poll: the ids from ``first`` on and below ``end``, with one deadline in Unix milliseconds."""

    # The first field, for the heap orders the runs by it.
    deadline_ms: int
    first: int
    end: int

    @property
    def ids(self) -> range:
        """The ids of the leases."""
        return range(self.first, self.end)


class Leases:
    """The leases of one group. A lease stays after its deadline, until `expire`.

    >>> leases = Leases()
    >>> leases.add(7, [0, 1, 2], deadline_ms=30_000)
    >>> leases.take([8, 99]), len(leases)
    ([1], 2)
    >>> leases.drop_before(1)
    >>> leases.expire(29_999), leases.expire(30_000), len(leases)
    ([], [2], 0)
    """

    __slots__ = ("_first", "_lowest", "_offsets", "_runs")

    def __init__(self) -> None:
        # The offset of each lease, by the lease's id.
        self._offsets: dict[int, int] = {}
        # By deadline. A run stays while it is in the heap, even if its leases are gone.
        self._runs: list[LeaseRun] = []
        # A lease of an offset below `_first` is gone, even if it is still in the dict; none is below `_lowest`.
        self._first = 0
        self._lowest = 0

    def add(self, first_id: int, offsets: list[int], deadline_ms: int) -> None:
        """Lease messages that are not leased, under ids from ``first_id`` on."""
        if not offsets:
            return
        lowest = min(offsets)
        self._lowest = min(self._lowest, lowest) if self._offsets else lowest
        # One element of the heap for all leases of a poll, since they end together.
        run = LeaseRun(deadline_ms, first_id, first_id + len(offsets))
        self._offsets.update(zip(run.ids, offsets, strict=True))
        heappush(self._runs, run)
        # The runs whose leases are gone go with their deadlines, and with long deadlines they would be many.
        if len(self._runs) > 2 * len(self._offsets) + _SLACK:
            self._runs = [run for run in self._runs if self._has_lease(run)]
            heapify(self._runs)

    def take(self, ids: Iterable[int]) -> list[int]:
        """End these leases; return the offsets of their messages. Passes over an id that has no lease."""
        pop, first = self._offsets.pop, self._first
        # -1, which is below every first offset: no lease has it.
        return [offset for lease in ids if (offset := pop(lease, -1)) >= first]

    def expire(self, now_ms: int) -> list[int]:
        """End every lease whose deadline has come; return the offsets of their messages."""
        runs, offsets = self._runs, []
        # HermesMQ's rule: a lease has ended in the millisecond of its deadline.
        while runs and runs[0].deadline_ms <= now_ms:
            # Leases of the run that were acknowledged or given back are in the dict no more, so `take` passes over
            # them.
            offsets += self.take(heappop(runs).ids)
        return offsets

    def drop_before(self, offset: int) -> None:
        """Forget the leases of all messages below ``offset``."""
        self._first = max(self._first, offset)
        # Not each time: the retention passes over one message after the other.
        if self._first - self._lowest > len(self._offsets) // 2 + _SLACK:
            self._sweep()

    def _sweep(self) -> None:
        """Take the leases out that are gone."""
        if self._lowest < self._first:
            self._offsets = {lease: offset for lease, offset in self._offsets.items() if offset >= self._first}
            self._lowest = min(self._offsets.values(), default=self._first)

    def next_deadline(self) -> int | None:
        """The earliest deadline of a lease, in Unix milliseconds; None without a lease."""
        # The deadline of a lease that the retention made void would announce a message that no poll finds.
        self._sweep()
        while self._runs and not self._has_lease(self._runs[0]):
            heappop(self._runs)
        return self._runs[0].deadline_ms if self._runs else None

    def have_one_after(self, now_ms: int) -> bool:
        """Whether the deadline of a lease is still to come."""
        self._sweep()
        return any(run.deadline_ms > now_ms and self._has_lease(run) for run in self._runs)

    def _has_lease(self, run: LeaseRun) -> bool:
        return any(lease in self._offsets for lease in run.ids)

    def __len__(self) -> int:
        """How many leases there are, with the ones whose deadline has come."""
        self._sweep()
        return len(self._offsets)

    # --- snapshots ---

    def copy(self) -> Leases:
        """The leases as they are now, of their own."""
        leases = Leases()
        leases._offsets, leases._runs = self._offsets.copy(), self._runs.copy()
        leases._first, leases._lowest = self._first, self._lowest
        return leases

    def runs(self) -> list[LeaseRun]:
        """The runs that still have a lease, by deadline."""
        self._sweep()
        return sorted(run for run in self._runs if self._has_lease(run))

    def by_id(self) -> dict[int, int]:
        """The offset of each lease, by the lease's id."""
        self._sweep()
        return self._offsets

    @classmethod
    def restore(cls, offsets: dict[int, int], runs: list[LeaseRun], next_id: int) -> Leases:
        """The leases of `by_id` and `runs`, all below ``next_id``. Raises ValueError if they do not fit together."""
        leases = cls()
        leases._offsets, leases._runs = offsets, sorted(runs)
        leases._lowest = min(offsets.values(), default=0)
        if any(run.end > next_id for run in runs):
            raise ValueError("the id of a lease would be given again")
        found = [lease for run in runs for lease in run.ids if lease in offsets]
        if len(found) != len(offsets) or len(set(found)) != len(found):
            raise ValueError("a lease has no deadline, or more than one")
        return leases
