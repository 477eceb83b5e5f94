"""Answers to many requests at once, in slices between which the run loop serves others.

Invariant: at most `MOST_ANSWERS` requests are answered between two checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import trio

MOST_ANSWERS = 500
"""Answers between two checkpoints: some 5 ms, which a neighbour's request waits for its turn."""

Asked = TypeVar("Asked")


async def answer_in_slices(asked: Iterable[Asked], answer: Callable[[Asked], None]) -> None:
    """Call ``answer`` for each of ``asked``, with a checkpoint after each slice.

    ``asked`` may be a generator: the next request is taken only when its turn has come.

    ::

        await answer_in_slices(waiting, lambda tell: tell(Outcome.TAKEN, None))
    """
    # No checkpoint before the first answer: the usual commit has a few requests, and they are answered at once.
    for count, each in enumerate(asked, 1):
        answer(each)
        if count % MOST_ANSWERS == 0:
            await trio.lowlevel.checkpoint()
