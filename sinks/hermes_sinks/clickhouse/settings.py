"""Declares the settings of the clickhouse sink, and reads the table's quoted name from two of them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from hermes import ConfigError
from hermes.config import Duration, Secret, Size, about
from hermes.kit.http import Coding

# Bytes: the server makes a folder with the name of the table.
_LONGEST_NAME = 200


class ClickHouseSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of the clickhouse sink. Durations are in seconds."""

    url: Annotated[
        Secret,
        about("the server's HTTP interface, such as `http://host:8123`; settings of ClickHouse may follow a `?`"),
    ]
    database: Annotated[str, about("the database; it has to exist")] = "default"
    table: Annotated[str, about("the table; made if it is missing")] = "events"
    user: Annotated[str, about("the user")] = "default"
    password: Annotated[Secret, about("the user's password")] = ""
    payload: Annotated[
        Literal["string", "json"], about("the payload's column: the client's own text, or ClickHouse's type JSON")
    ] = "string"
    partition: Annotated[
        Literal["none", "month"], about("`month`: a new table is partitioned by the month of the timestamp")
    ] = "none"
    compress: Annotated[Coding, about("how inserts are compressed on the way")] = "zstd"
    connect_timeout: Annotated[Duration, about("longest that connecting may take", gt=0)] = 5.0
    read_timeout: Annotated[
        Duration, about("longest wait for an answer; keep it below SINK_CLICKHOUSE_TIMEOUT", gt=0)
    ] = 25.0
    tls_verify: Annotated[bool, about("`false`: take any certificate for the server's")] = True
    ca_file: Annotated[str, about("path of further authorities (PEM) that certify the server")] = ""
    max_batch: Annotated[int, about("most events in one insert", ge=1, le=100_000)] = 20_000
    max_bytes: Annotated[
        Size, about("most bytes of one insert before compression; a larger single event goes alone", ge=1)
    ] = 32 * 2**20
    concurrency: Annotated[int, about("inserts at once", ge=1, le=64)] = 2


def quote(name: str) -> str:
    """Return a name as an identifier of ClickHouse's SQL.

    >>> quote("my`table")
    '`my\\\\`table`'
    """
    # Within backticks a backslash begins an escape, as in ClickHouse's strings.
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def table_name(settings: ClickHouseSettings) -> str:
    """Return the quoted name of the table with its database. Raises `ConfigError`.

    >>> table_name(ClickHouseSettings(url="http://localhost:8123", table="web-events"))
    '`default`.`web-events`'
    """
    for variable, name in (("DATABASE", settings.database), ("TABLE", settings.table)):
        if not name.isprintable() or len(name.encode(errors="replace")) > _LONGEST_NAME:
            raise ConfigError(
                f"SINK_CLICKHOUSE_{variable}={name!r}: expected a name of 1 to {_LONGEST_NAME} printable bytes"
            )
    return f"{quote(settings.database)}.{quote(settings.table)}"


def check_credentials(settings: ClickHouseSettings) -> None:
    """Raise `ConfigError` for a user or password that no header can carry."""
    for variable, text in (("USER", settings.user), ("PASSWORD", settings.password)):
        if not (text.isascii() and (text.isprintable() or not text)):
            raise ConfigError(f"SINK_CLICKHOUSE_{variable}=(hidden): expected printable ASCII characters")
