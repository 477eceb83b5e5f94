"""The leases of a group: the message and the end of each.

Invariants: a message has at most one lease; a step costs as much as the leases that begin or end. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush
from typing import NamedTuple

_SLACK = 64
"""So many entries may be out of date, beside a share of those that are not, before a walk over all is worth it."""


class LeaseRun(NamedTuple):
    """The leases of one poll: the ids from ``first`` on and below ``end``, with one deadline in Unix milliseconds.

    ``holder`` says who polled.
    """

    # The first field, for the heap orders the runs by it.
    deadline_ms: int
    first: int
    end: int
    holder: str = ""

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
    >>> leases.add(20, [5, 6], deadline_ms=100)
    >>> leases.extend([21, 99], deadline_ms=200), leases.expire(150), leases.expire(200)
    ([21], [5], [6])
    """

    __slots__ = ("_extended", "_first", "_lowest", "_offsets", "_runs")

    def __init__(self) -> None:
        # The offset of each lease, by the lease's id.
        self._offsets: dict[int, int] = {}
        # By deadline. A run stays while it is in the heap, even if its leases are gone.
        self._runs: list[LeaseRun] = []
        # The deadline of each lease that was extended, by id: the run that has this deadline counts, and no other.
        self._extended: dict[int, int] = {}
        # A lease of an offset below `_first` is gone, even if it is still in the dict; none is below `_lowest`.
        self._first = 0
        self._lowest = 0

    def add(self, first_id: int, offsets: list[int], deadline_ms: int, holder: str = "") -> None:
        """Lease messages that are not leased, under ids from ``first_id`` on, to the ``holder``."""
        if not offsets:
            return
        lowest = min(offsets)
        self._lowest = min(self._lowest, lowest) if self._offsets else lowest
        run = LeaseRun(deadline_ms, first_id, first_id + len(offsets), holder)
        self._offsets.update(zip(run.ids, offsets, strict=True))
        self._push(run)

    def _push(self, run: LeaseRun) -> None:
        heappush(self._runs, run)
        # The runs whose leases are gone go with their deadlines, and with long deadlines they would be many.
        if len(self._runs) > 2 * len(self._offsets) + _SLACK:
            self._runs = [run for run in self._runs if self._has_lease(run)]
            heapify(self._runs)

    def extend(self, ids: Iterable[int], deadline_ms: int, holder: str = "") -> list[int]:
        """Give these leases another deadline; return the ids of those that there are."""
        found = [lease for lease in ids if self._offsets.get(lease, -1) >= self._first]
        for lease in found:
            self._extended[lease] = deadline_ms
            self._push(LeaseRun(deadline_ms, lease, lease + 1, holder))
        return found

    def has(self, lease: int) -> bool:
        """Whether there is this lease."""
        return self._offsets.get(lease, -1) >= self._first

    def take(self, ids: Iterable[int]) -> list[int]:
        """End these leases; return the offsets of their messages. Passes over an id that has no lease."""
        pop, first = self._offsets.pop, self._first
        if self._extended:
            ids = list(ids)
            for lease in ids:
                self._extended.pop(lease, None)
        # -1, which is below every first offset: no lease has it.
        return [offset for lease in ids if (offset := pop(lease, -1)) >= first]

    def expire(self, now_ms: int) -> list[int]:
        """End every lease whose deadline has come; return the offsets of their messages."""
        runs, offsets = self._runs, []
        # HermesMQ's rule: a lease has ended in the millisecond of its deadline.
        while runs and runs[0].deadline_ms <= now_ms:
            offsets += self.take(self._ids(heappop(runs)))
        return offsets

    def _ids(self, run: LeaseRun) -> Iterable[int]:
        """The ids of a run, without those that were extended to another deadline."""
        if not self._extended:
            return run.ids
        return [lease for lease in run.ids if self._extended.get(lease, run.deadline_ms) == run.deadline_ms]

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
            self._extended = {lease: end for lease, end in self._extended.items() if lease in self._offsets}
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
        return any(lease in self._offsets for lease in self._ids(run))

    def __len__(self) -> int:
        """How many leases there are, with the ones whose deadline has come."""
        self._sweep()
        return len(self._offsets)

    # --- snapshots ---

    def copy(self) -> Leases:
        """The leases as they are now, of their own."""
        leases = Leases()
        leases._offsets, leases._runs = self._offsets.copy(), self._runs.copy()
        leases._extended = self._extended.copy()
        leases._first, leases._lowest = self._first, self._lowest
        return leases

    def runs(self) -> list[LeaseRun]:
        """The runs that still have a lease, by deadline. Each lease is in one of them."""
        self._sweep()
        if not self._extended:
            return sorted(run for run in self._runs if self._has_lease(run))
        parts = [part for run in self._runs for part in self._parts(run)]
        # A lease that was extended to a deadline that it had before stands in two runs.
        extended = {part.first: part for part in parts if part.first in self._extended}
        return sorted([*extended.values(), *(part for part in parts if part.first not in self._extended)])

    def _parts(self, run: LeaseRun) -> Iterator[LeaseRun]:
        """The run without the leases that were extended to another deadline; those that were, one by one."""
        first = run.first
        for lease in run.ids:
            if lease in self._extended:
                if first < lease and any(each in self._offsets for each in range(first, lease)):
                    yield run._replace(first=first, end=lease)
                if self._extended[lease] == run.deadline_ms and lease in self._offsets:
                    yield LeaseRun(run.deadline_ms, lease, lease + 1, run.holder)
                first = lease + 1
        if any(each in self._offsets for each in range(first, run.end)):
            yield run._replace(first=first)

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
