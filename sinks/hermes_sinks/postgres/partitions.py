"""Makes the daily partitions of the postgres sink's table when events of a new day arrive.

Clients choose their timestamps, so the number of days is bounded: the days from ``partition_days`` ago to tomorrow get
partitions of their own, and events of other days go to ``<table>_default``. Invariants: if the default partition has
rows of a day already, the day's other rows go there too; if the operator has detached or dropped the default partition,
another is made, under a free name; no event is refused because of its day.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import psycopg
from psycopg import sql

from hermes import Event
from hermes.kit.postgres import Connection
from hermes_sinks.postgres.table import lock_schema

DAY = 86_400

_TAKEN = (
    # Rows of the day are in the default partition, from when the day was outside the bound.
    psycopg.errors.CheckViolation,
    # The operator's own partitions cover the day.
    psycopg.errors.InvalidObjectDefinition,
)
# One digit, so that their names are no longer than the names of the days.
_MOST_DEFAULTS = 9
_HAS_DEFAULT = "SELECT partdefid <> 0 FROM pg_partitioned_table WHERE partrelid = to_regclass(%s)"
_IS_TAKEN = "SELECT to_regclass(%s) IS NOT NULL"


class DayPartitions:
    """The known partitions of the table named ``parts``. Days count from the Unix epoch.

    ::

        partitions = DayPartitions(("events",), days_back=30)
        await partitions.prepare(connection, batch)  # before the COPY
    """

    def __init__(self, parts: tuple[str, ...], days_back: int) -> None:
        self._parts = parts
        self._days_back = days_back
        self._known: set[int] = set()
        self._has_default = False

    def forget(self) -> None:
        """Forget the known partitions, because the table was lost."""
        self._known.clear()
        self._has_default = False

    async def prepare(self, connection: Connection, events: Iterable[Event]) -> None:
        """Make the missing partitions for these events. Raises psycopg's errors."""
        today = int(time.time()) // DAY
        wanted = {event.timestamp // DAY for event in events}
        # Clients choose their timestamps, so only days near today get a partition: their number is bounded.
        missing = sorted(day for day in wanted - self._known if today - self._days_back <= day <= today + 1)
        if missing or not self._has_default:
            await self._make(connection, missing)
            self._has_default = True
            self._known = {day for day in self._known.union(missing) if day >= today - self._days_back}

    async def _make(self, connection: Connection, days: Iterable[int]) -> None:
        async with connection.transaction():
            await lock_schema(connection)
            await self._make_default(connection)
            for day in days:
                # A savepoint for each day: a day that is taken must not undo the others.
                try:
                    async with connection.transaction():
                        await connection.execute(self._day_statement(day))
                # The day's events go to the partition that has its other ones.
                except _TAKEN:
                    continue

    async def _make_default(self, connection: Connection) -> None:
        if await _answer(connection, _HAS_DEFAULT, sql.Identifier(*self._parts)):
            return
        # A table that was detached keeps its name.
        for number in range(1, _MOST_DEFAULTS + 1):
            suffix = f"default{number if number > 1 else ''}"
            if not await _answer(connection, _IS_TAKEN, self._name(suffix)):
                await connection.execute(self._statement(suffix, sql.SQL("DEFAULT")))
                return

    def _day_statement(self, day: int) -> sql.Composed:
        begin, end = (time.strftime("%Y-%m-%d 00:00:00+00", time.gmtime(each * DAY)) for each in (day, day + 1))
        bounds = sql.SQL("FOR VALUES FROM ({}) TO ({})").format(sql.Literal(begin), sql.Literal(end))
        return self._statement(time.strftime("%Y%m%d", time.gmtime(day * DAY)), bounds)

    def _statement(self, suffix: str, bounds: sql.Composable) -> sql.Composed:
        # IF NOT EXISTS: an earlier process may have made the partition, and at the start none is known.
        return sql.SQL("CREATE TABLE IF NOT EXISTS {} PARTITION OF {} {}").format(
            self._name(suffix), sql.Identifier(*self._parts), bounds
        )

    def _name(self, suffix: str) -> sql.Identifier:
        *schema, name = self._parts
        return sql.Identifier(*schema, f"{name}_{suffix}")


async def _answer(connection: Connection, question: str, table: sql.Identifier) -> bool:
    row = await (await connection.execute(question.encode(), [table.as_string()])).fetchone()
    return row is not None and bool(row[0])
