"""The log in a Postgres database, which several instances may share: each commit one INSERT, fenced by its key.

| file | idea |
|---|---|
| ``opening`` | by name, or the next journal without an owner |
| ``log``     | the contract: read, trim, snapshot, and appends that share commits |
| ``writer``  | commits whose outcome is always found out, and fencing |
| ``pooler``  | refusing a pooler of transactions |
| ``session`` | a connection that comes back |
| ``tables``  | the two tables |

Needs the extra ``postgres``.
"""

from hermes.log.postgres.log import PostgresLog
from hermes.log.postgres.opening import open_claimed_postgres_log, open_postgres_log

__all__ = ["PostgresLog", "open_claimed_postgres_log", "open_postgres_log"]
