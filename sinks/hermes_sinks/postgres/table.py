"""Makes the postgres sink's table, checks a table that exists, and builds the statements for the table.

Invariants: an existing table is never changed; no row is written into a table that cannot hold the events or, with
deduplication, has no key to find a repeated event. A merge leaves out only rows whose key is in the table; a row that
any other constraint refuses is an error of the statement.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from psycopg import sql

from hermes import SinkUnavailable
from hermes.kit.postgres import Connection
from hermes_sinks.postgres.copy_rows import COLUMNS, COPY_OPTIONS

SCHEMA_VERSION = 1

# Guards making the table and its partitions: of two concurrent CREATE TABLE IF NOT EXISTS one may fail.
_ADVISORY_LOCK = 0x6865726D6573  # "hermes"

# The first type of each is what Hermes makes; a table of the operator's may have any of them.
_TYPES = {
    "id": ("text", "character varying"),
    "user_id": ("text", "character varying"),
    "type": ("text", "character varying"),
    "ts": ("timestamp with time zone",),
    "received_at": ("timestamp with time zone",),
    "payload": ("jsonb", "json", "text"),
}
# to_regclass is NULL for a missing table, where a cast to regclass would raise.
_FIND = """
SELECT c.oid, c.relkind::text, coalesce(obj_description(c.oid, 'pg_class'), '')
FROM pg_class c WHERE c.oid = to_regclass(%s)
"""
# Neither the system's own columns nor the dropped ones, which stay in the catalog.
_FIND_COLUMNS = """
SELECT attname, format_type(atttypid, NULL) FROM pg_attribute
WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped
"""
# Finds the columns of each unique index that ON CONFLICT can use: no deferred key, no partial or expression index.
# Columns that an index only carries along (INCLUDE) are no part of its key, so they are cut off by indnkeyatts.
_FIND_KEYS = """
SELECT array_agg(a.attname::text ORDER BY a.attname)
FROM pg_index i JOIN pg_attribute a
    ON a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
WHERE i.indrelid = %s AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
GROUP BY i.indexrelid
"""
_VERSION = re.compile(r"Hermes events, schema (\d+)")
_PARTITIONED = "p"


@dataclass(frozen=True)
class Found:
    """A table that exists in the database."""

    oid: int
    partitioned: bool
    comment: str


@dataclass(frozen=True)
class Table:
    """The table named ``parts``: with a key (``dedup``) or append-only, partitioned by day or whole.

    >>> Table(("events",), dedup=True, by_day=False).copy_statement.as_string().partition(" (")[0]
    'COPY "events"'
    """

    parts: tuple[str, ...]
    dedup: bool
    by_day: bool

    @cached_property
    def name(self) -> sql.Identifier:
        """The quoted name."""
        return sql.Identifier(*self.parts)

    @cached_property
    def copy_statement(self) -> sql.Composed:
        """Return the COPY into the table itself."""
        return self._copy_into(self.name)

    @cached_property
    def copy_staging_statement(self) -> sql.Composed:
        """Return the COPY into the staging table of the transaction."""
        return self._copy_into(sql.Identifier("pg_temp", "hermes_staging"))

    @cached_property
    def make_staging_statement(self) -> sql.Composed:
        """Return the statement that makes a staging table, which the end of the transaction drops."""
        return sql.SQL("CREATE TEMPORARY TABLE hermes_staging ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA").format(
            _columns(), self.name
        )

    clear_staging_statement = sql.SQL("TRUNCATE pg_temp.hermes_staging")

    def merge_statement(self, key: Sequence[str]) -> sql.Composed:
        """Return the INSERT from staging of the first row of each key, without the keys that the table has."""
        # Every writer merges in the order of the key, so that two writers with the same ids cannot deadlock.
        return sql.SQL(
            # The key is named: without it ON CONFLICT would also pass over a row that another unique index refuses, and
            # the event would count as stored.
            "INSERT INTO {} ({}) SELECT {} FROM pg_temp.hermes_staging ORDER BY id, ctid ON CONFLICT ({}) DO NOTHING"
        ).format(self.name, _columns(), _columns(), sql.SQL(", ").join(map(sql.Identifier, key)))

    async def prepare(self, connection: Connection) -> Sequence[str]:
        """Make the table, or check the table that exists. Return the columns of its key.

        Raises `hermes.SinkUnavailable`, which says how to mend the table, and psycopg's errors.
        """
        async with connection.transaction():
            await lock_schema(connection)
            # Looked for first: a user who may only insert is enough for a table that exists.
            found = await find_table(connection, self.name)
            if found is None:
                await connection.execute(self.make_statement())
                return self._own_key
            # Checked and never changed: the table may be the operator's own.
            self._check_version(found.comment)
            await self._check_columns(connection, found.oid)
            if self.by_day and not found.partitioned:
                raise self._unfit("is not partitioned: set SINK_POSTGRES_PARTITION=none, or name a new table")
            return await self._find_key(connection, found) if self.dedup else ()

    def _copy_into(self, table: sql.Identifier) -> sql.Composed:
        return sql.SQL("COPY {} ({}) FROM STDIN WITH ({})").format(table, _columns(), sql.SQL(COPY_OPTIONS))

    def make_statement(self) -> sql.Composed:
        """Return the statement that makes the table, with its version in its comment."""
        # COLLATE "C" orders ids by their bytes: comparing them by a language's rules costs a sixth of a COPY and more.
        return sql.SQL(
            'CREATE TABLE {name} (id text COLLATE "C" NOT NULL, user_id text NOT NULL, type text NOT NULL,'
            " ts timestamptz NOT NULL, payload jsonb NOT NULL, received_at timestamptz NOT NULL{key}){partitions};"
            "COMMENT ON TABLE {name} IS {comment}"
        ).format(
            name=self.name,
            key=sql.SQL(f", PRIMARY KEY ({', '.join(self._own_key)})" if self.dedup else ""),
            partitions=sql.SQL(" PARTITION BY RANGE (ts)" if self.by_day else ""),
            comment=sql.Literal(f"Hermes events, schema {SCHEMA_VERSION}"),
        )

    @property
    def _own_key(self) -> Sequence[str]:
        # The key of a partitioned table has to hold the column that it is partitioned by.
        return () if not self.dedup else ("id", "ts") if self.by_day else ("id",)

    def _check_version(self, comment: str) -> None:
        # None: the operator's own table, which the other checks judge.
        version = _VERSION.search(comment)
        if version is not None and int(version[1]) > SCHEMA_VERSION:
            raise self._unfit(f"was made by a newer Hermes (schema {version[1]}): upgrade, or name a new table")

    async def _check_columns(self, connection: Connection, oid: int) -> None:
        columns = await find_columns(connection, oid)
        for column, types in _TYPES.items():
            if columns.get(column, "") not in types:
                there = f"column {column} is {columns[column]}" if column in columns else f"has no column {column}"
                raise self._unfit(f"{there}; Hermes needs it to be {types[0]}")

    async def _find_key(self, connection: Connection, found: Found) -> Sequence[str]:
        keys = await find_keys(connection, found.oid)
        if {"id"} in keys:
            return ("id",)
        # Only there: the ids of a partitioned table have a table of their own, which knows an id under any timestamp.
        if found.partitioned and {"id", "ts"} in keys:
            return ("id", "ts")
        raise self._unfit(
            "has no unique key on id, so events could be stored twice: add one, or set SINK_POSTGRES_DEDUP=false"
        )

    def _unfit(self, why: str) -> SinkUnavailable:
        return SinkUnavailable(f"table {self.name.as_string()} {why}")


async def find_table(connection: Connection, name: sql.Identifier) -> Found | None:
    """Return the table of this name, or None."""
    found = await (await connection.execute(_FIND, [name.as_string()])).fetchone()
    if found is None:
        return None
    oid, kind, comment = found
    return Found(oid, kind == _PARTITIONED, comment)


async def find_columns(connection: Connection, oid: int) -> dict[str, str]:
    """Return the columns of a table with their types."""
    return dict(await (await connection.execute(_FIND_COLUMNS, [oid])).fetchall())


async def find_keys(connection: Connection, oid: int) -> list[set[str]]:
    """Return the columns of each unique key of a table that ON CONFLICT can use."""
    return [set(columns) for (columns,) in await (await connection.execute(_FIND_KEYS, [oid])).fetchall()]


async def lock_schema(connection: Connection) -> None:
    """Keep every other Hermes from making tables in this database until the end of the transaction."""
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", [_ADVISORY_LOCK])


def _columns() -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
