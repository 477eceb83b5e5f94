"""A database file of SQLite for sinks: opened strictly, written on a thread, synced at each commit."""

# The code that opens Hermes's own files: a sink's copy of that code lacked the switch to WAL that two processes may
# make at once.
from hermes.store.sqlite import Connection, Database, Schema, connect, open_database, transaction

__all__ = ["Connection", "Database", "Schema", "connect", "open_database", "transaction"]
