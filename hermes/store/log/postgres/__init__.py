"""Keeps a log in a Postgres database, which several instances may share: each commit is one INSERT, fenced by its key.

| file | idea |
|---|---|
| ``opening`` | opening a log by its name, or the next journal without an owner |
| ``log``     | the contract: read, trim, snapshot, and appends that share commits |
| ``writer``  | commits and fencing: the outcome of each commit becomes known |
| ``pooler``  | refusing a connection through a pooler of transactions |
| ``session`` | a connection that is made again after a loss |
| ``tables``  | making and checking the two tables |

Needs the extra ``postgres``.
"""

from hermes.store.log.postgres.log import PostgresLog
from hermes.store.log.postgres.opening import open_claimed_postgres_log, open_postgres_log

__all__ = ["PostgresLog", "open_claimed_postgres_log", "open_postgres_log"]
