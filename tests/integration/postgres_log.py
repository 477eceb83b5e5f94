"""What the tests of the postgres log look at from outside: the tables, the server's processes, all that a log holds."""

from __future__ import annotations

import trio
from psycopg.rows import TupleRow

from hermes.base.errors import LogUnavailable
from hermes.store.log import Record
from hermes.store.log.postgres import PostgresLog
from hermes.store.postgres import open_connection

QUICKLY = 3.0  # seconds; a machine that is loaded included


async def execute(dsn: str, statement: str, *parameters: object) -> list[TupleRow]:
    async with open_connection(dsn) as connection:
        cursor = await connection.execute(statement.encode(), parameters or None)
        return await cursor.fetchall() if cursor.description else []


async def rows(dsn: str) -> int:
    ((count,),) = await execute(dsn, "SELECT count(*) FROM hermes_log")
    return int(count)


def datas(records: list[Record]) -> list[bytes]:
    return [record.data for record in records]


async def everything(log: PostgresLog) -> list[Record]:
    records: list[Record] = []
    while more := await log.read(records[-1].index + 1 if records else log.first):
        records += more
    return records


async def until_it_works(log: PostgresLog, data: bytes) -> int:
    with trio.fail_after(20):
        while True:
            try:
                return await log.append([data])
            except LogUnavailable:
                await trio.sleep(0.02)


def backend(log: PostgresLog) -> int:
    """The process at the server that commits for this log."""
    connection = log._writer._session._connection
    assert connection is not None
    return connection.backend_pid


async def terminate(dsn: str, pid: int) -> None:
    await execute(dsn, "SELECT pg_terminate_backend(%s)", pid)
    with trio.fail_after(5):
        while await execute(dsn, "SELECT 1 FROM pg_stat_activity WHERE pid = %s", pid):  # noqa: ASYNC110
            await trio.sleep(0.01)
