"""Opens what a conformance suite checks, with a bound on the opening and the closing.

Invariant: the time in between has no bound here, and an error that is raised in the block passes unchanged.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeVar

import trio

OpenedT = TypeVar("OpenedT")


@asynccontextmanager
async def opened_within(
    timeout: float, open_it: Callable[[], AbstractAsyncContextManager[OpenedT]], tell: Callable[[str], None]
) -> AsyncIterator[OpenedT]:
    """What ``open_it`` opens; opening and closing may each take ``timeout`` seconds, else ``tell`` gets the words."""
    bound = trio.CancelScope(deadline=trio.current_time() + timeout)
    doing = "opening"
    with bound:
        async with open_it() as opened:
            bound.deadline = math.inf
            try:
                yield opened
            finally:
                doing, bound.deadline = "closing", trio.current_time() + timeout
    if bound.cancelled_caught:
        tell(f"{doing} took longer than {timeout:g} s")
