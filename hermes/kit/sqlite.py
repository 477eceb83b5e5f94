"""A database file of SQLite for sinks: opened strictly, written on a thread, synced at each commit."""

from hermes.store.sqlite import Connection, Database, Schema, connect, open_database, transaction

__all__ = ["Connection", "Database", "Schema", "connect", "open_database", "transaction"]
