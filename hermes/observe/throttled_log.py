"""`ThrottledLog`: log lines about lasting trouble, each at most once every few seconds.

Invariants: the first line of a kind is always written; a later one has the number of unwritten lines as ``more``. After
`ThrottledLog.write_rest`, no unwritten line is uncounted.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import NamedTuple

import structlog
import trio

from hermes.base.throttle import Throttle


class _Line(NamedTuple):
    level: int
    message: str
    facts: Mapping[str, object]


class ThrottledLog:
    """Lines of ``logger``, each with the same ``facts``.

    ::

        log = ThrottledLog("hermes.events.engine", sink="postgres")
        log.warn("a write failed", reason="no answer in time")
        ...
        log.write_rest()  # the trouble is over, or the service stops
    """

    def __init__(self, logger: str, **facts: object) -> None:
        self._log = structlog.get_logger(logger)
        self._facts = facts
        # No bound on the kinds: messages and places are those of the code, and no text of a client.
        self._throttle = Throttle[_Line]()

    def warn(self, message: str, **facts: object) -> bool:
        """Log a warning. Lines of one message are one kind. Returns whether the line was written."""
        # The message alone: a fact, such as a reason with a number, may differ in each line of one trouble.
        return self._write(logging.WARNING, message, message, facts)

    def report_bug(self, message: str, error: BaseException | None, **facts: object) -> bool:
        """Log an error with its traceback. Errors that one line of code raised are one kind.

        Returns whether the line was written.
        """
        # The place belongs to the kind: a second bug behind the same message gets a traceback of its own at once.
        return self._write(logging.ERROR, message, f"{message}: {_place(error)}", facts | {"exc_info": error})

    def write_rest(self) -> None:
        """Write the last unwritten line of each kind, with the number of unwritten lines as ``more``.

        Call it when the trouble is over, and at a stop: no later line would have the number.
        """
        for line, held_back in self._throttle.take_rest(trio.current_time(), at_the_end=True):
            self._log.log(line.level, line.message, **self._facts, **line.facts, more=held_back)

    def _write(self, level: int, message: str, kind: str, facts: dict[str, object]) -> bool:
        kept = facts
        if "exc_info" in facts:
            # The exception would keep its frames, and so a request's body, until the next line.
            kept = facts | {"error": repr(facts["exc_info"])}
            del kept["exc_info"]
        held_back = self._throttle.admit(kind, _Line(level, message, kept), trio.current_time())
        # None holds the line back; 0 writes it without a count.
        if held_back is None:
            return False
        if held_back:
            facts["more"] = held_back
        self._log.log(level, message, **self._facts, **facts)
        return True


def _place(error: BaseException | None) -> str:
    """Return the type of an error and the line that raised it: the number of kinds is bounded by the code."""
    while isinstance(error, BaseExceptionGroup):
        # A group's own traceback ends in Trio, whatever was raised.
        error = error.exceptions[0]
    trace = error.__traceback__ if error is not None else None
    # The last entry is the line that raised.
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{type(error).__name__} {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
