"""The log on one machine's disk, the embedded default: an SQLite database in a folder of its own, group commit.

Invariants beside those of every log: an append has returned: its rows are in the write-ahead file and that is synced.
An append has raised: they are not, and no crash brings them back. One connection writes, one thread at a time; another
reads beside it. Whatever could take long is done in slices, between which appends go on.

What a failed fsync means: Linux reports it once and then takes the pages for clean, though the disk does not have them
("fsyncgate"). So nothing is trusted that only the page cache may hold:

- SQLite has not moved the end of its write-ahead file, so with the *same connection* the next transaction overwrites
  what the failed one has left there. Until then a crash would bring it back as if it had succeeded: hence
  `count_failure`, a small transaction that overwrites its beginning at once, whether or not that can be synced. And
  until a commit succeeds each begins with another frame than those before (`hermes.sqlite.Connection.differ`), or its
  own first frame could give a failed one its beginning back. For that the pages of a transaction are written in their
  order, at its end (``cache_spill`` is off).
- Folding the write-ahead file into the database is no part of a commit (``wal_autocheckpoint`` is off: its error would
  be reported by a COMMIT that has succeeded). If it fails it is done again, whole, for SQLite resets the write-ahead
  log only after a sync of the database that succeeded.
- A new process folds what it finds before the first append: that writes and syncs everything once more.

SQLite ends its write-ahead file at the first frame that does not fit, and takes a missing one for empty: what was
acknowledged is gone without a word. So a watermark beside it says how far records were acknowledged. What is missing at
a start is reported, and its indexes do not come again.

Used by the event journal, with DURABILITY=disk.
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

from hermes.errors import LogDamaged, LogFull, LogUnavailable
from hermes.in_place import FileGone, Names
from hermes.log import tables
from hermes.log.contract import LogStatistics, Record, Snapshot
from hermes.log.folder import (
    BEGINNING_BYTES,
    DATABASE,
    LOCK,
    REPAIRED,
    Watermark,
    lock_folder,
    room,
    write_watermark,
)
from hermes.log.group import GroupCommit
from hermes.log.opening import FOLD_BYTES, Opened, prepare
from hermes.log.rows import ADVICE, ROW_BYTES, check_records, encode_rows
from hermes.sqlite import SIDECARS, Connection, Database, open_database

TIMES_FOLDED_LATE = 4
"""An append folds the write-ahead file only when it has grown by so many times as much."""

MAX_UNFOLDED_BYTES = 64 * 2**20
"""If it cannot be folded, appends are refused from here on."""

LOW_ROOM = 4 * FOLD_BYTES
"""With less room than this on the disk, a trim gives back every page that it can."""

ResultT = TypeVar("ResultT")

_log = structlog.get_logger("hermes.log")


class SqliteLog:
    """An open log in ``folder``. Made by `open_sqlite_log`."""

    def __init__(self, folder: Path, lock: int, writer: Database, reader: Database, opened: Opened) -> None:
        self.first = opened.extent.first
        self.snapshot = opened.snapshot
        self.cut = opened.cut
        """The damaged end that was found and cut away when the log was opened."""
        self._folder = folder
        self._lock = lock
        self._lost = opened.lost
        self._before, self._last = opened.before, opened.last  # see `Watermark`
        self._names = Names(*(folder / name for name in (DATABASE, *(DATABASE + ending for ending in SIDECARS), LOCK)))
        self._writer = writer
        self._reader = reader
        self._group = GroupCommit(opened.extent.next, self._write)
        self._first_offset = opened.extent.first_offset
        self._next_offset = opened.extent.next_offset
        self._unfolded = 0 if opened.folded else MAX_UNFOLDED_BYTES
        self._fold_at = FOLD_BYTES
        self._folding = False
        self._unplaced = False
        """Whether records of a refused append may be in the file."""

    @property
    def next(self) -> int:
        """Index that the next record gets."""
        return self._group.next

    async def append(self, records: Sequence[bytes], *, expected_index: int | None = None) -> int:
        """Append records; return the index of the first once they are on the disk. Raises as `Log.append` says."""
        check_records(records)
        index = await self._group.append(records, expected_index)
        if self._unfolded >= TIMES_FOLDED_LATE * self._fold_at and not self._folding:
            # Whoever appends next waits for it too, 50 ms for 10 MiB. So it is left to the next snapshot or trim, if
            # one comes in time: the caller takes them in a task of its own.
            await self._fold_after_success()
        return index

    async def read(self, from_index: int, *, max_records: int = 1000, max_bytes: int = 8 * 2**20) -> list[Record]:
        """Records from ``from_index`` on, beside whatever is being written. Raises as `Log.read` says."""
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
        """Forget every record below ``to_index``; the file shrinks when it is worth it. Raises as `Log.trim` says."""
        ends_there = to_index >= self.next
        to_index = max(self.first, min(to_index, self.next))
        before, moved = await self._change(partial(self._move_trim_point, to_index=to_index))
        if moved > (self.first, self._first_offset):
            (self.first, self._first_offset), self._before = moved, before
        self._note(Watermark(self.first, self.next, self._before, self._last))
        while await self._change(partial(tables.delete_slice, to_index=to_index, ends_there=ends_there)):
            self._unfolded += tables.DELETE_PAGES * tables.PAGE_BYTES
            await self._fold_if_due()
        await self._shrink()

    async def take_snapshot(self, index: int, state: bytes) -> None:
        """Keep ``state`` in the place of the last snapshot. Raises as `Log.take_snapshot` says."""
        await self._change(partial(tables.take_snapshot, index=index, state=state))
        self.snapshot = Snapshot(index, state)
        self._unfolded += len(state) + tables.PAGE_BYTES
        await self._fold_after_success()

    async def count_unowned(self) -> int:
        """None: whoever has the log has all of the storage."""
        await trio.lowlevel.checkpoint()
        return 0

    def statistics(self) -> LogStatistics:
        """What the log holds and has done."""
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
        if self._unfolded >= MAX_UNFOLDED_BYTES:
            await self._fold("PASSIVE")
        size = sum(map(len, records))
        will_write = size + (2 + size // ROW_BYTES) * 2 * tables.PAGE_BYTES
        offset = self._next_offset
        mark = Watermark(self.first, index + len(records), self._before, records[-1][:BEGINNING_BYTES])

        def write(connection: sqlite3.Connection) -> None:
            # What is in the write-ahead file will need as much room again in the database.
            if room(self._folder) < 2 * will_write + self._unfolded:
                raise LogFull(f"{self._name}: the disk is full")
            if self._unplaced:
                self._take_back(connection, index)
            tables.insert(connection, encode_rows(index, offset, records))
            self._unplaced = self._names.gone() is not None
            if self._unplaced:  # a file that was deleted or renamed since the look before the commit has taken it
                self._take_back(connection, index)
            self._names.check()
            self._note(mark)

        try:
            await self._change(write)
        except LogFull:
            if not self._unfolded:
                raise
            with suppress(LogUnavailable):
                await self._fold("TRUNCATE")  # then the same room is not needed twice
            await self._change(write)
        self._last = mark.last
        self._next_offset += size
        self._unfolded += will_write

    def _take_back(self, connection: sqlite3.Connection, index: int) -> None:
        """Nothing of a refused append may be in a file that is put back, nor be in the way of the next one."""
        tables.take_back(connection, index)
        self._unplaced = False

    def _note(self, mark: Watermark) -> None:
        with suppress(OSError):  # the records are durable without it
            write_watermark(self._lock, mark)

    async def _shrink(self) -> None:
        """Give free pages of the database back, if it is worth it. What moves pages needs room itself."""
        low = await self._run(self._reader, lambda _: room(self._folder) < LOW_ROOM)
        pages = tables.SHRINK_PAGES // 4 if low else tables.SHRINK_PAGES
        shrunk = False
        while await self._change(partial(tables.shrink, pages=pages, at_once=low)):
            shrunk = True
            self._unfolded += pages * tables.PAGE_BYTES
            await (self._fold("PASSIVE") if low else self._fold_if_due())
        if shrunk:
            await self._fold("TRUNCATE")

    async def _change(self, function: Callable[[sqlite3.Connection], ResultT]) -> ResultT:
        """Run a transaction, whole or not at all; one that is cancelled has not begun."""

        def change(connection: Connection) -> ResultT:
            self._names.check()  # else a commit into a file without a name would succeed, and be gone with the process
            try:
                return function(connection)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:  # then nothing was written
                    with suppress(sqlite3.OperationalError):
                        connection.differ()
                        tables.count_failure(connection)
                raise

        return await self._run(self._writer, change)

    async def _fold_after_success(self) -> None:
        """What was written is durable, so a failure here is not its own; if it goes on, later appends are refused."""
        try:
            await self._fold_if_due()
        except (LogUnavailable, LogDamaged) as error:
            self._fold_at = self._unfolded + FOLD_BYTES
            _log.warning("the write-ahead file cannot be folded into the database", log=self._name, reason=str(error))

    async def _fold_if_due(self) -> None:
        if self._unfolded < self._fold_at or self._folding:
            return
        self._folding = True
        try:
            # Most of it beside the commits, which go on; then, in their turn, what they have added meanwhile.
            await self._run(self._reader, partial(tables.fold, mode="PASSIVE"))
            await self._fold("PASSIVE")
        finally:
            self._folding = False

    async def _fold(self, mode: str) -> None:
        left = await self._run(self._writer, partial(tables.fold, mode=mode))
        self._unfolded, self._fold_at = left * tables.PAGE_BYTES, FOLD_BYTES

    async def _run(self, database: Database, function: Callable[[Connection], ResultT]) -> ResultT:
        with storage_errors(self._name):
            return await database.run(function)


@asynccontextmanager
async def open_sqlite_log(folder: Path) -> AsyncIterator[SqliteLog]:
    """The log in ``folder``, which is made if it is missing; open while the block runs.

    A damaged end, as a write that was torn leaves it, is cut away, kept in a file beside the database, and reported.
    Raises `hermes.ConfigError` (another process has the folder, or it cannot be used), `hermes.LogDamaged`,
    `hermes.LogUnavailable`.
    """
    database = folder / DATABASE
    descriptor = await trio.to_thread.run_sync(lock_folder, folder)
    try:
        if await trio.to_thread.run_sync((folder / REPAIRED).exists):
            raise LogDamaged(f"{folder}: a repair was interrupted; run `hermes log repair` again")
        async with AsyncExitStack() as stack:
            with storage_errors(str(database)):
                writer = await stack.enter_async_context(open_database(database, tables.SCHEMA))
                reader = await stack.enter_async_context(open_database(database, tables.SCHEMA))
                opened = await writer.run(partial(prepare, folder, descriptor))
            yield SqliteLog(folder, descriptor, writer, reader, opened)
    finally:
        os.close(descriptor)


@contextmanager
def storage_errors(name: str) -> Iterator[None]:
    """Turn what sqlite3 and the file system say into the errors of a log."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise  # ours to mend
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without what it says in detail
        if code == sqlite3.SQLITE_FULL:
            raise LogFull(f"{name}: the disk is full") from error
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise LogDamaged(f"{name}: the database is damaged: {error}; {ADVICE}") from error
        if not code:
            raise
        raise LogUnavailable(f"{name}: {error}") from error
    except FileGone as error:
        raise LogUnavailable(str(error)) from error  # it names the file
    except OSError as error:
        raise LogUnavailable(f"{name}: {error}") from error
