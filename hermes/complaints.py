"""Log lines about trouble that lasts: each thing is said at most every few seconds, however often it happens.

Invariant: the first of a kind is always said.
"""

from __future__ import annotations

import structlog
import trio

_PAUSE = 5.0  # seconds between two lines of one kind


class Complaints:
    """Log lines of ``logger``, each with ``facts``, but not one for every time that something fails."""

    def __init__(self, logger: str, **facts: object) -> None:
        self._log = structlog.get_logger(logger)
        self._facts = facts
        self._next: dict[str, float] = {}

    def tell(self, what: str, **facts: object) -> bool:
        """Log a warning. False: not this time."""
        now = trio.current_time()
        if now < self._next.get(what, now):
            return False
        self._next[what] = now + _PAUSE
        self._log.warning(what, **self._facts, **facts)
        return True
