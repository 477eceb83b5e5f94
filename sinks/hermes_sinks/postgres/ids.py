"""Makes and fills the table of ids beside a partitioned table, so that each id is stored once, with any timestamp.

A unique key of a partitioned table must hold the partition column, so the key finds a repeated id only if the timestamp
is the same. A retry may have another timestamp, if the time is Hermes's own (CloudEvents without ``time``, Segment with
``sentAt``). A search for the id in all partitions takes 20 times as long as the COPY, in the partitions of the days
before and after as long as the COPY, and neither sees the uncommitted rows of another writer. A narrow table with the
id as its key takes a quarter as long, and half as much of the server's work.

Invariant: an event is stored together with its id, in one transaction; if the table has the id with another timestamp,
the event is stored already. An id outlives its event: an operator who drops a partition may delete its ids later. Rows
that are older than this table are found only by id and timestamp together.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import psycopg
from psycopg import sql

from hermes import SinkUnavailable
from hermes.kit.postgres import Connection
from hermes_sinks.postgres.copy_rows import COPY_OPTIONS
from hermes_sinks.postgres.table import find_columns, find_keys, find_table, lock_schema

SCHEMA_VERSION = 1

_TYPES = {"id": "text", "ts": "timestamp with time zone"}


class Ids:
    """The table of the ids of the table named ``parts``.

    >>> Ids(("audit", "events")).name.as_string()
    '"audit"."events_ids"'
    """

    def __init__(self, parts: Sequence[str]) -> None:
        *schema, name = parts
        self.name = sql.Identifier(*schema, f"{name}_ids")

    @cached_property
    def make_statement(self) -> sql.Composed:
        """Return the statement that makes the table."""
        return sql.SQL(
            # COLLATE "C" orders ids by their bytes, which is cheaper than by a language's rules.
            'CREATE TABLE {name} (id text COLLATE "C" PRIMARY KEY, ts timestamptz NOT NULL);'
            " COMMENT ON TABLE {name} IS {comment}"
        ).format(name=self.name, comment=sql.Literal(f"Hermes ids, schema {SCHEMA_VERSION}"))

    @cached_property
    def copy_statement(self) -> sql.Composed:
        """Return the COPY of ids with their timestamps."""
        return sql.SQL("COPY {} (id, ts) FROM STDIN WITH ({})").format(self.name, sql.SQL(COPY_OPTIONS))

    @cached_property
    def merge_statement(self) -> sql.Composed:
        """Return the INSERT from staging of the first row of each id, without the ids that the table has."""
        return sql.SQL(
            # In the order of the key, so that two writers with the same ids cannot deadlock; ctid: the first row of an
            # id counts.
            "INSERT INTO {} (id, ts) SELECT id, ts FROM pg_temp.hermes_staging ORDER BY id, ctid"
            " ON CONFLICT (id) DO NOTHING"
        ).format(self.name)

    @cached_property
    def drop_known_statement(self) -> sql.Composed:
        """Return the DELETE, after the merge, of staged events that are stored already under another timestamp."""
        return sql.SQL(
            # COLLATE: the operator's table may have another collation, and Postgres would not choose between the two.
            "DELETE FROM pg_temp.hermes_staging AS staged USING {} AS known"
            ' WHERE known.id = staged.id COLLATE "C" AND known.ts <> staged.ts'
        ).format(self.name)

    async def prepare(self, connection: Connection) -> None:
        """Make the table, or check the table that exists.

        Raises `hermes.SinkUnavailable`, which says how to mend the table, and psycopg's errors.
        """
        async with connection.transaction():
            await lock_schema(connection)
            found = await find_table(connection, self.name)
            if found is None:
                await self._make(connection)
                return
            columns = await find_columns(connection, found.oid)
            if any(columns.get(name) != kind for name, kind in _TYPES.items()) or {"id"} not in await find_keys(
                connection, found.oid
            ):
                raise self._unfit("is there, and is no table of ids: rename it")

    async def _make(self, connection: Connection) -> None:
        try:
            await connection.execute(self.make_statement)
        except psycopg.errors.InsufficientPrivilege as error:
            statement = self.make_statement.as_string().partition(";")[0]
            raise self._unfit(
                f"is missing, without which an id could be stored once in each partition, and this user may not make "
                f"it: {statement}, and grant SELECT and INSERT on it; or set SINK_POSTGRES_DEDUP=false"
            ) from error

    def _unfit(self, why: str) -> SinkUnavailable:
        return SinkUnavailable(f"table {self.name.as_string()} {why}")
