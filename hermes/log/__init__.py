"""The durable log: an append-only sequence of records, the one seam under the event journal and what comes later.

| file | idea |
|---|---|
| ``contract`` | the four verbs (append, read, trim, snapshot) and what they promise |
| ``rows``     | a batch of records as one checked row, and what to do about a damaged one; pure |
| ``memory``   | the engine that forgets: for DURABILITY=memory and for tests |
| ``sqlite``   | the embedded default: one file, group commit |
| ``postgres`` | a table, fenced against a second writer |
"""

from hermes.log.contract import Log, LogStatistics, Record, Snapshot

__all__ = ["Log", "LogStatistics", "Record", "Snapshot"]
