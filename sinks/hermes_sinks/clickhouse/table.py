"""Builds the statement that makes the table, and checks the server's version and an existing table. Pure.

Invariant: `read_answer` accepts no server or table that `LEAST` or `HOLDS` forbids.
"""

from __future__ import annotations

import re

from hermes_sinks.clickhouse.settings import ClickHouseSettings, table_name

LEAST = (24, 8)
"""The oldest release that is tested, with long-term support. Older releases lack settings that an insert needs."""

_LEAST_WITH_JSON = (25, 3)
"""The first release whose type JSON needs no setting for experiments."""

_WIDE = (26, 9)
"""The first release that stores a DateTime64 after the year 2299; 26.3 still clamps such a time."""

# All in Unix seconds, the first that does not fit.
_END_OF_2299 = 10_413_792_000
_END_OF_9999 = 253_402_300_800
# 2262-04-11: 64 bits of nanoseconds end there.
_END_OF_NANOSECONDS = 9_223_372_036
_END_OF_32_BITS = 2**32  # 2106-02-07

HOLDS: tuple[tuple[re.Pattern[str], int, int], ...] = (
    (re.compile(r"\bDateTime64\(9\b"), _END_OF_NANOSECONDS, _END_OF_NANOSECONDS),
    (re.compile(r"\bDateTime64\("), _END_OF_2299, _END_OF_9999),
    (re.compile(r"\bDateTime\b"), _END_OF_32_BITS, _END_OF_32_BITS),
    (re.compile(r"\bString\b"), _END_OF_9999, _END_OF_9999),
)
"""The first timestamp, in Unix seconds, that a column of a type cannot hold: before `_WIDE`, and from it on.

The first pattern that is found in the type decides. Source: what the releases 24.8, 25.5, 25.8, 26.1, 26.3 and 26.9
stored in a trial.
"""

_ANSWER = re.compile(r"(\d+)\.(\d+)[^\t\n]*\t([^\t\n]*)\n?")


class Unfit(Exception):
    """The server or its table cannot take events; the message says what the operator can do."""


def question(settings: ClickHouseSettings) -> str:
    """Return the statement that asks for the server's version and for the type of the table's column ``ts``."""
    database, table = (name.replace("\\", "\\\\").replace("'", "\\'") for name in (settings.database, settings.table))
    return (
        # any() gives a row also for a table that is missing.
        "SELECT version(), (SELECT any(type) FROM system.columns "  # noqa: S608 - both names are quoted
        f"WHERE database = '{database}' AND table = '{table}' AND name = 'ts') FORMAT TabSeparated"
    )


def read_answer(answer: str, *, as_json: bool) -> range:
    """Return the timestamps that the column ``ts`` can hold, from the answer to `question`. Raises `Unfit`.

    ``as_json``: payloads are for a column of the type JSON.

    >>> read_answer("24.8.1.1\\tDateTime", as_json=False)
    range(0, 4294967296)
    """
    # An answer without a version, such as a proxy's, refuses nothing: the insert will find the fault.
    found = _ANSWER.fullmatch(answer)
    if found is None:
        # As much as a table of Hermes's own holds on any release.
        return range(_END_OF_2299)
    version = (int(found[1]), int(found[2]))
    if version < LEAST:
        raise Unfit(
            f"ClickHouse {version[0]}.{version[1]} is older than {LEAST[0]}.{LEAST[1]}, the least that is taken"
        )
    if as_json and version < _LEAST_WITH_JSON:
        raise Unfit("the type JSON needs ClickHouse 25.3: set SINK_CLICKHOUSE_PAYLOAD=string, or upgrade the server")
    # An empty type: the table does not exist yet, or the user may not see its columns.
    column = found[3] if found[3] not in {"", "\\N"} else "DateTime64(0)"
    for kind, narrow, wide in HOLDS:
        if kind.search(column):
            return range(wide if version >= _WIDE else narrow)
    raise Unfit(f"the column ts is {column[:100]}: it has to be DateTime64, DateTime or String")


def create_statement(settings: ClickHouseSettings) -> str:
    """Return the statement that makes the table."""
    # The key is the id alone, so that an id is one row even if a client changes other columns. The window: a batch that
    # is repeated within a thousand blocks is not inserted. Partitions are merged separately: an id is once a month.
    partitions = "PARTITION BY toYYYYMM(ts) " if settings.partition == "month" else ""
    return (
        f"CREATE TABLE IF NOT EXISTS {table_name(settings)} ("
        "id String, user_id String, type LowCardinality(String), ts DateTime64(0, 'UTC'), "
        f"payload {_PAYLOAD_TYPES[settings.payload]} CODEC(ZSTD(1)), received_at DateTime64(3, 'UTC'), "
        "INDEX ts_range ts TYPE minmax GRANULARITY 1"
        f") ENGINE = ReplacingMergeTree(received_at) {partitions}ORDER BY id "
        "SETTINGS non_replicated_deduplication_window = 1000 COMMENT 'Hermes events, schema 1'"
    )


_PAYLOAD_TYPES = {"string": "String", "json": "JSON"}
