"""Writes a damaged sqlite log anew from its survey: keeps every good record, marks the others as lost. Offline.

Invariants: the damaged files are moved aside and never changed; a crash at any moment leaves either the damaged log as
it was, or also a finished database beside it. In the second case the log refuses to open until the next repair has put
the finished database in place. Blocking; the caller holds the folder's lock.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

from hermes.base.errors import ConfigError
from hermes.base.folders import sync_folder
from hermes.store.log.rows import Row, decode_row, encode_row, lost_row, size_of_first
from hermes.store.log.sqlite import tables
from hermes.store.log.sqlite.folder import DATABASE, REPAIRED
from hermes.store.log.sqlite.salvage import Pages
from hermes.store.log.sqlite.survey import Kept, Survey
from hermes.store.sqlite import connect, reading, transaction

_UNFINISHED = f"{DATABASE}.repairing"
_SPARE_BYTES = 16 * 2**20
_TRANSACTION_BYTES = 32 * 2**20
_SIDECARS = ("-wal", "-shm", "")  # "" is the database itself


def repair(found: Survey) -> Path:
    """Put a good log in the place of the surveyed log; return the new path of the damaged database.

    Raises `ConfigError` if the disk has too little room or the folder cannot be written. The command line does::

        found = survey(folder, read_watermark(lock))
        aside = repair(found)  # the folder's log can be opened again
    """
    folder = found.folder
    try:
        _write(found, folder / _UNFINISHED)
        # From this rename on the repair is finished, and a crash leaves only `finish` to do.
        (folder / _UNFINISHED).rename(folder / REPAIRED)
        sync_folder(folder)
        return finish(folder)
    except (OSError, sqlite3.OperationalError) as error:
        raise ConfigError(f"{folder}: the repair could not be done, and nothing was changed: {error}") from error


def is_unfinished(folder: Path) -> bool:
    """Return whether a repair was interrupted when only `finish` was left."""
    return (folder / REPAIRED).exists()


def finish(folder: Path) -> Path:
    """Move the damaged database aside and the repaired one in its place; return the new path of the damaged one.

    ::

        if is_unfinished(folder):
            aside = finish(folder)  # the damaged database, under its new name
    """
    # From the file and not from the clock: after a crash, the second call must choose the same name.
    made = (folder / REPAIRED).stat().st_mtime_ns
    second = time.strftime("%Y%m%dT%H%M%S", time.gmtime(made // 10**9))
    aside = f"{DATABASE}.damaged-{second}.{made % 10**9 // 1000:06}Z"
    for sidecar in _SIDECARS:
        # After a crash in this loop, the files that were moved already are missing here.
        if (folder / f"{DATABASE}{sidecar}").exists():
            (folder / f"{DATABASE}{sidecar}").rename(folder / f"{aside}{sidecar}")
    (folder / REPAIRED).rename(folder / DATABASE)
    # A rename outlives a crash of the machine only once the folder is synced.
    sync_folder(folder)
    return folder / aside


def _write(found: Survey, path: Path) -> None:
    """Write the surveyed records as a new database at ``path``, closed and synced."""
    for sidecar in _SIDECARS:
        # Left by a repair that was interrupted: the rows of this one would collide with its rows.
        Path(f"{path}{sidecar}").unlink(missing_ok=True)
    damaged = found.folder / DATABASE
    # The new database is written beside the damaged one, which is kept, so the disk must hold both.
    needed = damaged.stat().st_size + _SPARE_BYTES
    if (free := shutil.disk_usage(found.folder).free) < needed:
        raise ConfigError(f"{found.folder}: the log is written anew, which needs {needed} bytes: {free} are free")
    with closing(connect(path, tables.SCHEMA)) as connection, closing(_Source(damaged)) as source:
        # No sync of each transaction: the whole file is synced below, before its rename.
        connection.execute("PRAGMA synchronous = OFF")
        for rows in _transactions(_anew(found, source)):
            tables.insert(connection, rows)
        with transaction(connection):
            tables.set_trim_point(connection, found.first, source.offset_of_first(found))
        if found.snapshot is not None:
            tables.take_snapshot(connection, found.snapshot.index, found.snapshot.state)
        tables.checkpoint(connection, "TRUNCATE")
    with path.open("rb") as file:
        os.fsync(file.fileno())


class _Source:
    """The rows of the damaged database."""

    def __init__(self, database: Path) -> None:
        self._stack = ExitStack()
        self._database = database
        self._pages = self._stack.enter_context(closing(Pages(database)))
        self._connection: sqlite3.Connection | None = None

    def close(self) -> None:
        self._stack.close()

    def row(self, kept: Kept) -> Row:
        """Return a row that the survey found good."""
        if kept.cell is None:
            # Opened only if SQLite can read any row: opening a badly damaged database raises.
            if self._connection is None:
                self._connection = self._stack.enter_context(reading(self._database, tables.SCHEMA))
            return tables.row_at(self._connection, kept.index)
        match self._pages.read(kept.cell):
            # Salvage returns unchecked bytes, which another program may have changed since the survey.
            case index, (None, int(count), int(offset), int(checksum), bytes(data)):
                return Row(index, count, offset, checksum, data)
        raise ConfigError(f"{self._database}: changed while it was read; is it in use?")

    def offset_of_first(self, found: Survey) -> int:
        """Return the offset of the oldest record, which may stand within the first row; that row has offset 0."""
        match found.pieces:
            case [Kept(index=index) as oldest, *_] if index < found.first:
                row = self.row(oldest)
                return size_of_first(found.first - index, row.data) if row.data else 0
        return 0


def _anew(found: Survey, source: _Source) -> Iterator[Row]:
    """Yield the rows of the new database: each with its records and its index, and offsets counted anew."""
    offset = 0
    for piece in found.pieces:
        if isinstance(piece, Kept) and (records := decode_row(source.row(piece))):
            row = encode_row(piece.index, offset, records)
        else:
            # Nobody knows the size of lost records, so they count as 0 bytes and the offsets after them change.
            row = lost_row(piece.index, piece.end - piece.index, offset)
        offset = row.end_offset
        yield row


def _transactions(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """Yield the rows in parts of some 32 MiB, one for each transaction, so that memory is bounded."""
    part: list[Row] = []
    size = 0
    for row in rows:
        part.append(row)
        size += len(row.data)
        if size >= _TRANSACTION_BYTES:
            yield part
            part, size = [], 0
    yield part
