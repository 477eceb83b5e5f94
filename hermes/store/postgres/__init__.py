r"""PostgreSQL on Trio: a connection and a pool, with psycopg's cursors, types and errors. Needs the extra `postgres`.

    async with open_pool("postgresql://...", max_size=4) as pool:
        async with pool.connection() as connection:
            await connection.execute("INSERT INTO t VALUES (%s)", [1])
            await connection.copy_in("COPY t FROM STDIN", b"2\n3\n")
            async with connection.transaction():
                ...

- `pool`: a pool of connections; `idle` and `backoff` decide for the pool, without I/O
- `connection`: a connection; `connecting` dials, `waiting` drives psycopg on Trio, `protocol` extends it over libpq
- `cursor`, `copying`, `transaction`, `notifications`: the parts of a connection
- `dsn`: judges a connection string
- `errors`, `sqlstate`: the errors, and who can act on an error

Every wait can be cancelled, and cleans up after itself within a bound that has a name; a connection in an unknown state
is closed. psycopg's asyncio code never runs: Trio drives psycopg's protocol generators (`waiting`).
"""

from hermes.store.postgres.connecting import CONNECT_TIMEOUT
from hermes.store.postgres.connection import CLEANUP_TIMEOUT, Connection, open_connection
from hermes.store.postgres.copying import Copy
from hermes.store.postgres.cursor import Cursor
from hermes.store.postgres.errors import (
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
from hermes.store.postgres.pool import Pool, PoolStatistics, open_pool
from hermes.store.postgres.sqlstate import Fault, fault_of
from hermes.store.postgres.transaction import Transaction

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
