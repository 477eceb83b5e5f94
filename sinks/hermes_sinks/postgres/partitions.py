"""The partitions by day of the postgres sink's table, made as events of a new day arrive.

Clients choose their timestamps, so a bound is needed: the days from ``partition_days`` ago to tomorrow get partitions
of their own, whatever is older or newer goes to ``<table>_default``. Invariants: where a partition cannot be made, for
rows of its day are in the default one already, they go on going there; where the operator has detached or dropped the
default one, another is made, under a free name; an event is never refused for its day.
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
    psycopg.errors.CheckViolation,  # rows of the day are in the default partition, from when it was outside the bound
    psycopg.errors.InvalidObjectDefinition,  # the operator's own partitions cover the day
)
_MOST_DEFAULTS = 9  # their names are no longer than those of the days
_HAS_DEFAULT = "SELECT partdefid <> 0 FROM pg_partitioned_table WHERE partrelid = to_regclass(%s)"
_IS_TAKEN = "SELECT to_regclass(%s) IS NOT NULL"


class DayPartitions:
    """The partitions of the table named ``parts``, as far as they are known. Days count from the Unix epoch."""

    def __init__(self, parts: tuple[str, ...], days_back: int) -> None:
        self._parts = parts
        self._days_back = days_back
        self._known: set[int] = set()
        self._has_default = False

    def forget(self) -> None:
        """The table was lost: find out again."""
        self._known.clear()
        self._has_default = False

    async def prepare(self, connection: Connection, events: Iterable[Event]) -> None:
        """Make what is missing for these events. Raises psycopg's errors."""
        today = int(time.time()) // DAY
        wanted = {event.timestamp // DAY for event in events}
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
                try:
                    async with connection.transaction():
                        await connection.execute(self._day_statement(day))
                except _TAKEN:
                    continue

    async def _make_default(self, connection: Connection) -> None:
        if await _answer(connection, _HAS_DEFAULT, sql.Identifier(*self._parts)):
            return
        for number in range(1, _MOST_DEFAULTS + 1):  # a table that was detached keeps its name
            suffix = f"default{number if number > 1 else ''}"
            if not await _answer(connection, _IS_TAKEN, self._name(suffix)):
                await connection.execute(self._statement(suffix, sql.SQL("DEFAULT")))
                return

    def _day_statement(self, day: int) -> sql.Composed:
        begin, end = (time.strftime("%Y-%m-%d 00:00:00+00", time.gmtime(each * DAY)) for each in (day, day + 1))
        bounds = sql.SQL("FOR VALUES FROM ({}) TO ({})").format(sql.Literal(begin), sql.Literal(end))
        return self._statement(time.strftime("%Y%m%d", time.gmtime(day * DAY)), bounds)

    def _statement(self, suffix: str, bounds: sql.Composable) -> sql.Composed:
        return sql.SQL("CREATE TABLE IF NOT EXISTS {} PARTITION OF {} {}").format(
            self._name(suffix), sql.Identifier(*self._parts), bounds
        )

    def _name(self, suffix: str) -> sql.Identifier:
        *schema, name = self._parts
        return sql.Identifier(*schema, f"{name}_{suffix}")


async def _answer(connection: Connection, question: str, table: sql.Identifier) -> bool:
    row = await (await connection.execute(question.encode(), [table.as_string()])).fetchone()
    return row is not None and bool(row[0])
