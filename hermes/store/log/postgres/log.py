"""Implements `hermes.store.log.contract.Log` in a Postgres table: reads, trims and snapshots; `writer` commits.

Invariants: every record that is returned was checked; a deposed writer trims nothing and saves no snapshot.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import trio

from hermes.base.errors import LogDamaged
from hermes.store.log.contract import LogStatistics, Record, Snapshot
from hermes.store.log.group import GroupCommit
from hermes.store.log.postgres.session import Session
from hermes.store.log.postgres.tables import HAS_RECORDS
from hermes.store.log.postgres.writer import SLOWEST, Standing, Writer, read_standing
from hermes.store.log.rows import (
    MAX_RECORD_BYTES,
    MISSING,
    Row,
    check_records,
    decode_row,
    fault,
    lost_row,
    size_of_first,
)
from hermes.store.postgres import Connection

STATEMENT_TIMEOUT = 20.0
"""Seconds for one slice of a trim or one snapshot."""

READ_TIMEOUT = STATEMENT_TIMEOUT + MAX_RECORD_BYTES / SLOWEST
"""Seconds for one read. With less, a record that was small enough to commit could be too large to read back."""

TRIM_ROWS = 64
"""Rows that one DELETE takes: at some 256 KiB each, about ten thousand rows of the TOAST table."""

_NO_LIMIT = 2**60  # bytes; the server adds an offset, and the sum must fit into a bigint

# Reads the row that holds the record at ``start``, and the later rows that begin within ``max_bytes`` of its end.
_READ = """
WITH holding AS (
    SELECT index, CASE WHEN index = %(start)s THEN "offset"
                  ELSE "offset" + greatest(octet_length(data) - 4 * count, 0) END + %(max_bytes)s AS last_offset
    FROM hermes_log WHERE log = %(log)s AND index <= %(start)s ORDER BY index DESC LIMIT 1
)
SELECT index, count, "offset", checksum, data FROM hermes_log
WHERE log = %(log)s AND index >= (SELECT index FROM holding) AND index < %(end)s
AND "offset" <= (SELECT last_offset FROM holding) ORDER BY index
"""
_FOLLOWER = "SELECT min(index) FROM hermes_log WHERE log = %s AND index > %s"
# Only the lengths of the records before ``to``: the row itself may have 256 MiB.
_HEAD = """
SELECT index, count, "offset", substring(data FROM 1 FOR greatest(4 * least(count, %(to)s - index), 0)::int)
FROM hermes_log WHERE log = %(log)s AND index <= %(to)s ORDER BY index DESC LIMIT 1
"""
# ``openings`` is the fence: the UPDATE finds no row once another instance has opened a claimed log.
_TRIM = """
UPDATE hermes_log_state
SET first_index = greatest(first_index, %(to)s), first_offset = greatest(first_offset, %(offset)s)
WHERE log = %(log)s AND openings = coalesce(%(opening)s::bigint, openings)
RETURNING first_index, first_offset
"""
# From the last deleted index on, or the index scan would pass over all dead entries again.
_DELETE = """
DELETE FROM hermes_log WHERE log = %(log)s AND index IN (
    SELECT index FROM hermes_log WHERE log = %(log)s AND index >= %(from)s AND index + count <= %(to)s
    ORDER BY index LIMIT %(rows)s
) RETURNING index + count
"""
_SNAPSHOT = """
UPDATE hermes_log_state SET snapshot_index = %(index)s, snapshot_checksum = %(checksum)s, snapshot = %(state)b
WHERE log = %(log)s AND openings = coalesce(%(opening)s::bigint, openings)
RETURNING snapshot_index
"""
# The owner of a log holds the advisory lock of `writer`; pg_locks shows the key of the lock in two halves.
_UNOWNED = f"""
SELECT count(*) FROM hermes_log_state AS state
WHERE starts_with(log, %s) AND log <> %s AND {HAS_RECORDS} AND NOT EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND objsubid = 1
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (classid::bigint << 32) | objid::bigint = hashtextextended(log, 'hermes_log'::regclass::oid::bigint)
)
"""  # noqa: S608 - our own text
_GIVE_UP = (
    'INSERT INTO hermes_log (log, index, count, "offset", checksum, token, data) '
    "VALUES ({log}, {row.index}, {row.count}, {row.offset}, {row.checksum}, 0, '') "
    "ON CONFLICT (log, index) DO UPDATE SET "
    'count = excluded.count, "offset" = excluded."offset", checksum = excluded.checksum, token = 0, data = \'\''
)


class PostgresLog:
    """An open log called ``name``. `open_postgres_log` makes one; a caller uses the methods of `hermes.store.log.Log`.

    Unlike other logs: when another instance has taken the log over, `trim` and `take_snapshot` raise
    `hermes.StaleWriter` as `append` does, and so does `read` of records that the other instance has trimmed.

    ``others`` is the session for every statement except the commits.
    """

    def __init__(
        self, name: str, writer: Writer, others: Session, standing: Standing, snapshot: Snapshot | None
    ) -> None:
        self.name = name
        self.first = standing.first
        self.snapshot = snapshot
        self._first_offset = standing.first_offset
        self._writer = writer
        self._group = GroupCommit(standing.next, writer.commit)
        self._others = others
        self._trimming = trio.Lock()
        # At first unknown: an interrupted trim of an earlier process may have left rows, so the first trim looks for
        # them.
        self._deleted_to = 0  # every row below this index is deleted

    @property
    def next(self) -> int:
        """Index that the next record gets."""
        return self._group.next

    async def append(self, records: Sequence[bytes], *, expected_index: int | None = None) -> int:
        """Append records; return the index of the first once they are committed.

        Raises `hermes.StaleWriter`, for good when another writer has appended or taken the log over,
        `hermes.LogFull`, `hermes.LogUnavailable`, and `hermes.LogDamaged` when committed records are gone.
        """
        # Before the append joins others: a record that is too large must fail its own caller, and not their commit.
        check_records(records)
        return await self._group.append(records, expected_index)

    async def read(self, from_index: int, *, max_records: int = 1000, max_bytes: int = 8 * 2**20) -> list[Record]:
        """Return records from ``from_index`` on, within the limits but at least one. Raises as `Log.read` does."""
        records: list[Record] = []
        start = from_index
        while not records and (start := max(start, self.first)) < self.next:
            async with self._others.borrowed(READ_TIMEOUT) as connection:
                rows = await self._fetch(connection, start, min(self.next, start + max_records), max_bytes)
                # The rows may be gone because of a trim of our own, which is no damage.
                if start < self.first:
                    # Trimmed meanwhile.
                    continue
                await self._check(connection, rows, start)
            records = _take(rows, start, max_records, max_bytes)
            # Rows of lost records give nothing: go on after them until there is a record, or the end.
            start = rows[-1].end
        await trio.lowlevel.checkpoint()
        return records

    async def trim(self, to_index: int) -> None:
        """Forget every record below ``to_index``. Autovacuum gives the space back, see `tables`.

        Raises `hermes.LogUnavailable`; then some of the space may stay in use until the next trim.
        """
        async with self._trimming:
            to = min(to_index, self.next)
            if to > self.first:
                async with self._others.borrowed(STATEMENT_TIMEOUT) as connection:
                    offset = await self._offset_at(connection, to)
                    values = {"log": self.name, "to": to, "offset": offset, "opening": self._writer.fence}
                    self.first, self._first_offset = await self._change_state(connection, _TRIM, values)
            # Also true after a trim that was interrupted between the two statements: this one deletes the rest.
            more = self._deleted_to < self.first
            while more:
                async with self._others.borrowed(STATEMENT_TIMEOUT) as connection:
                    # In slices, each with a time-out of its own, however much there is to delete.
                    values = {"log": self.name, "from": self._deleted_to, "to": self.first, "rows": TRIM_ROWS}
                    ends = await (await connection.execute(_DELETE, values)).fetchall()
                more = len(ends) == TRIM_ROWS
                self._deleted_to = max((end for (end,) in ends), default=self._deleted_to)

    async def take_snapshot(self, index: int, state: bytes) -> None:
        """Replace the snapshot durably. Raises `hermes.LogUnavailable`."""
        values = {
            "log": self.name,
            "index": index,
            "checksum": snapshot_checksum(index, state),
            "state": state,
            "opening": self._writer.fence,
        }
        async with self._others.borrowed(STATEMENT_TIMEOUT) as connection:
            await self._change_state(connection, _SNAPSHOT, values)
        self.snapshot = Snapshot(index, state)

    async def count_unowned(self) -> int:
        """Count the other claimed logs that keep records and have no owner. Raises `hermes.LogUnavailable`."""
        # A log that was opened by its name has no owner: only claimed logs have.
        if self._writer.fence is None:
            return 0
        # A claimed log ends in its number, and only logs of the same prefix may be journals of other instances.
        prefix = self.name.rpartition("-")[0] + "-"
        async with self._others.borrowed(STATEMENT_TIMEOUT) as connection:
            row = await (await connection.execute(_UNOWNED, [prefix, self.name])).fetchone()
        return int(row[0]) if row else 0

    def statistics(self) -> LogStatistics:
        """The extent of the log, and its counts since it was opened."""
        group = self._group
        size = self._writer.next_offset - self._first_offset
        return LogStatistics(self.first, group.next, size, group.appends, group.commits, group.failed_commits)

    async def _fetch(self, connection: Connection, start: int, end: int, max_bytes: int) -> list[Row]:
        values = {"log": self.name, "start": start, "end": end, "max_bytes": min(max_bytes, _NO_LIMIT)}
        # Binary: as text the server would send the data in hexadecimal, which is twice as long.
        cursor = await connection.cursor(binary=True).execute(_READ, values)
        return [Row(*row) for row in await cursor.fetchall()]

    async def _check(self, connection: Connection, rows: Sequence[Row], start: int) -> None:
        """Raise `LogDamaged` unless the rows are as they were written, and follow each other from ``start`` on."""
        expected = start
        for row in rows:
            if row.index > expected or row.end <= expected:
                break
            if what := fault(row):
                raise await self._damaged(connection, row.index, row.offset, what)
            expected, offset = row.end, row.end_offset
            # The checksum of a row of 256 MiB takes long enough that others should run before the next one.
            await trio.lowlevel.checkpoint()
        else:
            if rows:
                return
        # A gap is damage, unless another writer has trimmed the rows since: ask before the alarm.
        standing = await read_standing(connection, self.name)
        # Somebody else has trimmed: this writer is deposed.
        if standing.first > expected:
            raise self._writer.depose(standing.next)
        offset = rows[0].offset if expected == start and rows else offset if rows else self._first_offset
        raise await self._damaged(connection, expected, offset, MISSING)

    async def _damaged(self, connection: Connection, index: int, offset: int, what: str) -> LogDamaged:
        """Return the error for the damaged or missing row at ``index``, with a statement that gives its records up."""
        found = await (await connection.execute(_FOLLOWER, [self.name, index])).fetchone()
        end = found[0] if found and found[0] is not None else self.next
        give_up = _GIVE_UP.format(log=_quoted(self.name), row=lost_row(index, end - index, offset))
        return LogDamaged(
            f"table hermes_log, log {self.name!r}, records {index} to {end - 1}: {what}; restore the table, "
            f"or give these records up and go on after them: {give_up}"
        )

    async def _offset_at(self, connection: Connection, index: int) -> int:
        """Return the offset of the record at ``index``, or of the end of the log."""
        row = await (await connection.execute(_HEAD, {"log": self.name, "to": index})).fetchone()
        if row is None:
            return self._writer.next_offset
        start, count, offset, head = row
        # The row may be damaged, so its numbers are clamped: a trim must be able to remove a damaged row.
        return min(int(offset) + size_of_first(max(0, min(index - start, count)), head), self._writer.next_offset)

    async def _change_state(self, connection: Connection, statement: str, values: dict[str, object]) -> tuple[Any, ...]:
        """Change the state of the log; return the new state. Raises `StaleWriter` if another instance has the log."""
        row = await (await connection.execute(statement, values)).fetchone()
        if row is None:
            raise self._writer.depose((await read_standing(connection, self.name)).next)
        return row


def snapshot_checksum(index: int, state: bytes) -> int:
    """Return the checksum of a snapshot."""
    return zlib.crc32(state, zlib.crc32(index.to_bytes(8, "little")))


def _take(rows: Sequence[Row], start: int, max_records: int, max_bytes: int) -> list[Record]:
    records: list[Record] = []
    size = 0
    for row in rows:
        for index, data in enumerate(decode_row(row), row.index):
            if index < start:
                continue
            size += len(data)
            if records and (size > max_bytes or len(records) >= max_records):
                return records
            records.append(Record(index, data))
    return records


# For a statement that an operator pastes; a statement of our own has parameters.
def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
