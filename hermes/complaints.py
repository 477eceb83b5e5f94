"""Log lines about trouble that lasts: each thing is said at most every few seconds, however often it happens.

Invariant: the first of a kind is always said.
"""

from __future__ import annotations

import logging

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
        return self._tell(logging.WARNING, what, what, facts)

    def tell_bug(self, what: str, error: BaseException | None, **facts: object) -> bool:
        """Log an error with its traceback: one for each place in our code. False: not this time."""
        return self._tell(logging.ERROR, what, f"{what}: {_place(error)}", facts | {"exc_info": error})

    def _tell(self, level: int, what: str, kind: str, facts: dict[str, object]) -> bool:
        now = trio.current_time()
        if now < self._next.get(kind, now):
            return False
        self._next[kind] = now + _PAUSE
        self._log.log(level, what, **self._facts, **facts)
        return True


def _place(error: BaseException | None) -> str:
    """The type of an error and the line that raised it: there are as many as there is code."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    trace = error.__traceback__ if error is not None else None
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{type(error).__name__} {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
