"""Where Hermes keeps data: the durable log, and the drivers of SQLite and Postgres on Trio.

- ``log/``: the durable log, an engine for each storage
- ``postgres/``: connections and a pool on Trio, over psycopg's C library
- ``sqlite``: one SQLite database, used on a thread
- ``settings``: the settings of the storage
- ``in_place``: whether an open file still has its name
"""
