"""One profile at a time, a pause after each, and the two reasons why a profile cannot start.

Invariants: whoever leaves ``hold`` frees it, cancelled or not; profiles slow the service, so that those of all kinds
together take a bounded part of the time. Used by ``profile``, ``heap`` and ``block``, and for the views by ``routes``.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator

import trio

from hermes.errors import HermesError


class ProfilerBusy(HermesError):
    """No profile can be taken now. Ask again after ``retry_after`` seconds."""

    def __init__(self, words: str, retry_after: float) -> None:
        super().__init__(f"{words} {retry_after:.1f} s: ask again then")
        self.retry_after = retry_after


class ProfilerUnavailable(HermesError):
    """This process cannot be profiled so; the message says what stands in the way."""


class Exclusive:
    """What a process has once. It is held for at most the part ``most`` of the time: after each use it has a rest."""

    def __init__(self, most: float) -> None:
        self.rest = 1 / most - 1  # for each second of use
        self._kind = ""
        self._ended = self._free_at = 0.0

    @contextlib.contextmanager
    def hold(self, kind: str, seconds: float) -> Iterator[None]:
        """Have it for about ``seconds``, for a profile of this kind. Raises ``ProfilerBusy`` at once if it is taken."""
        began = trio.current_time()
        left = max(0.0, self._free_at - began)
        if self._kind:
            raise ProfilerBusy(f"a {self._kind} is already being taken; it ends in", left)
        # Each run of Trio has a clock of its own: an end that is still to come was that of another run.
        if left and began >= self._ended:
            raise ProfilerBusy("a profile was just taken, and the service has a rest of", left)
        self._kind, self._free_at = kind, began + seconds
        try:
            yield
        finally:
            self._kind, self._ended = "", trio.current_time()
            self._free_at = self._ended + (self._ended - began) * self.rest


class Turns:
    """What is made by one after the other, in at most the part ``most`` of the time; who comes meanwhile waits."""

    def __init__(self, most: float) -> None:
        self._rest_of = 1 / most - 1
        self._lock = trio.Lock()
        self._rest = self._free_at = 0.0

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and have it."""
        async with self._lock:
            left = self._free_at - trio.current_time()
            if 0 < left <= self._rest:  # more than the rest is an end by the clock of another run of Trio
                await trio.sleep(left)
            began = trio.current_time()
            try:
                yield
            finally:
                ended = trio.current_time()
                self._rest = (ended - began) * self._rest_of
                self._free_at = ended + self._rest


PROFILING = Exclusive(0.8)
"""For profiles, which slow the service for as long as they take."""

VIEWS = Turns(0.2)
"""For views of a moment, which hold the service up while they are made."""
