"""PostgreSQL on Trio: a connection and a pool, with psycopg's cursors, types and errors. Needs the extra `postgres`.

    async with open_pool("postgresql://...", max_size=4) as pool:
        async with pool.connection() as connection:
            await connection.execute("INSERT INTO t VALUES (%s)", [1])
            await connection.copy_in("COPY t FROM STDIN", b"2\\n3\\n")
            async with connection.transaction():
                ...

Every wait can be cancelled, and cleans up after itself within a bound that has a name; a connection whose state cannot
be known is closed. psycopg's asyncio is never run: its protocol generators are driven by Trio (`waiting`).
"""

from hermes.postgres.connecting import CONNECT_TIMEOUT
from hermes.postgres.connection import CLEANUP_TIMEOUT, Connection, open_connection
from hermes.postgres.copying import Copy
from hermes.postgres.cursor import Cursor
from hermes.postgres.errors import (
    DiskFull,
    Error,
    OperationalError,
    PoolClosed,
    PoolTimeout,
    ProgrammingError,
    UniqueViolation,
    UnknownHost,
    tell,
    was_refused,
)
from hermes.postgres.pool import Pool, PoolStatistics, open_pool
from hermes.postgres.sqlstate import Fault, fault_of
from hermes.postgres.transaction import Transaction

__all__ = [
    "CLEANUP_TIMEOUT",
    "CONNECT_TIMEOUT",
    "Connection",
    "Copy",
    "Cursor",
    "DiskFull",
    "Error",
    "Fault",
    "OperationalError",
    "Pool",
    "PoolClosed",
    "PoolStatistics",
    "PoolTimeout",
    "ProgrammingError",
    "Transaction",
    "UniqueViolation",
    "UnknownHost",
    "fault_of",
    "open_connection",
    "open_pool",
    "tell",
    "was_refused",
]
