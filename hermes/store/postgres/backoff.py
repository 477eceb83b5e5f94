"""Decides when a pool may dial again after a failed attempt to connect. Pure: time and chance are arguments.

Invariant: all borrowers of a pool share one back-off, so a server that is down, or starting, meets one dialer instead
of a stampede.
"""

from __future__ import annotations

BACKOFF_MIN = 0.05
"""Seconds of pause after the first failed attempt; doubled with each further one."""

BACKOFF_MAX = 1.0
"""The longest pause in seconds. The pool notices at most this much later that the server is back."""


class DialBackoff:
    """Exponential pauses with jitter: each lasts between half and the whole of its step.

    `failures` counts the attempts that failed in a row; `not_before` is the time of the next attempt.

    >>> backoff = DialBackoff(shortest=0.1, longest=1.0)
    >>> backoff.failed(now=10.0, chance=1.0)
    >>> backoff.not_before
    10.1
    """

    def __init__(self, shortest: float = BACKOFF_MIN, longest: float = BACKOFF_MAX) -> None:
        self._shortest = shortest
        self._longest = longest
        self.failures = 0
        self.not_before = 0.0

    def failed(self, now: float, chance: float) -> None:
        """Note a failed attempt at `now` (seconds on any clock); `chance` is a random number from 0 to 1."""
        # Several borrowers may dial at once before the first of them fails. Their failures are one failure of the
        # server, and must not double the pause several times.
        if now < self.not_before:
            return
        # The exponent is bounded: a server that is down for days must not make the power overflow.
        step = min(self._longest, self._shortest * 2.0 ** min(self.failures, 30))
        # After the step is computed: the first failure waits for the shortest pause.
        self.failures += 1
        # Jitter, so that several processes which lost the server together do not come back together.
        self.not_before = now + step * (0.5 + 0.5 * chance)

    def succeeded(self) -> None:
        """Note a successful connection: the pauses are over."""
        self.failures = 0
        self.not_before = 0.0
