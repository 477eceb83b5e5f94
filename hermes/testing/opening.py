"""Opens the object that a conformance suite checks, and bounds the time of opening and closing.

Invariant: the block itself has no bound here, and its exceptions pass unchanged.
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
    """Open an object for a block.

    Opening and closing may each take ``timeout`` seconds; if one takes longer, ``tell`` is called with a message.
    """
    # One scope with a moving deadline: a scope of its own for closing could not reach into the `async with`.
    bound = trio.CancelScope(deadline=trio.current_time() + timeout)
    doing = "opening"
    with bound:
        async with open_it() as opened:
            # The checks in the block have bounds of their own.
            bound.deadline = math.inf
            try:
                yield opened
            finally:
                doing, bound.deadline = "closing", trio.current_time() + timeout
    if bound.cancelled_caught:
        tell(f"{doing} took longer than {timeout:g} s")
