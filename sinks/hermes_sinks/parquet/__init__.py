"""Makes Parquet files of events, in a folder or in an S3 bucket. Needs the extra ``parquet``.

``settings`` has the sink's settings, ``layout`` decides which events share a file and its path, ``columns`` encodes the
file, ``stores`` store the file, ``sink`` is the class that the engine calls.
"""

from hermes import DeliverySettings, SinkPlugin
from hermes_sinks.parquet.settings import ParquetSettings
from hermes_sinks.parquet.sink import ParquetSink, check_parquet, open_parquet

__all__ = ["ParquetSettings", "ParquetSink", "check_parquet", "open_parquet", "plugin"]

# Each batch makes a file for each date and type, so this sink waits for larger batches than the other sinks do.
plugin = SinkPlugin(
    open_parquet,
    ParquetSettings,
    summary="Parquet files in a folder or an S3 bucket, by date and type",
    check=check_parquet,
    delivery=DeliverySettings(flush_interval=60.0, batch_size=100_000, timeout=120.0),
)
