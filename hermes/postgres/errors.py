"""What the Postgres driver raises beside psycopg's own errors.

Both are `psycopg.OperationalError`s, so that "the database cannot be reached now" is one `except` clause at the caller.
"""

from __future__ import annotations

from psycopg import OperationalError


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
