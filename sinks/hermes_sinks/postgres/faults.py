"""What an error of the server or of the connection means for a batch. Pure.

Invariant: only an error that the data causes costs an event; whatever may pass (a restart, a lock, a missing table, a
permission that somebody will grant) leaves the batch to be written again. Called by the postgres sink.

Source: PostgreSQL documentation, appendix A, "PostgreSQL Error Codes"; a class is a code's first two characters.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

import psycopg

_MAX_REASON = 500  # characters: the server quotes data in its errors


class Verdict(enum.Enum):
    """Who or what stands in the way of a statement."""

    DUPLICATE = "a row is stored already"
    ROW = "a row that the server will never take"
    CONFLICT = "another writer; the same statement may pass at once"
    UNAVAILABLE = "the server, the connection or the table; the same batch may pass later"


_VERDICTS = {
    "23505": Verdict.DUPLICATE,
    "22": Verdict.ROW,  # data exception: no valid JSON for jsonb, no valid UTF-8, …
    "23": Verdict.ROW,  # a constraint that the operator has added
    "40": Verdict.CONFLICT,  # serialization failure, deadlock
    "44": Verdict.ROW,  # the check option of a view
    "54": Verdict.ROW,  # program limits: JSON nested too deep, a value too large
    "P0": Verdict.ROW,  # raised by a trigger
}

# "COPY events, line 7, column payload: …", in the server's language.
_COPY_LINE = re.compile(r"^COPY .*?, \S+ (\d+)", re.MULTILINE)


def judge(error: psycopg.Error) -> Verdict:
    """The verdict on an error. Raises the error itself where neither server nor network made it: that is a bug."""
    code = error.sqlstate
    if code is None:
        if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            return Verdict.UNAVAILABLE
        raise error
    return _VERDICTS.get(code) or _VERDICTS.get(code[:2], Verdict.UNAVAILABLE)


def reason(error: psycopg.Error) -> str:
    """The server's words in one line, its code first."""
    said = (error.diag.message_primary, error.diag.message_detail)
    words = ": ".join(part for part in said if part) or str(error)
    line = " ".join(f"{error.sqlstate or ''} {words}".split())
    return line if len(line) <= _MAX_REASON else line[: _MAX_REASON - 1] + "…"


@dataclass(frozen=True)
class RowFault:
    """The server refused rows for what is in them. ``line`` is the row that it names, from 0, if it names one."""

    reason: str
    line: int | None

    @classmethod
    def of(cls, error: psycopg.Error) -> RowFault:
        """The fault that an error with the verdict ``ROW`` describes."""
        named = _COPY_LINE.search(error.diag.context or "")
        return cls(reason(error), int(named[1]) - 1 if named else None)
