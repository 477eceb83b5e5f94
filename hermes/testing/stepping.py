"""Runs a coroutine under watch: counts its pauses, and measures the time between two pauses.

Invariant: the coroutine behaves as under a plain `await`; a pause is a point at which it hands control to Trio.
"""

from __future__ import annotations

import time
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any


class Watch:
    """Watches one run: ``pauses`` counts so far, ``longest`` is the longest stretch between two of them in seconds.

    ::

        watch = Watch(before_pause=lambda number: scope.cancel() if number == 2 else None)
        await watch.run(sink.write(batch))
    """

    def __init__(self, before_pause: Callable[[int], None] = lambda _number: None) -> None:
        self.pauses = 0
        self.longest = 0.0
        self._before_pause = before_pause

    @types.coroutine
    def run(self, coroutine: Coroutine[Any, Any, None]) -> Generator[Any, Any, None]:
        """Await ``coroutine``; ``before_pause(n)`` is called just before its pause number ``n``, counted from 0."""
        answer: Any = None
        try:
            while True:
                # Real time, whatever clock the test has: a virtual one stands still between two pauses.
                began = time.perf_counter()
                try:
                    # Between two pauses no other task runs, so the time of this call is what other tasks wait.
                    trap = coroutine.send(answer)
                except StopIteration:
                    return
                finally:
                    self.longest = max(self.longest, time.perf_counter() - began)
                # Before the pause begins, so that a cancellation takes effect at this very await.
                self._before_pause(self.pauses)
                self.pauses += 1
                # Trio answers with an outcome, also for a cancellation; the coroutine unwraps it itself, as under a
                # plain await.
                answer = yield trap
        finally:
            # If a check fails in `before_pause`, the coroutine is left suspended: its own clean-up runs here.
            coroutine.close()
