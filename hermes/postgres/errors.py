"""What the Postgres driver raises, and what an error says about its statement.

psycopg's own errors are named here again for those who may not import psycopg. The pool's two are
`psycopg.OperationalError`s, so that "the database cannot be reached now" is one `except` clause at the caller.
"""

from __future__ import annotations

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
    "tell",
    "was_refused",
]

_MAX_REASON = 500  # characters: the server quotes data in its errors


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
    """What the server or the driver says, in one line of bounded length, the error's code first."""
    said = (error.diag.message_primary, error.diag.message_detail)
    words = ": ".join(part for part in said if part) or str(error)
    line = " ".join(f"{error.sqlstate or ''} {words}".split())
    return line if len(line) <= _MAX_REASON else line[: _MAX_REASON - 1] + "…"
