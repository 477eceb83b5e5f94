"""Sorts the ids of a batch in steps, because one call for 30,000 ids would keep the loop for ten milliseconds. Pure.

Runs of a few thousand ids are sorted one by one. Then the runs are cut at the same ids, and the pieces between two cuts
are merged. Invariants: the parts hold each index once, in the order of the ids; equal ids stay in their order.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

RUN = 10_000
"""Ids that are sorted in one step: about 4 ms of the loop."""

_SAMPLES = 64  # of a run: so the parts differ in size by a few percent at most


def order_in_steps(ids: Sequence[str], run: int = RUN) -> Iterator[list[int]]:
    """Yield the indexes of the ids in order, in parts of about ``run``; some parts at the beginning are empty.

    >>> list(order_in_steps(["d", "b", "c", "a"], run=2))
    [[], [], [3, 1], [2, 0]]
    """
    runs: list[list[int]] = []
    for start in range(0, len(ids), run):
        runs.append(sorted(range(start, min(start + run, len(ids))), key=ids.__getitem__))
        if len(ids) > run:
            yield []
    if len(runs) == 1:
        yield runs[0]
        return
    begins = [0] * len(runs)
    for cut in _find_cuts(runs, ids):
        ends = [bisect_left(each, cut, begin, key=ids.__getitem__) for each, begin in zip(runs, begins, strict=True)]
        yield _merge(runs, begins, ends, ids)
        begins = ends
    yield _merge(runs, begins, [len(each) for each in runs], ids)


def _find_cuts(runs: Sequence[list[int]], ids: Sequence[str]) -> list[str]:
    """Return the ids that cut all runs together into as many parts of about the same size."""
    samples = [ids[each[len(each) * place // _SAMPLES]] for each in runs for place in range(_SAMPLES)]
    samples.sort()
    return samples[_SAMPLES::_SAMPLES]


def _merge(runs: Sequence[list[int]], begins: Sequence[int], ends: Sequence[int], ids: Sequence[str]) -> list[int]:
    part = [index for run, begin, end in zip(runs, begins, ends, strict=True) for index in run[begin:end]]
    part.sort(key=ids.__getitem__)  # finds the sorted runs in it, and merges them
    return part
