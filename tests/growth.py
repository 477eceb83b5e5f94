"""Whether the time of some work grows with its size, and no faster: a bound that holds on a machine of any speed.

CPU time alone is compared, the least of several runs, so that a busy machine changes little.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

_TIMES = 8  # the larger size over the smaller one
_MOST = 24.0  # linear work takes 8 times as long, more where a cache is too small for it; quadratic work 64 times
_RUNS = 3
_NOTHING = 0.002  # seconds; less is lost in the clock

T = TypeVar("T")


def assert_linear(work: Callable[[T], object], make: Callable[[int], T], size: int) -> None:
    """Assert that ``work(make(size))`` takes about 8 times as long as for an eighth of ``size``, at most."""
    small, large = make(size // _TIMES), make(size // _TIMES * _TIMES)
    work(small)
    less, more = _least(work, small), _least(work, large)
    assert more < _MOST * max(less, _NOTHING), f"{size // _TIMES}: {less:.4f} s, {size}: {more:.4f} s"


def _least(work: Callable[[T], object], subject: T) -> float:
    return min(_seconds(work, subject) for _ in range(_RUNS))


def _seconds(work: Callable[[T], object], subject: T) -> float:
    began = time.process_time()
    work(subject)
    return time.process_time() - began
