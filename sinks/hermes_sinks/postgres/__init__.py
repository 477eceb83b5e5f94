"""Stores events in a Postgres table, each event id once. Needs the extra ``postgres``.

``settings`` has the sink's settings, ``copy_rows`` encodes the rows, ``table``, ``partitions`` and ``ids`` make the
tables, ``order`` sorts a batch, ``sink`` stores the batches, ``faults`` judges the server's errors, ``salvage`` finds
the refused rows.
"""

from hermes import DeliverySettings, SinkPlugin
from hermes_sinks.postgres.settings import PostgresSettings
from hermes_sinks.postgres.sink import PostgresSink, check_postgres, open_postgres

__all__ = ["PostgresSettings", "PostgresSink", "check_postgres", "open_postgres", "plugin"]

# The more ids are sorted into the index at once, the fewer of its pages each batch touches. So a batch waits for 10,000
# events, and while all workers are busy it grows to ``max_batch``: a COPY of 30,000 random ids takes the server a tenth
# less work for each than three of 10,000.
plugin = SinkPlugin(
    open_postgres,
    PostgresSettings,
    summary="a Postgres table, each event id once",
    check=check_postgres,
    delivery=DeliverySettings(batch_size=10_000),
)
