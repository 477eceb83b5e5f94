"""One profile of a kind at a time, and the two reasons why a profile cannot start.

Invariant: whoever leaves ``hold`` frees it, cancelled or not. Used by ``profile``, ``heap`` and ``block``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import trio

from hermes.errors import HermesError


class ProfilerBusy(HermesError):
    """A profile of this kind is being taken. Ask again after ``retry_after`` seconds."""

    def __init__(self, kind: str, retry_after: float) -> None:
        super().__init__(f"a {kind} is already being taken; it ends in {retry_after:.1f} s: ask again then")
        self.retry_after = retry_after


class ProfilerUnavailable(HermesError):
    """This process cannot be profiled so; the message says what stands in the way."""


class Exclusive:
    """What a process has once, such as its profiling timer. ``kind`` names it in the error."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._free_at: float | None = None

    @contextlib.contextmanager
    def hold(self, seconds: float) -> Iterator[None]:
        """Have it for about ``seconds``. Raises ``ProfilerBusy`` at once if somebody else has it."""
        now = trio.current_time()
        if self._free_at is not None:
            raise ProfilerBusy(self._kind, max(0.0, self._free_at - now))
        self._free_at = now + seconds
        try:
            yield
        finally:
            self._free_at = None
