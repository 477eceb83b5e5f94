"""What the server says of a row that it refuses. Pure.

Who can act on an error is in `hermes.postgres.sqlstate`. Called by the postgres sink.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import psycopg

from hermes.kit.postgres import Fault, fault_of, tell
from hermes_sinks.postgres.copy_rows import COLUMNS

# "COPY events, line 7, column payload: …", in the server's language; what follows is the value.
_COPY_LINE = re.compile(r"^COPY .*?, \S+ (\d+)(?:, \S+ (\w+))?", re.MULTILINE)


def judge(error: psycopg.Error) -> Fault:
    """What an error is about. Raises the error itself where neither server nor network made it: that is a bug."""
    fault = fault_of(error)
    if fault is None:
        raise error
    return fault


@dataclass(frozen=True)
class RowFault:
    """The server refused rows for what is in them. ``line`` is the row that it names, from 0, if it names one."""

    reason: str
    line: int | None

    @classmethod
    def of(cls, error: psycopg.Error) -> RowFault:
        """The fault that an error with the fault ``ROW`` or ``DUPLICATE`` describes."""
        named = _COPY_LINE.search(error.diag.context or "")
        column = f" (column {named[2]})" if named and named[2] in COLUMNS else ""
        return cls(tell(error) + column, int(named[1]) - 1 if named else None)
