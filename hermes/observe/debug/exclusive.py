"""Allows one profile at a time, and makes a pause after each; the two errors of a profile that cannot start.

Invariants: leaving ``hold`` frees it, cancelled or not. Profiles slow the service, so profiles of all kinds together
take a bounded share of the time.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator

import trio

from hermes.base.errors import HermesError


class ProfilerBusy(HermesError):
    """No profile can be taken now. Ask again after ``retry_after`` seconds."""

    def __init__(self, words: str, retry_after: float) -> None:
        super().__init__(f"{words} {retry_after:.1f} s: ask again then")
        self.retry_after = retry_after


class ProfilerUnavailable(HermesError):
    """This kind of profile cannot be taken of this process; the message names the obstacle."""


class Exclusive:
    """A resource that a process has once, held for at most the share ``most`` of the time, with a pause after each use.

    ::

        PROFILING = Exclusive(0.8)
        with PROFILING.hold("heap profile", seconds=10.0):
            await trio.sleep(10.0)
    """

    def __init__(self, most: float) -> None:
        # Seconds of pause for each second of use.
        self.rest = 1 / most - 1
        self._kind = ""
        self._ended = self._free_at = 0.0

    @contextlib.contextmanager
    def hold(self, kind: str, seconds: float) -> Iterator[None]:
        """Hold the resource for about ``seconds``, for a profile of this kind. Raises ``ProfilerBusy`` if taken."""
        began = trio.current_time()
        left = max(0.0, self._free_at - began)
        if self._kind:
            raise ProfilerBusy(f"a {self._kind} is already being taken; it ends in", left)
        # Each run of Trio has its own clock. An end in the future was measured by the clock of another run.
        if left and began >= self._ended:
            raise ProfilerBusy("a profile was just taken, and the service has a rest of", left)
        # Set at the beginning, so that a refusal can say when to come again.
        self._kind, self._free_at = kind, began + seconds
        try:
            yield
        finally:
            # In `finally`: a cancelled profile must free the resource too.
            self._kind, self._ended = "", trio.current_time()
            # By the real duration: a profile that was cancelled early earns a shorter pause.
            self._free_at = self._ended + (self._ended - began) * self.rest


class Turns:
    """Work that one task does after another, in at most the share ``most`` of the time. Other tasks wait for a turn.

    ::

        async with VIEWS.turn():
            tree = take_snapshot()
    """

    def __init__(self, most: float) -> None:
        self._pause_share = 1 / most - 1
        self._lock = trio.Lock()
        self._pause = self._free_at = 0.0

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and hold it for the block."""
        async with self._lock:
            left = self._free_at - trio.current_time()
            # More than the pause: the end was measured by the clock of another run of Trio.
            if 0 < left <= self._pause:
                await trio.sleep(left)
            # After the wait: only the work itself counts against its share.
            began = trio.current_time()
            try:
                yield
            finally:
                ended = trio.current_time()
                self._pause = (ended - began) * self._pause_share
                self._free_at = ended + self._pause


PROFILING = Exclusive(0.8)
"""For profiles, which slow the service while they run."""

# A script that asks for the task tree in a loop may take at most a fifth of the service's time.
VIEWS = Turns(0.2)
"""For views of a moment, which block the service while they are made."""
