"""When a pool may dial again after a failed attempt to connect. Pure: time and chance are arguments.

All borrowers of a pool share one back-off, so a server that is down, or coming up, meets one dialer and no stampede.
Used by `pool`.
"""

from __future__ import annotations

BACKOFF_MIN = 0.05
"""Seconds of pause after the first failed attempt; doubled with each further one."""

BACKOFF_MAX = 1.0
"""The longest pause in seconds, which is also how late the pool may notice that the server is back."""


class DialBackoff:
    """Exponential pauses with jitter: each lasts between half and the whole of its step.

    `failures` is how many attempts have failed in a row; `not_before` is the time of the next one.
    """

    def __init__(self, shortest: float = BACKOFF_MIN, longest: float = BACKOFF_MAX) -> None:
        self._shortest = shortest
        self._longest = longest
        self.failures = 0
        self.not_before = 0.0

    def failed(self, now: float, chance: float) -> None:
        """Note a failed attempt at `now` (seconds on any clock); `chance` is a random number from 0 to 1.

        During a pause it is no news: several may have dialed at once before the first of them failed.
        """
        if now < self.not_before:
            return
        # The exponent stays small: a server that is down for days must not make the power overflow.
        step = min(self._longest, self._shortest * 2.0 ** min(self.failures, 30))
        self.failures += 1
        self.not_before = now + step * (0.5 + 0.5 * chance)

    def succeeded(self) -> None:
        """Note a connection that was made: no pauses any more."""
        self.failures = 0
        self.not_before = 0.0
