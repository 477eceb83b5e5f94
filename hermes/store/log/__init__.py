"""Keeps records durably in an append-only log: the one interface under the event journal and later users.

| file | idea |
|---|---|
| ``contract`` | the four verbs (append, read, trim, snapshot) and what they promise |
| ``rows``     | a batch of records as one checked row, and what to do about a damaged one; pure |
| ``group``    | appends that share commits, for every engine that syncs |
| ``memory``   | the engine without a disk: for tests and DURABILITY=memory |
| ``sqlite``   | the embedded default: one file in a folder of its own |
| ``postgres`` | a table, fenced against a second writer |
"""

from hermes.store.log.contract import Log, LogStatistics, Loss, Record, Snapshot

__all__ = ["Log", "LogStatistics", "Loss", "Record", "Snapshot"]
