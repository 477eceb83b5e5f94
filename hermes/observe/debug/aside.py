"""Runs work on a thread that would block the run loop, such as reading source files or compressing a profile.

Invariant: debugging never waits for the process's shared limit of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import trio

T = TypeVar("T")


async def run_aside(function: Callable[[], T]) -> T:
    """Return ``function()``, run on a worker thread. The call cannot be cancelled, so the function must be short.

    ::

        text = await run_aside(profile.text)
    """
    # A limiter for each call: an exhausted shared limit may be the fault that somebody is looking for.
    return await trio.to_thread.run_sync(function, limiter=trio.CapacityLimiter(1))
