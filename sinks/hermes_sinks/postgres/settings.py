"""Declares the settings of the postgres sink, and reads the table's name from one of them."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec

from hermes import ConfigError
from hermes.config import Secret, about

_PART = r'(?:"((?:[^"\0]|"")+)"|([^".\0]+))'
_TABLE = re.compile(rf"(?:{_PART}\.)?{_PART}")
_MAX_IDENTIFIER = 63  # bytes; the server cuts longer ones off, and two names may become one
_LONGEST_SUFFIX = "_20231114"  # of a partition


class PostgresSettings(msgspec.Struct, frozen=True):
    """The settings of the postgres sink."""

    dsn: Annotated[Secret, about("Postgres DSN or URL of the database of this sink", default="DB_DSN")] = ""
    table: Annotated[str, about("the table, as `name` or `schema.name`, letter case kept; made if it is missing")] = (
        "events"
    )
    dedup: Annotated[bool, about("store each event id once; `false`: an append-only table without a key")] = True
    partition: Annotated[Literal["none", "day"], about("`day`: one partition a day (UTC) of the timestamp")] = "none"
    partition_days: Annotated[
        int, about("days back from today that get a partition; events of other days go to the default one", ge=1)
    ] = 30
    concurrency: Annotated[int, about("batches written at once; MAX_OPEN_CONNS may allow fewer", ge=1, le=64)] = 4
    max_batch: Annotated[int, about("most events in one COPY", ge=1, le=1_000_000)] = 30_000
    synchronous_commit: Annotated[
        Literal["on", "off", "local", "remote_write", "remote_apply", "server"],
        about(
            "what a commit waits for, as PostgreSQL names it; with `off` a crash of the server loses what was "
            "delivered just before; `server`: as the server, the database or the role has it"
        ),
    ] = "on"


def table_parts(text: str) -> tuple[str, ...]:
    """Return the table's name, or its schema's and its own, from SINK_POSTGRES_TABLE. Raises `ConfigError`.

    >>> table_parts("events"), table_parts('audit."web.events"')
    (('events',), ('audit', 'web.events'))
    """
    match = _TABLE.fullmatch(text)
    parts = [] if match is None else [part.replace('""', '"') for part in match.groups() if part]
    longest = _MAX_IDENTIFIER - len(_LONGEST_SUFFIX)
    if not parts or any(len(part.encode()) > longest for part in parts):
        raise ConfigError(
            f"SINK_POSTGRES_TABLE={text!r}: expected name or schema.name, each of 1 to {longest} bytes; "
            'a part that contains a dot is written in double quotes: "a.b"'
        )
    return tuple(parts)
