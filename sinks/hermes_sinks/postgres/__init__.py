"""The sink that stores events in a Postgres table, each event id once. Needs the extra ``postgres``.

``copy_rows`` makes the rows, ``table`` and ``partitions`` make what they go into, ``sink`` brings them there,
``faults`` and ``salvage`` deal with what the server refuses. A batch waits for 10,000 events, but no longer than for
FLUSH_INTERVAL: the more ids are sorted into the index at once, the fewer of its pages does each batch touch.
"""

from hermes import SinkPlugin
from hermes.sink import DeliverySettings
from hermes_sinks.postgres.settings import PostgresSettings
from hermes_sinks.postgres.sink import PostgresSink, check_postgres, open_postgres

__all__ = ["PostgresSettings", "PostgresSink", "check_postgres", "open_postgres", "plugin"]

plugin = SinkPlugin(
    open_postgres,
    PostgresSettings,
    summary="a Postgres table, each event id once",
    check=check_postgres,
    delivery=DeliverySettings(batch_size=10_000),
)
