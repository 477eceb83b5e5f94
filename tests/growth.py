"""Whether the time of some work grows with its size, and no faster: a bound that holds on a machine of any speed.

CPU time alone is compared, the least of several runs, so that a busy machine changes little.
"""

from __future__ import annotations

import time
from collections.abc import Callable

_TIMES = 4  # the larger size over the smaller one
_MOST = 8.0  # linear work takes 4 times as long, quadratic work 16 times
_RUNS = 3
_NOTHING = 0.002  # seconds; less is lost in the clock


def assert_linear(work: Callable[[int], object], size: int) -> None:
    """Assert that ``work(4 * size)`` takes about 4 times as long as ``work(size)`` at most."""
    work(size)
    small, large = _least(work, size), _least(work, _TIMES * size)
    assert large < _MOST * max(small, _NOTHING), f"{size}: {small:.4f} s, {_TIMES * size}: {large:.4f} s"


def _least(work: Callable[[int], object], size: int) -> float:
    return min(_seconds(work, size) for _ in range(_RUNS))


def _seconds(work: Callable[[int], object], size: int) -> float:
    began = time.process_time()
    work(size)
    return time.process_time() - began
