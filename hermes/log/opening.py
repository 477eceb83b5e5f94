"""What is found when the folder of an sqlite log is opened: its extent, a torn end, and what it no longer has.

Invariants: a damaged end is kept in a file before it is cut away; what was acknowledged and is gone is said, and its
indexes do not come again. Blocking. Called by `hermes.log.sqlite`, which holds the folder's lock.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from hermes.folders import sync_folder
from hermes.log import tables
from hermes.log.contract import Loss, Snapshot
from hermes.log.folder import DATABASE, Watermark, read_watermark
from hermes.log.rows import Cut, examine, lost_row

FOLD_BYTES = 8 * 2**20
"""The write-ahead file is folded into the database after a trim or snapshot, when it has grown by this much."""

_log = structlog.get_logger("hermes.log")


@dataclass(frozen=True)
class Opened:
    """A log as it was found. ``before`` and ``last`` are the beginnings of two records: see `Watermark`."""

    extent: tables.Extent
    snapshot: Snapshot | None
    cut: Cut | None
    lost: Loss
    before: bytes
    last: bytes
    folded: bool


def prepare(folder: Path, lock: int, connection: sqlite3.Connection) -> Opened:
    """Make the log ready for its first append. Raises `LogDamaged`, and sqlite3's own errors."""
    name = str(folder / DATABASE)
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute(f"PRAGMA journal_size_limit = {FOLD_BYTES}")
    # Debian's SQLite overwrites what is deleted: that would write every record a second time, to forget it.
    connection.execute("PRAGMA secure_delete = OFF")
    connection.execute("PRAGMA cache_spill = OFF")
    try:
        folded = tables.fold(connection, "TRUNCATE") == 0
    except sqlite3.OperationalError as error:  # for want of room, maybe: what is there can be read, and be trimmed
        folded = False
        _log.warning("the write-ahead file cannot be folded into the database", log=name, reason=str(error))
    first, first_offset = tables.trim_point(connection, name)
    cut = examine(tables.newest_first(connection), first, first_offset, name)
    if cut is not None:
        saved = _save(cut, folder)
        tables.cut(connection, cut)
        _log.warning(
            "a damaged end was cut away", log=name, first=cut.lost.index, records=cut.lost.count, saved=str(saved)
        )
    mark = read_watermark(lock)
    lost = _account_for_the_lost(connection, name, cut, mark)
    sync_folder(folder)
    sync_folder(folder.parent)
    extent = tables.extent(connection, name)
    before = mark.before if mark.first == extent.first else b""
    last = tables.beginning(connection, extent.next - 1) or lost.last
    return Opened(extent, tables.snapshot(connection, name), cut, lost, before, last, folded)


def _account_for_the_lost(connection: sqlite3.Connection, name: str, cut: Cut | None, mark: Watermark) -> Loss:
    """Say how many records were acknowledged and are gone, and keep their indexes from coming again."""
    extent = tables.extent(connection, name)
    if mark.next > extent.next:
        tables.insert(connection, [lost_row(extent.next, mark.next - extent.next, extent.next_offset)])
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
    """Keep the rows that are cut away: for each, a line of JSON and then its data."""
    path = folder / f"cut-{cut.lost.index}-{time.time_ns()}"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        for row in cut.rows:
            heading = asdict(row) | {"data": len(row.data)}
            file.write(json.dumps(heading).encode() + b"\n" + row.data + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return path
