"""Surveys the folder of an sqlite log, row by row: its faults, and the records that a repair would keep and lose.

The survey reads through SQLite first. If SQLite or a checksum finds a fault, it reads the bytes of the file as well
(`hermes.store.log.sqlite.salvage`). Invariants: each kept row has a right checksum; every index from the first to the
next is kept or named as lost; if there is no fault, the log can be opened and read to its end, and has all records that
the watermark says were acknowledged. Read only, blocking; the caller holds the folder's lock.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path

from hermes.base.errors import ConfigError
from hermes.store.log.contract import NO_LOSS, Loss, Snapshot
from hermes.store.log.rows import MISSING, Row, claimed_end, fault, named
from hermes.store.log.sqlite import tables
from hermes.store.log.sqlite.folder import DATABASE, NOT_MARKED, REPAIRED, Watermark
from hermes.store.log.sqlite.salvage import Cell, Pages
from hermes.store.sqlite import NewerFile, reading

# Each complaint of SQLite becomes a line for the operator, and a damaged page alone may cause hundreds.
MAX_COMPLAINTS = 20
"""The most faults that SQLite's own check reports. The survey reads all rows in any case."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a log, and how a repair mends it."""

    what: str
    repair: str


@dataclass(frozen=True, slots=True)
class Kept:
    """A good row of records ``index`` to ``end - 1``. ``cell``: where salvage found the row; None: SQLite reads it."""

    index: int
    end: int
    cell: Cell | None


@dataclass(frozen=True, slots=True)
class Lost:
    """Records ``index`` to ``end - 1``, which no good row holds."""

    index: int
    end: int

    def __str__(self) -> str:
        return named(self.index, self.end)


@dataclass
class Survey:
    """The log in a folder as it is, and as a repair would make it."""

    folder: Path
    first: int = 0
    next: int = 0
    snapshot: Snapshot | None = None
    faults: list[Fault] = field(default_factory=list)
    """Empty: there is nothing to repair."""
    pieces: list[Kept | Lost] = field(default_factory=list)
    """In the order of their indexes, without a gap, from the first to the next."""
    lost_before: list[Lost] = field(default_factory=list)
    """Records that an earlier repair could not save; no fault."""
    acknowledged: Watermark = NOT_MARKED
    gone: Loss = NO_LOSS
    """Acknowledged records at the end that are missing entirely."""

    @property
    def lost(self) -> list[Lost]:
        """The records that a repair cannot save, except trimmed records."""
        trimmed = self.acknowledged.first
        lost = (piece for piece in self.pieces if isinstance(piece, Lost) and piece.end > trimmed)
        return [Lost(max(piece.index, trimmed), piece.end) for piece in lost]


def survey(folder: Path, acknowledged: Watermark = NOT_MARKED) -> Survey:
    """Survey the log in ``folder``. Raises `ConfigError` if the folder has no log, or an interrupted repair.

    How ``hermes log check`` uses the result::

        found = survey(folder, read_watermark(lock))
        for each in found.faults:
            print(each.what, each.repair)
    """
    database = folder / DATABASE
    if (folder / REPAIRED).exists():
        raise ConfigError(f"{folder}: a repair was interrupted; run `hermes log repair` again")
    if not database.exists():
        raise ConfigError(f"{folder}: there is no journal here, for {DATABASE} is missing{_missed(acknowledged)}")
    search = _Search(folder, acknowledged)
    search.ask_sqlite(database)
    found = search.conclude()
    # Only then: this reads every page of the file, which SQLite has read already.
    if found.faults:
        search.go_through_pages(database)
        found = search.conclude()
    return found


class _Search:
    """The findings so far."""

    def __init__(self, folder: Path, acknowledged: Watermark) -> None:
        self._folder = folder
        self._acknowledged = acknowledged
        self._before = b""  # the beginning of the last record before the missing ones
        self._faults: list[Fault] = []
        # Some 300 bytes of memory a row, without its data; `hermes.store.log.sqlite.repair` reads the data again.
        self._good: dict[int, Kept] = {}  # by index
        self._bad: dict[int, tuple[int, str]] = {}  # by index: where a damaged row says that it ends, what is wrong
        self._lost_before: list[Lost] = []
        self._first: int | None = None
        self._snapshot: Snapshot | None = None
        self._snapshot_is_good = False
        self._stranger: ConfigError | None = None

    def ask_sqlite(self, database: Path) -> None:
        """Take the rows, the trim point and the snapshot that SQLite can read."""
        try:
            # Read only: a survey must change nothing, or it could destroy the records that are left.
            with reading(database, tables.SCHEMA) as connection:
                for (complaint,) in connection.execute(f"PRAGMA integrity_check({MAX_COMPLAINTS})"):
                    if complaint != "ok":
                        self._faults.append(Fault(f"SQLite finds: {complaint}", "a new database is written"))
                point = connection.execute("SELECT first, offset, checksum FROM trimmed").fetchone()
                # Judged here without `tables.trim_point`, which raises: a survey goes on after damage.
                self._first = point[0] if point and tables.is_trim_point(*point) else None
                kept = connection.execute("SELECT at, checksum, state FROM snapshot").fetchone()
                self._snapshot = kept and tables.as_snapshot(*kept)
                self._snapshot_is_good = kept is None or self._snapshot is not None
                for row in tables.oldest_first(connection):
                    self._take(row, None)
                found = self.conclude()
                self._before = tables.beginning(connection, found.gone.first - 1)
                for gap in found.lost:
                    # A gap at the very end is no damaged row: the watermark alone tells of it, and `gone` counts it.
                    at_end = found.gone.records and gap.index == found.gone.first
                    if not at_end and gap.index not in self._bad_rows(found.first):
                        self._bad[gap.index] = (gap.end, MISSING)
        except sqlite3.DatabaseError as error:
            self._faults.append(
                Fault(f"SQLite cannot read the database: {error}", "what its pages hold is written anew")
            )
        # No damage: a repair by this Hermes would destroy a good log.
        except NewerFile:
            raise
        except ConfigError as error:
            self._faults.append(Fault(str(error), "what its pages hold is written anew"))
            self._stranger = error

    def go_through_pages(self, database: Path) -> None:
        """Take the good rows, trim points and snapshots on the pages of the file, also on pages that SQLite refuses."""
        points: list[int] = []
        snapshots: list[Snapshot | None] = []
        with closing(Pages(database)) as pages:
            for cell in pages.cells():
                match pages.read(cell):
                    # The three tables differ in the kinds of their columns. The first column is NULL, because SQLite
                    # stores an INTEGER PRIMARY KEY as the id of the row.
                    case index, (None, int(count), int(offset), int(checksum), bytes(data)):
                        row = Row(index, count, offset, checksum, data)
                        # Any bytes of a page may look like a row: only a right checksum makes a row.
                        if not fault(row):
                            self._take(row, cell)
                    case _, (None, int(first), int(offset), int(checksum), int()):
                        points += [first] if tables.is_trim_point(first, offset, checksum) else []
                    case _, (None, int(at), int(checksum), bytes(state)):
                        snapshots.append(tables.as_snapshot(at, checksum, state))
        # A page that is no longer in use may hold an older trim point or snapshot: the newest counts.
        if self._first is None:
            self._first = max(points, default=None)
        if not self._snapshot_is_good:
            self._snapshot = max(filter(None, snapshots), key=attrgetter("index"), default=None)
        if self._stranger is not None and not self._good:
            # The file is no log of Hermes at all: a repair would put an empty log in the place of another program's
            # data.
            raise self._stranger

    def _take(self, row: Row, cell: Cell | None) -> None:
        if what := fault(row):
            self._bad[row.index] = (claimed_end(row), what)
        # The first copy counts, which is SQLite's: salvage finds the rows on the pages again.
        elif row.index not in self._good:
            self._good[row.index] = Kept(row.index, row.end, cell)
            if not row.data:
                self._lost_before.append(Lost(row.index, row.end))

    def conclude(self) -> Survey:
        """Judge the findings."""
        found = Survey(
            self._folder, snapshot=self._snapshot, faults=list(self._faults), acknowledged=self._acknowledged
        )
        rows = [self._good[index] for index in sorted(self._good)]
        snapshot_index = self._snapshot.index if self._snapshot else 0
        if self._first is not None:
            found.first = self._first
        else:
            found.first = _beginning(rows, snapshot_index)
            found.faults.append(Fault("where the log begins cannot be read", f"it begins with record {found.first}"))
        if not self._snapshot_is_good:
            repair = f"one as of record {snapshot_index} is used" if self._snapshot else "there is none"
            found.faults.append(Fault("the snapshot cannot be read", repair))
        if not rows and found.faults:
            found.faults.append(Fault("no good row was found", "the log begins anew"))
        bad = self._bad_rows(found.first)
        ends = [row.end for row in rows] + [end for end, _ in bad.values()]
        # A snapshot stands for all records below its index, so the log has reached that index.
        there = max([*ends, found.first, snapshot_index])
        found.next = max(there, self._acknowledged.next)
        found.gone = self._find_gone(there)
        found.pieces = list(_without_gaps(rows, found.first, found.next))
        found.lost_before = [lost for lost in self._lost_before if lost.end > found.first]
        found.faults += _faults_of_rows(found.lost, bad)
        return found

    def _find_gone(self, there: int) -> Loss:
        mark = self._acknowledged
        begin = max(there, mark.first)
        if begin >= mark.next:
            return Loss(last=mark.last)
        return Loss(begin, mark.next - begin, mark.before if begin == mark.first else self._before, mark.last)

    def _bad_rows(self, first: int) -> dict[int, tuple[int, str]]:
        """The damaged rows that are not trimmed: by index, in order, their largest possible end and their fault."""
        known = sorted({*self._good, *self._bad})
        rows = {}
        # A damaged row may claim any number of records, so the next row that is known bounds it. No index is above
        # 2**63.
        for index, following in zip(known, [*known[1:], 2**63], strict=False):
            if index in self._bad:
                end, what = self._bad[index]
                if (end := min(end, following)) > first:
                    rows[max(index, first)] = (end, what)
        return rows


def _missed(mark: Watermark) -> str:
    if mark.next == mark.first:
        return ""
    return (
        f", though {named(mark.first, mark.next)} in it were acknowledged; put it back, or start Hermes to begin anew"
    )


def _faults_of_rows(lost: list[Lost], bad: dict[int, tuple[int, str]]) -> Iterator[Fault]:
    indexes = sorted(bad)
    for gap in lost:
        inside = slice(bisect_left(indexes, gap.index), bisect_left(indexes, gap.end))
        whats = [bad[index][1] for index in indexes[inside]]
        # The damaged rows that are left in `indexes` lie in no gap, so each has a good copy.
        del indexes[inside]
        yield Fault(f"{gap}: {whats[0] if whats else MISSING}", "lost; the place is marked so")
    for index in indexes:
        end, what = bad[index]
        yield Fault(f"{named(index, end)}: {what}", "a good copy was found, and is kept")


def _beginning(rows: list[Kept], snapshot_index: int) -> int:
    """Guess where a log begins whose trim point is lost: rather bring trimmed records back than lose others.

    Rows that SQLite lists are not trimmed. Rows that are only in pages may be, so they count back from the snapshot to
    the first gap.
    """
    listed = next((row.index for row in rows if row.cell is None), None)
    if listed is not None:
        return listed
    start = snapshot_index or (rows[0].index if rows else 0)
    for row in reversed(rows):
        if row.index < start <= row.end:
            start = row.index
    return start


def _without_gaps(rows: list[Kept], first: int, end: int) -> Iterator[Kept | Lost]:
    expected = first
    for row in rows:
        if row.end <= expected or (row.index < expected and expected > first):
            # A trimmed row, or one that salvage found twice.
            continue
        if row.index > expected:
            yield Lost(expected, row.index)
        yield row
        expected = row.end
    if expected < end:
        yield Lost(expected, end)
