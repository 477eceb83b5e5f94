"""The table of ids beside a partitioned one: each id once, whatever its timestamp.

A unique key of a partitioned table has to hold the column that it is partitioned by, so it tells an id again only where
the timestamp is the same; and a retry may have another one, where the time is Hermes's own (CloudEvents without
``time``, Segment with ``sentAt``). Looking for an id in all partitions takes 20 times as long as the COPY, in those of
the days before and after as long as the COPY, and neither sees what another writer has not committed yet. A narrow
table with the id as its key takes a quarter as long, and half as much of the server's work.

Invariant: an event is stored together with its id, in one transaction; where the id is there with another timestamp,
the event is stored already. An id outlives its event: who drops a partition deletes its ids when they like. Rows that
were stored before there was this table are told by id and timestamp alone. Called by the postgres sink.
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
    """The table of the ids of the table named ``parts``."""

    def __init__(self, parts: Sequence[str]) -> None:
        *schema, name = parts
        self.name = sql.Identifier(*schema, f"{name}_ids")

    @cached_property
    def make_statement(self) -> sql.Composed:
        """The table as Hermes makes it."""
        return sql.SQL(
            'CREATE TABLE {name} (id text COLLATE "C" PRIMARY KEY, ts timestamptz NOT NULL);'
            " COMMENT ON TABLE {name} IS {comment}"
        ).format(name=self.name, comment=sql.Literal(f"Hermes ids, schema {SCHEMA_VERSION}"))

    @cached_property
    def copy_statement(self) -> sql.Composed:
        """COPY of ids with their timestamps."""
        return sql.SQL("COPY {} (id, ts) FROM STDIN WITH ({})").format(self.name, sql.SQL(COPY_OPTIONS))

    @cached_property
    def merge_statement(self) -> sql.Composed:
        """From staging into the table: of the same id the one that came first, and nothing for one that is there."""
        return sql.SQL(
            "INSERT INTO {} (id, ts) SELECT id, ts FROM pg_temp.hermes_staging ORDER BY id, ctid"
            " ON CONFLICT (id) DO NOTHING"
        ).format(self.name)

    @cached_property
    def drop_known_statement(self) -> sql.Composed:
        """Take from staging each event that is stored already, under another timestamp. After the merge."""
        return sql.SQL(
            "DELETE FROM pg_temp.hermes_staging AS staged USING {} AS known"
            ' WHERE known.id = staged.id COLLATE "C" AND known.ts <> staged.ts'
        ).format(self.name)

    async def prepare(self, connection: Connection) -> None:
        """Make the table, or see whether the one that exists will do.

        Raises `hermes.SinkUnavailable`, which says what to do, and psycopg's errors.
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
