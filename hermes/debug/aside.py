"""Work that would hold the run loop up, such as reading source files or compressing a profile, done on a thread.

Invariant: debugging never waits for the process's shared thread limit, whose exhaustion it may have been called to
explain; each call brings a limiter of its own. Used by every module here that renders a result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import trio

T = TypeVar("T")


async def run_aside(function: Callable[[], T]) -> T:
    """``function()`` on a worker thread. It cannot be cancelled, so it must be short."""
    return await trio.to_thread.run_sync(function, limiter=trio.CapacityLimiter(1))
