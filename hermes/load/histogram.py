"""How long requests took, in bounded memory: counts in log-linear buckets.

The method is Gil Tene's HdrHistogram (hdrhistogram.org): every power of two is cut into the same number of equal
buckets, so the relative error is the same for a microsecond and for a minute. With 64 buckets an octave, a bucket is
at most 1/64 of its value wide and its middle at most 1/128 (0.8 %) away from what was recorded.

Invariant: pure, no clock; memory is one list of 2,432 counters whatever is recorded. The client records, the report
reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_OCTAVE_BITS = 6
_BUCKETS_PER_OCTAVE = 1 << _OCTAVE_BITS
_EXACT_BITS = _OCTAVE_BITS + 1  # below 2**7 every value has a bucket of its own
_VALUE_BITS = 43

MAX_VALUE = (1 << _VALUE_BITS) - 1
"""The largest value told apart, in the recorder's unit: 2.4 hours of nanoseconds. Larger ones share its bucket."""


class Histogram:
    """Counts of non-negative integers, read back as percentiles with an error of at most 1/128.

    ``minimum`` and ``maximum`` are exact; both are 0 while ``count`` is 0.
    """

    __slots__ = ("_counts", "count", "maximum", "minimum")

    def __init__(self) -> None:
        self._counts = [0] * ((_VALUE_BITS - _EXACT_BITS) * _BUCKETS_PER_OCTAVE + 2 * _BUCKETS_PER_OCTAVE)
        self.count = 0
        self.minimum = 0
        self.maximum = 0

    def record(self, values: Sequence[int]) -> None:
        """Count every value of a list. One call for many values: a call a value would cost more than the counting."""
        if not values:
            return
        low, high = min(values), max(values)
        if low < 0:
            raise ValueError(f"a histogram counts values from 0 on, not {low}")
        self.minimum = low if self.count == 0 else min(self.minimum, low)
        self.maximum = max(self.maximum, high)
        self.count += len(values)
        counts = self._counts
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
            found[position] = min(max(_middle(index), self.minimum), self.maximum)
            if rank == self.count:
                found[position] = self.maximum
        return found

    def _rank(self, percent: float) -> int:
        # Rounding first keeps 99.9 % of 1000 at rank 999 although the product is a hair above it in binary.
        exact = round(percent * self.count / 100, 6)
        return max(1, int(exact) + (exact > int(exact)))


def _middle(index: int) -> float:
    """The middle of a bucket: what all its values are reported as."""
    if index < 2 * _BUCKETS_PER_OCTAVE:
        return index
    shift = (index >> _OCTAVE_BITS) - 1
    lowest = (index - (shift << _OCTAVE_BITS)) << shift
    return lowest + ((1 << shift) - 1) / 2
