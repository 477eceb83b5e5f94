"""Declares the settings of the parquet sink, and reads the bucket from one of them."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple
from urllib.parse import urlsplit

import msgspec

from hermes import ConfigError
from hermes.config import Secret, about


class ParquetSettings(msgspec.Struct, frozen=True):
    """The settings of the parquet sink."""

    url: Annotated[
        str,
        about("where to: `s3://bucket/prefix`, or a folder, made if it is missing; relative, it is in HERMES_DATA_DIR"),
    ] = "parquet"
    endpoint: Annotated[
        str, about("address of an S3-compatible server, such as http://minio:9000; empty: Amazon's own")
    ] = ""
    region: Annotated[str, about("region of the bucket; empty: as AWS_REGION or the AWS configuration says")] = ""
    access_key: Annotated[
        Secret, about("access key of the bucket; unset: AWS's own chain (environment, configuration, role)")
    ] = ""
    secret_key: Annotated[Secret, about("secret key of the bucket")] = ""
    compression: Annotated[
        Literal["zstd", "snappy", "gzip", "none"], about("compression of the columns within a file")
    ] = "zstd"
    partition_days: Annotated[
        int, about("days back from today that get a folder of their own; other days share one without a date", ge=0)
    ] = 30
    max_files: Annotated[
        int, about("most files made of one batch; the rarest dates and types beyond share one folder", ge=1)
    ] = 1000
    max_batch: Annotated[int, about("most events in one batch", ge=1, le=10_000_000)] = 100_000
    concurrency: Annotated[int, about("batches written at once", ge=1, le=64)] = 2


class Bucket(NamedTuple):
    """A place in an S3 bucket: ``prefix`` is empty, or ends with a slash."""

    name: str
    prefix: str


def bucket_of(url: str) -> Bucket | None:
    """Return the bucket that SINK_PARQUET_URL names, or None if the URL is a folder. Raises `ConfigError`.

    >>> bucket_of("s3://events/raw"), bucket_of("parquet")
    (Bucket(name='events', prefix='raw/'), None)
    """
    if "://" not in url:
        return None
    parts = urlsplit(url)
    prefix = parts.path.strip("/")
    # The name of a bucket has no user, no port and no capital letter, which ``hostname`` leaves out or changes.
    if parts.scheme != "s3" or not parts.netloc or parts.netloc != parts.hostname or parts.query or parts.fragment:
        raise ConfigError(f"SINK_PARQUET_URL={url!r}: expected s3://bucket, s3://bucket/prefix or the path of a folder")
    return Bucket(parts.netloc, f"{prefix}/" if prefix else "")


def check_settings(settings: ParquetSettings) -> None:
    """Raise `ConfigError` for settings that are invalid, alone or together."""
    bucket = bucket_of(settings.url)
    if bool(settings.access_key) != bool(settings.secret_key):
        raise ConfigError("SINK_PARQUET_ACCESS_KEY and SINK_PARQUET_SECRET_KEY: set both, or neither")
    for_buckets = {"ENDPOINT": settings.endpoint, "REGION": settings.region, "ACCESS_KEY": settings.access_key}
    for name, value in for_buckets.items():
        if value and bucket is None:
            raise ConfigError(f"SINK_PARQUET_{name} is set, but SINK_PARQUET_URL={settings.url!r} is no s3:// URL")
    if settings.endpoint and not _is_endpoint(settings.endpoint):
        raise ConfigError("SINK_PARQUET_ENDPOINT: expected an address such as http://minio:9000 or https://s3.example")


def _is_endpoint(text: str) -> bool:
    try:
        parts = urlsplit(text)
        # Raises ValueError for an invalid port.
        _ = parts.port
    except ValueError:
        return False
    plain = parts.scheme in ("http", "https") and parts.hostname and not parts.username
    return bool(plain) and not parts.path.strip("/") and not parts.query
