"""PostgreSQL on Trio for sinks: a connection, a pool, and whose fault an error is. Needs the extra `postgres`."""

# A module of its own, because psycopg is an extra: `hermes.kit` has to be importable without it.
from hermes.store.postgres import Connection, Fault, Pool, fault_of, open_connection, open_pool, tell, was_refused
from hermes.store.postgres.dsn import check_dsn

__all__ = [
    "Connection",
    "Fault",
    "Pool",
    "check_dsn",
    "fault_of",
    "open_connection",
    "open_pool",
    "tell",
    "was_refused",
]
