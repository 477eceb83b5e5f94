"""Rates and quantiles of the last seconds, from counters that are sampled once a second.

Pure: both clocks are passed in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

RATE_SECONDS = 5
"""A rate is the mean of so many seconds."""


@dataclass(frozen=True)
class Sample:
    """Counters as of one moment of the run loop's clock. ``requests`` are cumulative counts by upper bound."""

    at: float
    received: int
    delivered: Mapping[str, int]
    requests: Sequence[float]


class History:
    """The samples of the last ``seconds`` seconds, beginning with ``first``."""

    def __init__(self, first: Sample, seconds: int) -> None:
        self._samples = deque([first], seconds + 1)

    def add(self, sample: Sample) -> None:
        """A second has passed."""
        self._samples.append(sample)

    def before(self, now: float, seconds: float) -> Sample:
        """The counters as of so long ago, or the oldest that there are."""
        for sample in reversed(self._samples):
            # Half a second of grace: samples come once a second, and a late one would double the time looked at.
            if now - sample.at >= seconds - 0.5:
                return sample
        return self._samples[0]

    @property
    def received(self) -> list[int]:
        """Events received in each second, the oldest first."""
        return [later.received - earlier.received for earlier, later in pairwise(self._samples)]


def rate_of(before: int, now: int, seconds: float) -> float:
    """How fast a counter has gone from ``before`` to ``now``; 0 if no time has passed."""
    return (now - before) / seconds if seconds > 0 else 0.0


def quantile(share: float, bounds: Sequence[float], counts: Sequence[float]) -> float | None:
    """The ``share``-quantile of cumulative ``counts`` by upper bound, the last without one; None: nothing was counted.

    Within a bucket values count as evenly spread, and those above the last bound as that bound: as Prometheus's
    histogram_quantile has it.
    """
    total = counts[-1]
    if not total:
        return None
    rank, lower, below = share * total, 0.0, 0.0
    for bound, count in zip(bounds, counts, strict=False):
        if count >= rank:
            return lower + (bound - lower) * (rank - below) / (count - below)
        lower, below = bound, count
    return bounds[-1]
