"""Counts latencies in bounded memory, in log-linear buckets.

The method is Gil Tene's HdrHistogram (hdrhistogram.org): every power of two is cut into the same number of equal
buckets, so the relative error is the same for a microsecond and for a minute.

Invariant: pure, no clock; memory is one list of 2,432 counters, whatever is recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

# 64 buckets an octave: a bucket is at most 1/64 of its value wide, and its middle at most 1/128 (0.8 %) away from the
# recorded value.
_OCTAVE_BITS = 6
_BUCKETS_PER_OCTAVE = 1 << _OCTAVE_BITS
# Below 2**7 every value has a bucket of its own.
_EXACT_BITS = _OCTAVE_BITS + 1
# 2**43 ns are 2.4 hours; `--timeout` is at most one hour, so no answer takes longer.
_VALUE_BITS = 43

MAX_VALUE = (1 << _VALUE_BITS) - 1
"""The largest value with a bucket of its own, in the recorder's unit: 2.4 hours of nanoseconds. Larger values share
its bucket."""


class Histogram:
    """Counts of non-negative integers, read back as percentiles with an error of at most 1/128.

    ``minimum`` and ``maximum`` are exact; both are 0 while ``count`` is 0.

    >>> latencies = Histogram()
    >>> latencies.record([10, 20, 30, 100])
    >>> latencies.percentiles([50, 100])
    [20, 100]
    """

    __slots__ = ("_counts", "count", "maximum", "minimum")

    def __init__(self) -> None:
        self._counts = [0] * ((_VALUE_BITS - _EXACT_BITS) * _BUCKETS_PER_OCTAVE + 2 * _BUCKETS_PER_OCTAVE)
        self.count = 0
        self.minimum = 0
        self.maximum = 0

    def record(self, values: Sequence[int]) -> None:
        """Count every value of a list.

        Pass many values at once: a call for each value costs more than the counting.
        """
        if not values:
            return
        low, high = min(values), max(values)
        if low < 0:
            raise ValueError(f"a histogram counts values from 0 on, not {low}")
        self.minimum = low if self.count == 0 else min(self.minimum, low)
        self.maximum = max(self.maximum, high)
        self.count += len(values)
        counts = self._counts
        # One comparison a list; the common case copies nothing.
        if high > MAX_VALUE:
            values = [min(value, MAX_VALUE) for value in values]
        for value in values:
            shift = value.bit_length() - _EXACT_BITS
            # The leading bits of a value, 64 to 127 of them an octave, follow those of the octaves below.
            counts[(shift << _OCTAVE_BITS) + (value >> shift) if shift > 0 else value] += 1

    def percentiles(self, percents: Iterable[float]) -> list[float]:
        """The value at each of these percents (0 to 100), by nearest rank; 0.0 while nothing is recorded."""
        wanted = list(percents)
        for percent in wanted:
            if not 0 <= percent <= 100:
                raise ValueError(f"a percent is 0 to 100, not {percent:g}")
        found = [0.0] * len(wanted)
        if self.count == 0:
            return found
        # Ranks in ascending order, so that one walk over the buckets answers all of them.
        ranks = sorted((self._rank(percent), position) for position, percent in enumerate(wanted))
        seen = 0
        buckets = enumerate(self._counts)
        index = 0
        for rank, position in ranks:
            while seen < rank:
                index, count = next(buckets)
                seen += count
            # A bucket's middle may lie outside of the recorded range; a percentile may not.
            found[position] = min(max(_middle(index), self.minimum), self.maximum)
            # The last rank is the exact maximum; the middle of its bucket could lie below a value that was recorded.
            if rank == self.count:
                found[position] = self.maximum
        return found

    def _rank(self, percent: float) -> int:
        # Rounding first keeps 99.9 % of 1000 at rank 999 although the product is a hair above it in binary.
        exact = round(percent * self.count / 100, 6)
        return max(1, int(exact) + (exact > int(exact)))


def _middle(index: int) -> float:
    """Return the middle of a bucket: the value reported for every value in it."""
    if index < 2 * _BUCKETS_PER_OCTAVE:
        return index
    shift = (index >> _OCTAVE_BITS) - 1
    lowest = (index - (shift << _OCTAVE_BITS)) << shift
    return lowest + ((1 << shift) - 1) / 2
