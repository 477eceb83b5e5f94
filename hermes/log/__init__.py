"""The durable log: an append-only sequence of records, the one seam under the event journal and what comes later.

| file | idea |
|---|---|
| ``contract`` | the four verbs (append, read, trim, snapshot) and what they promise |
| ``rows``     | a batch of records as one checked row, and what to do about a damaged one; pure |
| ``group``    | appends that share commits, for every engine that syncs |
| ``memory``   | the engine that forgets: for tests, and for whoever needs no more |
| ``sqlite``   | the embedded default: one file in a folder of its own |
| ``opening``  | what is found when it is opened: a torn end, and what it no longer has |
| ``tables``   | the tables of that file, and each transaction on them |
| ``folder``   | who has the folder: a lock, permissions, the room that is left |
| ``overview`` | what a folder holds: ``hermes log inspect`` |
| ``survey``   | what is wrong with it, and what a repair would lose: ``hermes log check`` |
| ``salvage``  | rows out of a file that SQLite cannot read |
| ``repair``   | the file written anew: ``hermes log repair`` |
| ``postgres`` | a table, fenced against a second writer |
"""

from hermes.log.contract import Log, LogStatistics, Loss, Record, Snapshot

__all__ = ["Log", "LogStatistics", "Loss", "Record", "Snapshot"]
