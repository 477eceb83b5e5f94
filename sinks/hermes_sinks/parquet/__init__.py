"""The sink that makes Parquet files of events, in a folder or in an S3 bucket. Needs the extra ``parquet``.

``layout`` says which events share a file, and where it goes, ``columns`` makes it, ``stores`` put it there, ``sink`` is
what the engine calls. A file is made of each batch, so this sink waits for larger ones than others do.
"""

from hermes import SinkPlugin
from hermes.sink import DeliverySettings
from hermes_sinks.parquet.settings import ParquetSettings
from hermes_sinks.parquet.sink import ParquetSink, check_parquet, open_parquet

__all__ = ["ParquetSettings", "ParquetSink", "check_parquet", "open_parquet", "plugin"]

plugin = SinkPlugin(
    open_parquet,
    ParquetSettings,
    summary="Parquet files in a folder or an S3 bucket, by date and type",
    check=check_parquet,
    delivery=DeliverySettings(flush_interval=60.0, batch_size=100_000, timeout=120.0),
)
