"""What the Postgres driver raises, and what an error says about its statement.

psycopg's own errors are named here again for those who may not import psycopg. The pool's two are
`psycopg.OperationalError`s, so that "the database cannot be reached now" is one `except` clause at the caller.
"""

from __future__ import annotations

import re

from psycopg import Error, OperationalError, ProgrammingError
from psycopg.errors import DiskFull, UniqueViolation

__all__ = [
    "DiskFull",
    "Error",
    "OperationalError",
    "PoolClosed",
    "PoolTimeout",
    "ProgrammingError",
    "UniqueViolation",
    "UnknownHost",
    "tell",
    "was_refused",
]

_MAX_REASON = 500  # characters: a server's message has no bound of its own

# In the quotes of the server's language; from the first to the last, for there may be some in a value too.
_QUOTED = re.compile(r"""["«»„“].*["«»“”]""", re.DOTALL)
_BYTES = re.compile(r"0x[0-9a-f]{2}(?: 0x[0-9a-f]{2})*")
_NUMBER = re.compile(r"(?<![\w\"])\d+(?![\w\"])")


class UnknownHost(OperationalError):
    """No host of the connection string has an address: the resolver knows none of the names."""


class PoolTimeout(OperationalError):
    """No connection could be had in time. The caller backs off and tries again later.

    `last_error` is why the pool's latest attempt to connect failed, or None when the server is well and all
    connections are in use.
    """

    def __init__(self, message: str, last_error: OperationalError | None) -> None:
        super().__init__(message)
        self.last_error = last_error


class PoolClosed(OperationalError):
    """The pool's context has been left; a bug in the caller."""


def was_refused(error: Error) -> bool:
    """Whether the server said no to a statement and lives on: then its transaction is rolled back.

    False, and nothing is known of a statement that was on its way, when the connection or its backend has ended.
    """
    return error.diag.severity_nonlocalized == "ERROR"


def tell(error: Error) -> str:
    """What the server or the driver says, in one line of bounded length, the error's code first.

    Never what is in a row: not the detail, which quotes it; of a data exception nothing in quotes, of that and of an
    exceeded limit no numbers. The constraint is named, and the column, where the words do not name them.
    """
    code, diag = error.sqlstate or "", error.diag
    words = diag.message_primary or str(error)
    if code.startswith("22"):
        words = _BYTES.sub("0x…", _QUOTED.sub('"…"', words))
    if code.startswith(("22", "54")):
        words = _NUMBER.sub("…", words)
    names = [("constraint", diag.constraint_name), ("column", diag.column_name)]
    named = ", ".join(f"{what} {name}" for what, name in names if name and name not in words)
    line = " ".join(f"{code} {words}{f' ({named})' if named else ''}".split())
    return line if len(line) <= _MAX_REASON else line[: _MAX_REASON - 1] + "…"
