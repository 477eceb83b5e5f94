"""The errors that the Postgres driver raises, and `tell`, which describes an error in one line.

Code outside of `hermes.store.postgres` imports psycopg's errors from here. The pool's errors are subclasses of
`psycopg.OperationalError`, so that one `except` clause catches every case of "the database cannot be reached now".

Invariant: no description repeats a value of a row.
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

# Characters. A server's message has no bound of its own.
_MAX_REASON = 500

# Each language of the server has its own quotes. From the first quote to the last, because a value may hold quotes too.
_QUOTED = re.compile(r"""["«»„“].*["«»“”]""", re.DOTALL)
_BYTES = re.compile(r"0x[0-9a-f]{2}(?: 0x[0-9a-f]{2})*")
# Not a number within a word: numeric(10) and int4 name a type.
_NUMBER = re.compile(r"(?<![\w\"])\d+(?![\w\"])")


class UnknownHost(OperationalError):
    """No host of the connection string has an address: the resolver knows none of the names."""


class PoolTimeout(OperationalError):
    """The pool had no connection in time. The caller backs off and tries again later.

    `last_error` is the reason of the pool's latest failure to connect; None if the server is well and all connections
    are in use.
    """

    def __init__(self, message: str, last_error: OperationalError | None) -> None:
        super().__init__(message)
        self.last_error = last_error


class PoolClosed(OperationalError):
    """The caller used a pool after leaving its context; a bug in the caller."""


def was_refused(error: Error) -> bool:
    """Whether the server refused a statement and lives on: its transaction is rolled back then.

    False if the connection or its backend has ended; nothing is known then about a statement that was under way.
    """
    # Not the severity itself, which is in the server's language.
    return error.diag.severity_nonlocalized == "ERROR"


def tell(error: Error) -> str:
    """Return the message of the server or the driver in one line of bounded length, the error's code first.

    The line repeats no value of a row: not the detail, which quotes the row; of a data exception nothing in quotes; of
    a data exception and of an exceeded limit no numbers. The constraint and the column are named if the message lacks
    them.

    >>> from hermes.store.postgres import OperationalError
    >>> tell(OperationalError("the connection is lost"))
    'the connection is lost'
    """
    code, diag = error.sqlstate or "", error.diag
    words = diag.message_primary or str(error)
    # Class 22, data exception: the message quotes the value that has the wrong form.
    if code.startswith("22"):
        words = _BYTES.sub("0x…", _QUOTED.sub('"…"', words))
    # Class 54, program limit exceeded: the numbers are sizes of the row's values.
    if code.startswith(("22", "54")):
        words = _NUMBER.sub("…", words)
    names = [("constraint", diag.constraint_name), ("column", diag.column_name)]
    named = ", ".join(f"{what} {name}" for what, name in names if name and name not in words)
    line = " ".join(f"{code} {words}{f' ({named})' if named else ''}".split())
    # The dead letter and the log line store this text, once for each row.
    return line if len(line) <= _MAX_REASON else line[: _MAX_REASON - 1] + "…"
