"""The log in one SQLite database, for DURABILITY=disk, and the tools that look into its files and mend them.

- ``log``: the log itself, and the rules by which a failed sync loses nothing
- ``opening``, ``folder``: how it is opened; its folder and the lock of its owner
- ``tables``: its tables and statements
- ``overview``, ``survey``, ``salvage``, ``repair``: for ``hermes log``: a look at it, a check of every record, rows out
  of a damaged file, and a mended copy
"""
