"""The log in one SQLite file, for DURABILITY=disk, and the tools that look into this file and mend it.

| file | idea |
|---|---|
| ``log``      | the log itself, and why a failed sync loses nothing |
| ``opening``  | opening the file: cutting off a torn end, reporting a loss |
| ``tables``   | the tables of the file, and each transaction on them |
| ``folder``   | the folder of the file: its lock, its watermark, the room that is left |
| ``overview`` | the extent and the records of a log: ``hermes log inspect`` |
| ``survey``   | the faults of a log, and the records that a repair would lose: ``hermes log check`` |
| ``salvage``  | rows out of a file that SQLite cannot read |
| ``repair``   | the file written anew: ``hermes log repair`` |
"""
