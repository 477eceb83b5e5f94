"""Reads the server's error about a refused row: its reason and the row that it names. Pure.

Invariant: a reason has no value of a row. `hermes.store.postgres.sqlstate` says who can act on an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import psycopg

from hermes.kit.postgres import Fault, fault_of, tell
from hermes_sinks.postgres.copy_rows import COLUMNS

# "COPY events, line 7, column payload: …", in the server's language; the value follows, so the match ends before it.
_COPY_LINE = re.compile(r"^COPY .*?, \S+ (\d+)(?:, \S+ (\w+))?", re.MULTILINE)


def judge(error: psycopg.Error) -> Fault:
    """Return the kind of an error. Raises the error itself if neither server nor network made it: that is a bug."""
    fault = fault_of(error)
    if fault is None:
        raise error
    return fault


@dataclass(frozen=True)
class RowFault:
    """The server refused rows because of their content. ``line`` is the row that its error names, from 0, or None."""

    reason: str
    line: int | None

    @classmethod
    def of(cls, error: psycopg.Error) -> RowFault:
        """Return the fault of an error whose kind is ``ROW`` or ``DUPLICATE``."""
        named = _COPY_LINE.search(error.diag.context or "")
        # Only the name of a column of ours: any other word may be a value of the row.
        column = f" (column {named[2]})" if named and named[2] in COLUMNS else ""
        return cls(tell(error) + column, int(named[1]) - 1 if named else None)
