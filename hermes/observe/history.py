"""Rates and quantiles of the last seconds, from counters that are sampled once a second. Pure.

Invariant: the samples are bounded in number, and the caller passes the time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Generic, Protocol, TypeVar

RATE_SECONDS = 5
"""A rate is the mean over so many seconds."""


class Sample(Protocol):
    """Counters as of one moment."""

    @property
    def at(self) -> float:
        """The moment, of the run loop's clock."""


SampleT = TypeVar("SampleT", bound=Sample)


class History(Generic[SampleT]):
    """The samples of the last ``seconds`` seconds, beginning with ``first``.

    ::

        history = History(take_sample(now), 120)
        history.add(take_sample(now + 1))  # once a second
        then = history.before(now + 1, RATE_SECONDS)
    """

    def __init__(self, first: SampleT, seconds: int) -> None:
        # One sample more than seconds: each second has a sample at both ends.
        self._samples = deque([first], seconds + 1)

    def add(self, sample: SampleT) -> None:
        """Keep the sample of this second."""
        self._samples.append(sample)

    def before(self, now: float, seconds: float) -> SampleT:
        """The counters as of so many seconds ago, or the oldest counters."""
        # From the newest back: a rate looks at five seconds, and a history may have minutes.
        for sample in reversed(self._samples):
            # Half a second of grace: samples come once a second, and a late one would double the time looked at.
            if now - sample.at >= seconds - 0.5:
                return sample
        # The history is younger than that, so its whole time counts.
        return self._samples[0]

    def seconds(self) -> Iterator[tuple[SampleT, SampleT]]:
        """The samples at the beginning and at the end of each second, the oldest first."""
        return pairwise(self._samples)


def rate_of(before: int, now: int, seconds: float) -> float:
    """The rate of a counter that went from ``before`` to ``now``; 0 if no time has passed.

    >>> rate_of(100, 150, seconds=5.0)
    10.0
    """
    return (now - before) / seconds if seconds > 0 else 0.0


def quantile(share: float, bounds: Sequence[float], counts: Sequence[float]) -> float | None:
    """The ``share``-quantile of cumulative ``counts`` by upper bound; the last count has no bound. None: no values.

    >>> quantile(0.5, bounds=(1.0, 2.0), counts=(0, 10, 10))
    1.5
    """
    # As Prometheus's histogram_quantile: within a bucket values are evenly spread, and a value above the last bound
    # counts as that bound.
    total = counts[-1]
    if not total:
        return None
    rank, lower, below = share * total, 0.0, 0.0
    # Not strict: the last count has no bound.
    for bound, count in zip(bounds, counts, strict=False):
        if count >= rank:
            # Never a division by zero: an earlier bucket with the same count would have returned.
            return lower + (bound - lower) * (rank - below) / (count - below)
        lower, below = bound, count
    return bounds[-1]
