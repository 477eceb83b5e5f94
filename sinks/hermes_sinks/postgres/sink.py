"""Stores batches in Postgres: one COPY for each batch, and a slower way for a batch that the COPY refuses.

    COPY into the table ── done
      │ duplicate or conflict          │ a row refused
      ▼                                ▼
    one transaction: staging table, merged with ON CONFLICT (key) DO NOTHING; refused ranges cut until the bad rows
    are known

Beside a partitioned table the ids go into their own table, in the same transaction: see `ids`.

Invariants: a write that returns has committed, and the commit is on the server's disk unless a setting says otherwise.
A write stores the batch without the rows that it reports as refused, or nothing, also if it is cancelled; with
``dedup`` each event id is stored once, and a row that another constraint refuses is reported. The first write finds a
server that is down, not the start.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import psycopg
import trio

from hermes import Batch, BatchRejected, ConfigError, SinkUnavailable, Storage
from hermes.kit.postgres import Connection, Fault, Pool, check_dsn, open_pool, tell, was_refused
from hermes_sinks.common.reasons import hide_values
from hermes_sinks.common.slices import slice_events, slice_sizes
from hermes_sinks.postgres.copy_rows import arrival_texts, encode_rows, key_rows, split_rows
from hermes_sinks.postgres.faults import RowFault, judge
from hermes_sinks.postgres.ids import Ids
from hermes_sinks.postgres.order import RUN, order_in_steps
from hermes_sinks.postgres.partitions import DayPartitions
from hermes_sinks.postgres.salvage import store_the_good
from hermes_sinks.postgres.settings import PostgresSettings, table_parts
from hermes_sinks.postgres.table import Table

# Rows encoded between two checkpoints, and fewer of large payloads: about 0.7 ms of the loop.
SLICE = 2000
# Of a batch that conflicts with another writer's, before the engine's own retries.
ATTEMPTS = 3
# Seconds for a connection, dialing included; a write may take much longer.
ACQUIRE_TIMEOUT = 5.0

# Preparing the table again, or a new connection, may mend these faults: the batch is tried once more at once.
_ANEW = (Fault.TABLE, Fault.SESSION, Fault.SERVER)


class PostgresSink:
    """A sink over an open pool; ``settings`` name the table.

    ::

        async with open_postgres(PostgresSettings(), Storage(db_dsn=dsn)) as sink:
            await sink.write(batch)
    """

    def __init__(self, pool: Pool, settings: PostgresSettings, *, concurrency: int) -> None:
        self.max_batch = settings.max_batch
        self.concurrency = concurrency
        parts = table_parts(settings.table)
        self._pool = pool
        self._parts = parts
        self._table = Table(parts, settings.dedup, settings.partition == "day")
        self._partitions = DayPartitions(parts, settings.partition_days) if self._table.by_day else None
        # Batches are written at once, and one of them makes the tables for all.
        self._preparing = trio.Lock()
        self._prepared = False
        self._key: Sequence[str] = ()
        # If the key of the table cannot be the id alone.
        self._ids: Ids | None = None

    async def write(self, batch: Batch) -> None:
        """Store the batch, committed. Raises `hermes.SinkUnavailable` and `hermes.BatchRejected`."""
        if not len(batch):
            await trio.lowlevel.checkpoint()
            return
        blocks = await _encode(batch)
        order: Sequence[int] = range(len(batch))
        # In the order of the key, a batch touches each page of the index once.
        if self._table.dedup:
            blocks, order = await _sort(blocks, batch)
        try:
            refused = await self._write_blocks(batch, blocks)
        except psycopg.Error as error:
            # Not after a lost connection: the outcome of the batch is unknown, and the server may be down.
            if judge(error) not in _ANEW or not was_refused(error):
                raise _unavailable(error) from error
            try:
                refused = await self._write_blocks(batch, blocks)
            except psycopg.Error as again:
                # For its exception: an error that neither server nor network made is a bug, and is raised as it is.
                judge(again)
                raise _unavailable(again) from again
        if refused:
            by_index = {order[place]: reason for place, reason in refused.items()}
            raise BatchRejected(await hide_values(dict(sorted(by_index.items())), batch))

    async def _write_blocks(self, batch: Batch, blocks: Sequence[bytes]) -> dict[int, str]:
        """Store the rows of the batch; return the reasons of the refused rows, by their place."""
        try:
            async with self._pool.connection() as connection:
                await self._prepare(connection, batch)
                return await self._store(connection, blocks)
        except psycopg.Error:
            # The table may be missing: look again before the next batch.
            self._prepared = False
            raise

    async def _prepare(self, connection: Connection, batch: Batch) -> None:
        async with self._preparing:
            if not self._prepared:
                self._key = await self._table.prepare(connection)
                # Also beside a table that a Hermes without ids has made.
                self._ids = Ids(self._parts) if "ts" in self._key else None
                if self._ids is not None:
                    await self._ids.prepare(connection)
                if self._partitions is not None:
                    # The table may be a new one, without any partition.
                    self._partitions.forget()
                self._prepared = True
            if self._partitions is not None:
                await self._partitions.prepare(connection, batch)

    async def _store(self, connection: Connection, blocks: Sequence[bytes]) -> dict[int, str]:
        """Store the rows of the blocks; return the reasons of the refused rows, by their place."""
        fault = None
        try:
            await self._copy(connection, blocks)
        except psycopg.Error as error:
            about = judge(error)
            if about not in (Fault.ROW, Fault.DUPLICATE, Fault.CONFLICT):
                raise
            # The merge leaves duplicates out by itself: only for a refused row there is something to search.
            if about is Fault.ROW:
                fault = RowFault.of(error)
        else:
            return {}
        rows = await _split(blocks)
        for _ in range(ATTEMPTS - 1):
            try:
                return await self._store_carefully(connection, rows, fault)
            except psycopg.Error as error:
                if judge(error) is not Fault.CONFLICT:
                    raise
        return await self._store_carefully(connection, rows, fault)

    async def _copy(self, connection: Connection, blocks: Sequence[bytes]) -> None:
        if self._ids is None:
            await connection.copy_in(self._table.copy_statement, *blocks)
            return
        keys = await _keys(blocks)
        # The ids first: a repeated id fails the transaction before its rows are sent.
        async with connection.transaction():
            # One transaction for both: an id that stayed without its refused row would keep the event out for ever.
            await connection.copy_in(self._ids.copy_statement, *keys)
            await connection.copy_in(self._table.copy_statement, *blocks)

    async def _store_carefully(
        self, connection: Connection, rows: Sequence[bytes], fault: RowFault | None
    ) -> dict[int, str]:
        """Store the good rows in one transaction. ``fault`` is the fault of all rows together, if they were tried."""

        async def store(part: Sequence[bytes]) -> RowFault | None:
            try:
                await self._store_part(connection, await _join(part))
            except psycopg.Error as error:
                if judge(error) not in (Fault.ROW, Fault.DUPLICATE):
                    raise
                await connection.execute("ROLLBACK TO SAVEPOINT part")
                return RowFault.of(error)
            # A new savepoint, so that the rows so far survive the refusal of a later row.
            await connection.execute("RELEASE SAVEPOINT part; SAVEPOINT part")
            return None

        # One transaction: a cancelled write stores nothing.
        async with connection.transaction():
            # Only COMMIT would report a deferred constraint, for all rows together and without naming one.
            await connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
            if self._table.dedup:
                await connection.execute(self._table.make_staging_statement)
            await connection.execute("SAVEPOINT part")
            return await store_the_good(rows, store, fault)

    async def _store_part(self, connection: Connection, blocks: Sequence[bytes]) -> None:
        if not self._table.dedup:
            await connection.copy_in(self._table.copy_statement, *blocks)
            return
        await connection.copy_in(self._table.copy_staging_statement, *blocks)
        # The ids before the events: events whose id is stored under another time leave staging in between.
        if self._ids is not None:
            await connection.execute(self._ids.merge_statement)
            await connection.execute(self._ids.drop_known_statement)
        await connection.execute(self._table.merge_statement(self._key))
        await connection.execute(self._table.clear_staging_statement)


def _unavailable(error: psycopg.Error) -> SinkUnavailable:
    # QueryCanceled: the server's statement_timeout. A smaller batch may be fast enough, so the engine cuts it.
    return SinkUnavailable(f"Postgres: {tell(error)}", too_slow=isinstance(error, psycopg.errors.QueryCanceled))


async def _encode(batch: Batch) -> list[bytes]:
    """Return the rows of the batch, in blocks of whole rows."""
    events, arrivals = batch.events, arrival_texts(batch)
    blocks = []
    for start, stop in slice_events(events, SLICE):
        blocks.append(encode_rows(events[start:stop], arrivals[start:stop]))
        await trio.lowlevel.checkpoint()
    return blocks


async def _sort(blocks: Sequence[bytes], batch: Batch) -> tuple[list[bytes], Sequence[int]]:
    """Return the rows in the order of their ids, and the index of each row in the batch."""
    # Sort the rows and not the events: encoding events from all over the memory takes twice as long. Equal ids stay in
    # the order of arrival, so that the first one is stored.
    rows, ids = await _split(blocks), [event.id for event in batch.events]
    ordered: list[bytes] = []
    order: list[int] = []
    for part in order_in_steps(ids, RUN):
        order += part
        await trio.lowlevel.checkpoint()
        ordered += await _join([rows[index] for index in part])
    return ordered, order


async def _split(blocks: Sequence[bytes]) -> list[bytes]:
    rows: list[bytes] = []
    for block in blocks:
        rows += split_rows(block)
        await trio.lowlevel.checkpoint()
    return rows


async def _join(rows: Sequence[bytes]) -> list[bytes]:
    """Return the rows in blocks, each small enough to be joined in one step of the loop."""
    blocks = []
    for start, stop in slice_sizes(list(map(len, rows)), RUN):
        blocks.append(b"".join(rows[start:stop]))
        await trio.lowlevel.checkpoint()
    return blocks


async def _keys(blocks: Sequence[bytes]) -> list[bytes]:
    keys = []
    for block in blocks:
        keys.append(key_rows(split_rows(block)))
        await trio.lowlevel.checkpoint()
    return keys


def check_postgres(settings: PostgresSettings, storage: Storage) -> None:
    """Raise `ConfigError` for invalid settings, without asking the server."""
    if settings.dsn:
        check_dsn(settings.dsn, "SINK_POSTGRES_DSN")
    elif storage.db_dsn:
        check_dsn(storage.db_dsn)
    else:
        raise ConfigError(
            "DB_DSN is empty: set it to use the postgres sink, such as postgresql://user@host/database, "
            "or set SINK_POSTGRES_DSN for this sink alone"
        )
    table_parts(settings.table)


@asynccontextmanager
async def open_postgres(settings: PostgresSettings, storage: Storage) -> AsyncIterator[PostgresSink]:
    """Open the sink; the first write dials. Raises `ConfigError` as `check_postgres` does."""
    check_postgres(settings, storage)
    concurrency = min(settings.concurrency, storage.max_open_conns)
    # No connection yet: a server that is down is found by the first write, and keeps no service from starting.
    async with open_pool(
        settings.dsn or storage.db_dsn,
        max_size=concurrency,
        acquire_timeout=ACQUIRE_TIMEOUT,
        # A server, a database or a role may have it off: then a commit would only be in the server's memory.
        synchronous_commit=None if settings.synchronous_commit == "server" else settings.synchronous_commit,
    ) as pool:
        yield PostgresSink(pool, settings, concurrency=concurrency)
