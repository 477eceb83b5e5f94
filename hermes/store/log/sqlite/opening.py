"""Opens the database of an sqlite log: finds its extent, cuts off a torn end, reports lost records.

Invariants: a damaged end is saved in a file before it is cut off; a loss of acknowledged records is reported, and their
indexes are never used again. The caller holds the folder's lock. Blocking.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from hermes.base.folders import sync_folder
from hermes.store.log.contract import Loss, Snapshot
from hermes.store.log.rows import Cut, examine, lost_row
from hermes.store.log.sqlite import tables
from hermes.store.log.sqlite.folder import DATABASE, Watermark, read_watermark

CHECKPOINT_BYTES = 8 * 2**20
"""Growth of the write-ahead file after which a trim or a snapshot makes a checkpoint."""

_log = structlog.get_logger("hermes.log")


@dataclass(frozen=True)
class Opened:
    """The state of a log at its opening. ``before`` and ``last`` are the beginnings of two records: see `Watermark`."""

    extent: tables.Extent
    snapshot: Snapshot | None
    cut: Cut | None
    lost: Loss
    before: bytes
    last: bytes
    checkpointed: bool


def prepare(folder: Path, lock: int, connection: sqlite3.Connection) -> Opened:
    """Make the log ready for its first append. Raises `LogDamaged`, and sqlite3's own errors."""
    name = str(folder / DATABASE)
    # A COMMIT that makes a checkpoint would report its failure although the commit itself has succeeded.
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    # SQLite begins the write-ahead file anew without making it shorter: it would keep its largest size.
    connection.execute(f"PRAGMA journal_size_limit = {CHECKPOINT_BYTES}")
    # Debian builds SQLite with secure_delete on: a trim would overwrite every deleted record with zeros.
    connection.execute("PRAGMA secure_delete = OFF")
    # A page that spills before the commit breaks the order of the frames, which `Connection.differ` relies on.
    connection.execute("PRAGMA cache_spill = OFF")
    # The process before may have left pages that only the page cache holds: write and sync all of them once more.
    try:
        checkpointed = tables.checkpoint(connection, "TRUNCATE") == 0
    # Perhaps the disk is full: the log can still be read and trimmed.
    except sqlite3.OperationalError as error:
        checkpointed = False
        _log.warning("the write-ahead file cannot be checkpointed", log=name, reason=str(error))
    first, first_offset = tables.trim_point(connection, name)
    cut = examine(tables.newest_first(connection), first, first_offset, name)
    if cut is not None:
        # Saved first: a crash between the two lines leaves the damage in place, and the next start cuts it again.
        saved = _save(cut, folder)
        tables.cut(connection, cut)
        _log.warning(
            "a damaged end was cut away", log=name, first=cut.lost.index, records=cut.lost.count, saved=str(saved)
        )
    mark = read_watermark(lock)
    lost = _account_for_the_lost(connection, name, cut, mark)
    # A new database is durable only when its name in the folder, and the folder's in its parent, are synced.
    sync_folder(folder)
    sync_folder(folder.parent)
    extent = tables.extent(connection, name)
    # The watermark is written after a trim: if the trim was interrupted, its beginnings are of other records.
    before = mark.before if mark.first == extent.first else b""
    last = tables.beginning(connection, extent.next - 1) or lost.last
    return Opened(extent, tables.snapshot(connection, name), cut, lost, before, last, checkpointed)


def _account_for_the_lost(connection: sqlite3.Connection, name: str, cut: Cut | None, mark: Watermark) -> Loss:
    """Log how many acknowledged records are gone; a row that marks them lost keeps their indexes from coming again."""
    extent = tables.extent(connection, name)
    if mark.next > extent.next:
        tables.insert(connection, [lost_row(extent.next, mark.next - extent.next, extent.next_offset)])
    # Records below the mark's ``first`` were trimmed, so their absence is no loss.
    begin = max(cut.lost.index if cut is not None else extent.next, mark.first)
    last = mark.last if mark.next >= extent.next else b""
    if begin >= mark.next:
        return Loss(last=last)
    records = mark.next - begin
    _log.error(
        "records that were acknowledged are gone",
        log=name,
        first=begin,
        records=records,
        reason="the database or its write-ahead file was damaged, emptied, removed or replaced by an older one",
    )
    before = mark.before if begin == mark.first else tables.beginning(connection, begin - 1)
    return Loss(begin, records, before, last)


def _save(cut: Cut, folder: Path) -> Path:
    """Save the rows that are cut off in a new file: for each row a line of JSON, then its data."""
    # The time makes the name unique: the same index may be cut again after another crash.
    path = folder / f"cut-{cut.lost.index}-{time.time_ns()}"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        for row in cut.rows:
            heading = asdict(row) | {"data": len(row.data)}
            file.write(json.dumps(heading).encode() + b"\n" + row.data + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return path
