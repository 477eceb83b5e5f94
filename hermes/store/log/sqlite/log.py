"""Keeps a log on the disk of one machine, in an SQLite database in a folder of its own: the embedded default.

Invariants beside those of every log: when an append has returned, its rows are in the write-ahead file, and the file is
synced. When an append has raised, its rows are not in the file, and no crash brings them back. One connection writes,
on one thread at a time; another reads beside it. Long work is done in slices, between which appends go on.

What a failed fsync means: Linux reports the failure once and then takes the pages for clean, though the disk does not
have them ("fsyncgate"). So the log trusts no data that only the page cache may hold:

- SQLite has not moved the end of its write-ahead file, so with the *same connection* the next transaction overwrites
  the frames of the failed one. Until then a crash would bring the failed transaction back as if it had succeeded.
  Therefore `overwrite_failed_frames` runs a small transaction at once, which overwrites the first failed frame even if
  its own sync fails. And until a commit succeeds, each transaction begins with a different frame than those before
  (`hermes.store.sqlite.Connection.differ`); an equal first frame would complete a failed transaction again. For this
  SQLite has to write the pages of a transaction in their order, at the end (``cache_spill`` is off).
- A checkpoint is no part of a commit (``wal_autocheckpoint`` is off: a COMMIT that has succeeded would report the error
  of the checkpoint). A failed checkpoint is repeated whole: SQLite resets the write-ahead file only after a sync of the
  database that succeeded.
- A new process makes a checkpoint before its first append, which writes and syncs every page once more.

SQLite ends its write-ahead file at the first frame that does not fit, and takes a missing file for an empty one, so
acknowledged records could vanish silently. Therefore a watermark in another file says how far records were
acknowledged. Missing records are reported at the start, and their indexes are never used again.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog
import trio

from hermes.base.errors import LogDamaged, LogFull, LogUnavailable
from hermes.store.in_place import FileGone, Names
from hermes.store.log.contract import LogStatistics, Record, Snapshot
from hermes.store.log.group import GroupCommit
from hermes.store.log.rows import ADVICE, ROW_BYTES, check_records, encode_rows
from hermes.store.log.sqlite import tables
from hermes.store.log.sqlite.folder import (
    BEGINNING_BYTES,
    DATABASE,
    LOCK,
    REPAIRED,
    Watermark,
    lock_folder,
    room,
    write_watermark,
)
from hermes.store.log.sqlite.opening import CHECKPOINT_BYTES, Opened, prepare
from hermes.store.sqlite import SIDECARS, Connection, Database, open_database

TIMES_CHECKPOINTED_LATE = 4
"""An append makes a checkpoint only after this many times `CHECKPOINT_BYTES`; a trim or a snapshot does so earlier."""

MAX_UNCHECKPOINTED_BYTES = 64 * 2**20
"""Growth of the write-ahead file from which on a commit makes a checkpoint first, and fails if the checkpoint fails."""

LOW_ROOM = 4 * CHECKPOINT_BYTES
"""With less room than this on the disk, a trim gives back every free page."""

ResultT = TypeVar("ResultT")

_log = structlog.get_logger("hermes.log")


class SqliteLog:
    """An open log in ``folder``. `open_sqlite_log` makes one; a caller uses the methods of `hermes.store.log.Log`.

    Attributes: 18, because a commit changes the extent, the watermark and the checkpoint of the file together.
    """

    def __init__(self, folder: Path, lock: int, writer: Database, reader: Database, opened: Opened) -> None:
        self.first = opened.extent.first
        self.snapshot = opened.snapshot
        self.cut = opened.cut
        """The damaged end that was cut off when the log was opened."""
        self._folder = folder
        self._lock = lock
        self._lost = opened.lost
        self._before, self._last = opened.before, opened.last  # see `Watermark`
        # The lock file too: once it is gone, another process may lock the folder.
        self._names = Names(*(folder / name for name in (DATABASE, *(DATABASE + ending for ending in SIDECARS), LOCK)))
        self._writer = writer
        self._reader = reader
        self._group = GroupCommit(opened.extent.next, self._write)
        self._first_offset = opened.extent.first_offset
        self._next_offset = opened.extent.next_offset
        # After a failed checkpoint the size of the old file is unknown: count it as full, so the first append retries.
        self._uncheckpointed = 0 if opened.checkpointed else MAX_UNCHECKPOINTED_BYTES
        self._checkpoint_at = CHECKPOINT_BYTES
        self._checkpointing = False
        self._unplaced = False
        """Whether the file may hold records of a refused append."""

    @property
    def next(self) -> int:
        """Index that the next record gets."""
        return self._group.next

    async def append(self, records: Sequence[bytes], *, expected_index: int | None = None) -> int:
        """Append records; return the index of the first once they are on the disk. Raises as `Log.append` says."""
        # Before the append joins others: a record that is too large must fail its own caller, and not their commit.
        check_records(records)
        index = await self._group.append(records, expected_index)
        if self._uncheckpointed >= TIMES_CHECKPOINTED_LATE * self._checkpoint_at and not self._checkpointing:
            # The next appends wait for the checkpoint too, 50 ms for 10 MiB. So an append leaves it to the next
            # snapshot or trim, if one comes in time: the journal makes those in a task of its own.
            await self._checkpoint_after_success()
        return index

    async def read(self, from_index: int, *, max_records: int = 1000, max_bytes: int = 8 * 2**20) -> list[Record]:
        """Return records from ``from_index`` on, also while a commit is under way. Raises as `Log.read` says."""
        await trio.lowlevel.checkpoint_if_cancelled()
        read = partial(
            tables.read,
            from_index=from_index,
            end=self.next,
            max_records=max_records,
            max_bytes=max_bytes,
            name=self._name,
        )
        return await self._run(self._reader, read)

    async def trim(self, to_index: int) -> None:
        """Forget every record below ``to_index``; shrink the file if worth the work. Raises as `Log.trim` says."""
        # The end of the log is always the end of a row.
        on_row_boundary = to_index >= self.next
        # Beyond the end means the end.
        to_index = max(self.first, min(to_index, self.next))
        # The trim point moves first: if the deletion is interrupted, no reader sees a half-trimmed log.
        before, moved = await self._change(partial(self._move_trim_point, to_index=to_index))
        if moved > (self.first, self._first_offset):
            (self.first, self._first_offset), self._before = moved, before
        # Trimmed records must not count as missing at the next start.
        self._note(Watermark(self.first, self.next, self._before, self._last))
        while await self._change(partial(tables.delete_slice, to_index=to_index, on_row_boundary=on_row_boundary)):
            self._uncheckpointed += tables.DELETE_PAGES * tables.PAGE_BYTES
            await self._checkpoint_if_due()
        await self._shrink()

    async def take_snapshot(self, index: int, state: bytes) -> None:
        """Keep ``state`` in the place of the last snapshot. Raises as `Log.take_snapshot` says."""
        await self._change(partial(tables.take_snapshot, index=index, state=state))
        self.snapshot = Snapshot(index, state)
        self._uncheckpointed += len(state) + tables.PAGE_BYTES
        await self._checkpoint_after_success()

    async def count_unowned(self) -> int:
        """Return 0: this log has a folder of its own, which holds no other log."""
        await trio.lowlevel.checkpoint()
        return 0

    def statistics(self) -> LogStatistics:
        """The extent and the counts of the log."""
        return LogStatistics(
            self.first,
            self.next,
            self._next_offset - self._first_offset,
            self._group.appends,
            self._group.commits,
            self._group.failed_commits,
            self._lost,
        )

    @property
    def _name(self) -> str:
        return str(self._folder / DATABASE)

    def _move_trim_point(self, connection: sqlite3.Connection, to_index: int) -> tuple[bytes, tuple[int, int]]:
        before = tables.beginning(connection, to_index - 1)
        return before, tables.move_trim_point(connection, to_index, self._name)

    async def _write(self, index: int, records: list[bytes]) -> None:
        """Commit records for the group, whole or not at all."""
        # Each commit grows the file, and only a checkpoint that succeeds lets SQLite begin it anew.
        if self._uncheckpointed >= MAX_UNCHECKPOINTED_BYTES:
            await self._checkpoint("PASSIVE")
        size = sum(map(len, records))
        # For each row two pages that are only partly its own: one of the tree, one at the end of its overflow chain.
        will_write = size + (2 + size // ROW_BYTES) * 2 * tables.PAGE_BYTES
        offset = self._next_offset
        mark = Watermark(self.first, index + len(records), self._before, records[-1][:BEGINNING_BYTES])

        def write(connection: sqlite3.Connection) -> None:
            # Each page in the write-ahead file will need the same room again in the database.
            if room(self._folder) < 2 * will_write + self._uncheckpointed:
                raise LogFull(f"{self._name}: the disk is full")
            if self._unplaced:
                self._take_back(connection, index)
            tables.insert(connection, encode_rows(index, offset, records))
            self._unplaced = self._names.gone() is not None
            # A file deleted or renamed after the check in `change` has taken the commit: the records are not in place.
            if self._unplaced:
                self._take_back(connection, index)
            self._names.check()
            self._note(mark)

        try:
            await self._change(write)
        except LogFull:
            # An empty write-ahead file has no room to give back.
            if not self._uncheckpointed:
                raise
            with suppress(LogUnavailable):
                # Gives the room of the write-ahead file back.
                await self._checkpoint("TRUNCATE")
            await self._change(write)
        self._last = mark.last
        self._next_offset += size
        self._uncheckpointed += will_write

    def _take_back(self, connection: sqlite3.Connection, index: int) -> None:
        """Delete the rows of a refused append, so that neither a file put back nor the next append meets them."""
        tables.take_back(connection, index)
        self._unplaced = False

    def _note(self, mark: Watermark) -> None:
        # The records are durable without the watermark.
        with suppress(OSError):
            write_watermark(self._lock, mark)

    async def _shrink(self) -> None:
        """Give free pages of the database back to the disk, if worth the work."""
        low = await self._run(self._reader, lambda _: room(self._folder) < LOW_ROOM)
        # Each moved page is first written to the write-ahead file, so smaller slices on a disk that is nearly full.
        pages = tables.SHRINK_PAGES // 4 if low else tables.SHRINK_PAGES
        # Slices, between which appends go on.
        shrunk = False
        while await self._change(partial(tables.shrink, pages=pages, at_once=low)):
            shrunk = True
            self._uncheckpointed += pages * tables.PAGE_BYTES
            await (self._checkpoint("PASSIVE") if low else self._checkpoint_if_due())
        if shrunk:
            # SQLite makes the database file shorter only at a checkpoint.
            await self._checkpoint("TRUNCATE")

    async def _change(self, function: Callable[[sqlite3.Connection], ResultT]) -> ResultT:
        """Run a transaction, whole or not at all. If the call is cancelled, the transaction has not begun."""

        def change(connection: Connection) -> ResultT:
            # A commit into a deleted file would succeed, and be gone with the process.
            self._names.check()
            try:
                return function(connection)
            except sqlite3.OperationalError as error:
                # After BUSY there is no frame to overwrite.
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                    with suppress(sqlite3.OperationalError):
                        connection.differ()
                        tables.overwrite_failed_frames(connection)
                raise

        return await self._run(self._writer, change)

    async def _checkpoint_after_success(self) -> None:
        """Make a checkpoint if due; log a failure, since the commit before has succeeded. Later appends may fail."""
        try:
            await self._checkpoint_if_due()
        except (LogUnavailable, LogDamaged) as error:
            # Not at each append: a checkpoint that has failed is tried again after as much growth as lies between two.
            self._checkpoint_at = self._uncheckpointed + CHECKPOINT_BYTES
            _log.warning("the write-ahead file cannot be checkpointed", log=self._name, reason=str(error))

    async def _checkpoint_if_due(self) -> None:
        if self._uncheckpointed < self._checkpoint_at or self._checkpointing:
            return
        self._checkpointing = True
        try:
            # First on the reader's connection, beside the commits; then on the writer's, which commits wait for, only
            # the pages that were added meanwhile.
            await self._run(self._reader, partial(tables.checkpoint, mode="PASSIVE"))
            await self._checkpoint("PASSIVE")
        finally:
            self._checkpointing = False

    async def _checkpoint(self, mode: str) -> None:
        left = await self._run(self._writer, partial(tables.checkpoint, mode=mode))
        self._uncheckpointed, self._checkpoint_at = left * tables.PAGE_BYTES, CHECKPOINT_BYTES

    async def _run(self, database: Database, function: Callable[[Connection], ResultT]) -> ResultT:
        with storage_errors(self._name):
            return await database.run(function)


@asynccontextmanager
async def open_sqlite_log(folder: Path) -> AsyncIterator[SqliteLog]:
    """Open the log in ``folder`` while the block runs; make the folder if it is missing.

    A damaged end, which a torn write leaves, is cut off, saved in a file beside the database, and reported.
    Raises `hermes.ConfigError` (another process has the folder, or the folder cannot be used), `hermes.LogDamaged`,
    `hermes.LogUnavailable`. ::

        async with open_sqlite_log(Path("/var/lib/hermes/journal")) as log:
            index = await log.append([b"one", b"two"])
    """
    database = folder / DATABASE
    descriptor = await trio.to_thread.run_sync(lock_folder, folder)
    try:
        # The finished database lies beside the damaged one: opened now, the log would be the damaged one.
        if await trio.to_thread.run_sync((folder / REPAIRED).exists):
            raise LogDamaged(f"{folder}: a repair was interrupted; run `hermes log repair` again")
        async with AsyncExitStack() as stack:
            with storage_errors(str(database)):
                writer = await stack.enter_async_context(open_database(database, tables.SCHEMA))
                # A connection of its own, so that reads and checkpoints run beside the commits.
                reader = await stack.enter_async_context(open_database(database, tables.SCHEMA))
                opened = await writer.run(partial(prepare, folder, descriptor))
            yield SqliteLog(folder, descriptor, writer, reader, opened)
    finally:
        # After both connections, for another process may open the log from here on.
        os.close(descriptor)


@contextmanager
def storage_errors(name: str) -> Iterator[None]:
    """Turn the errors of sqlite3 and of the file system into the errors of a log.

    ::

        with storage_errors("journal/log.db"):
            connection.execute("COMMIT")  # raises LogFull on a full disk
    """
    try:
        yield
    except sqlite3.ProgrammingError:
        # A wrong call of sqlite3 is a bug of Hermes, and no fault of the storage.
        raise
    except sqlite3.DatabaseError as error:
        # The primary code, without the extension in the higher bytes.
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            raise LogFull(f"{name}: the disk is full") from error
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise LogDamaged(f"{name}: the database is damaged: {error}; {ADVICE}") from error
        # Without a code the error is of Python's module, and not of SQLite.
        if not code:
            raise
        raise LogUnavailable(f"{name}: {error}") from error
    except FileGone as error:
        raise LogUnavailable(str(error)) from error  # the message names the file already
    except OSError as error:
        raise LogUnavailable(f"{name}: {error}") from error
