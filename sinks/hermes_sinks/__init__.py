"""The sinks that come with Hermes, each found by its entry point like anybody's.

- ``postgres``, ``sqlite``, ``clickhouse``: into tables
- ``kafka``, ``http``: to other systems
- ``file``, ``parquet``, ``stdout``: into files, object stores and pipes
- ``null``: nowhere, for measurements
- ``common``: code that several of them share
"""
