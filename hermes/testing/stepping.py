"""Running a coroutine under watch: how often it pauses, how long it runs between two pauses, cancelled at any of them.

Invariant: the coroutine behaves as if it were awaited plainly; a pause is where it hands control to Trio. Called by the
conformance suites.
"""

from __future__ import annotations

import time
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any


class Watch:
    """What was seen of one run: ``pauses`` so far, and the ``longest`` stretch between two of them in seconds."""

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
                began = time.perf_counter()
                try:
                    trap = coroutine.send(answer)
                except StopIteration:
                    return
                finally:
                    self.longest = max(self.longest, time.perf_counter() - began)
                self._before_pause(self.pauses)
                self.pauses += 1
                answer = yield trap
        finally:
            coroutine.close()
