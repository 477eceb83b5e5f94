"""What is in the folder of a log, row by row: its faults, and what a repair would keep and lose. Offline, read only.

SQLite is asked first. Where it or a checksum says that something is wrong, the bytes of the file are gone through as
well (`hermes.log.salvage`). Invariants: what is kept has a right checksum; every index between the first and the next
is kept or named as lost; no fault means that the log can be opened and read to its end, and has all that the watermark
says was acknowledged. Of each row some 300 bytes are
held in memory. Called by ``hermes log check`` and ``hermes log repair``, who hold the folder's lock. Blocking.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path

from hermes.errors import ConfigError
from hermes.log import tables
from hermes.log.contract import NO_LOSS, Loss, Snapshot
from hermes.log.folder import DATABASE, NOT_MARKED, REPAIRED, Watermark
from hermes.log.rows import MISSING, Row, claimed_end, fault, named
from hermes.log.salvage import Cell, Pages
from hermes.sqlite import NewerFile, reading

MAX_COMPLAINTS = 20
"""How many faults of its own SQLite is asked for; the rows are gone through in any case."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is wrong, and what a repair does about it."""

    what: str
    repair: str


@dataclass(frozen=True, slots=True)
class Kept:
    """A good row from ``index`` to before ``end``. ``cell``: where salvage found it; None: SQLite has it."""

    index: int
    end: int
    cell: Cell | None


@dataclass(frozen=True, slots=True)
class Lost:
    """Records from ``index`` to before ``end`` of which no good row was found."""

    index: int
    end: int

    def __str__(self) -> str:
        return named(self.index, self.end)


@dataclass
class Survey:
    """What is in a folder, and what would be in it after a repair."""

    folder: Path
    first: int = 0
    next: int = 0
    snapshot: Snapshot | None = None
    faults: list[Fault] = field(default_factory=list)
    """Empty: there is nothing to repair."""
    pieces: list[Kept | Lost] = field(default_factory=list)
    """In the order of their indexes, without a gap, from the first to the next."""
    lost_before: list[Lost] = field(default_factory=list)
    """What an earlier repair could not save; no fault."""
    acknowledged: Watermark = NOT_MARKED
    gone: Loss = NO_LOSS
    """Records at the end that were acknowledged, and of which nothing is there."""

    @property
    def lost(self) -> list[Lost]:
        """The records that a repair cannot save, without those that were trimmed already."""
        trimmed = self.acknowledged.first
        lost = (piece for piece in self.pieces if isinstance(piece, Lost) and piece.end > trimmed)
        return [Lost(max(piece.index, trimmed), piece.end) for piece in lost]


def survey(folder: Path, acknowledged: Watermark = NOT_MARKED) -> Survey:
    """Go through everything in the folder of a log. Raises `ConfigError` where there is none to go through."""
    database = folder / DATABASE
    if (folder / REPAIRED).exists():
        raise ConfigError(f"{folder}: a repair was interrupted; run `hermes log repair` again")
    if not database.exists():
        raise ConfigError(f"{folder}: there is no journal here, for {DATABASE} is missing{_missed(acknowledged)}")
    search = _Search(folder, acknowledged)
    search.ask_sqlite(database)
    found = search.conclude()
    if found.faults:
        search.go_through_pages(database)
        found = search.conclude()
    return found


class _Search:
    """What has been found so far."""

    def __init__(self, folder: Path, acknowledged: Watermark) -> None:
        self._folder = folder
        self._acknowledged = acknowledged
        self._before = b""  # how the record before those that are gone begins
        self._faults: list[Fault] = []
        self._good: dict[int, Kept] = {}  # by index
        self._bad: dict[int, tuple[int, str]] = {}  # by index: where a damaged row says that it ends, what is wrong
        self._lost_before: list[Lost] = []
        self._first: int | None = None
        self._snapshot: Snapshot | None = None
        self._snapshot_is_good = False
        self._stranger: ConfigError | None = None

    def ask_sqlite(self, database: Path) -> None:
        """Take what SQLite can read."""
        try:
            with reading(database, tables.SCHEMA) as connection:
                for (complaint,) in connection.execute(f"PRAGMA integrity_check({MAX_COMPLAINTS})"):
                    if complaint != "ok":
                        self._faults.append(Fault(f"SQLite finds: {complaint}", "a new database is written"))
                point = connection.execute("SELECT first, offset, checksum FROM trimmed").fetchone()
                self._first = point[0] if point and tables.is_trim_point(*point) else None
                kept = connection.execute("SELECT at, checksum, state FROM snapshot").fetchone()
                self._snapshot = kept and tables.as_snapshot(*kept)
                self._snapshot_is_good = kept is None or self._snapshot is not None
                for row in tables.oldest_first(connection):
                    self._take(row, None)
                found = self.conclude()
                self._before = tables.beginning(connection, found.gone.first - 1)
                for gap in found.lost:
                    at_end = found.gone.records and gap.index == found.gone.first
                    if not at_end and gap.index not in self._bad_rows(found.first):
                        self._bad[gap.index] = (gap.end, MISSING)
        except sqlite3.DatabaseError as error:
            self._faults.append(
                Fault(f"SQLite cannot read the database: {error}", "what its pages hold is written anew")
            )
        except NewerFile:
            raise
        except ConfigError as error:
            self._faults.append(Fault(str(error), "what its pages hold is written anew"))
            self._stranger = error

    def go_through_pages(self, database: Path) -> None:
        """Take what the pages of the file hold, whatever SQLite thinks of them."""
        points: list[int] = []
        snapshots: list[Snapshot | None] = []
        with closing(Pages(database)) as pages:
            for cell in pages.cells():
                match pages.read(cell):
                    case index, (None, int(count), int(offset), int(checksum), bytes(data)):
                        row = Row(index, count, offset, checksum, data)
                        if not fault(row):
                            self._take(row, cell)
                    case _, (None, int(first), int(offset), int(checksum), int()):
                        points += [first] if tables.is_trim_point(first, offset, checksum) else []
                    case _, (None, int(at), int(checksum), bytes(state)):
                        snapshots.append(tables.as_snapshot(at, checksum, state))
        # A page that is no longer in use may hold an older one.
        if self._first is None:
            self._first = max(points, default=None)
        if not self._snapshot_is_good:
            self._snapshot = max(filter(None, snapshots), key=attrgetter("index"), default=None)
        if self._stranger is not None and not self._good:
            raise self._stranger

    def _take(self, row: Row, cell: Cell | None) -> None:
        if what := fault(row):
            self._bad[row.index] = (claimed_end(row), what)
        elif row.index not in self._good:
            self._good[row.index] = Kept(row.index, row.end, cell)
            if not row.data:
                self._lost_before.append(Lost(row.index, row.end))

    def conclude(self) -> Survey:
        """Judge what was found."""
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
        """The damaged rows that are not trimmed: by index, where they end at most and what is wrong, in order."""
        known = sorted({*self._good, *self._bad})
        rows = {}
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
        del indexes[inside]
        yield Fault(f"{gap}: {whats[0] if whats else MISSING}", "lost; the place is marked so")
    for index in indexes:
        end, what = bad[index]
        yield Fault(f"{named(index, end)}: {what}", "a good copy was found, and is kept")


def _beginning(rows: list[Kept], snapshot_index: int) -> int:
    """Where a log may begin of which that is not known: what was trimmed comes back rather than that more is lost.

    What SQLite lists has not been trimmed; what is found in pages may have been. Before the snapshot a gap is the end.
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
            continue  # trimmed, or there twice
        if row.index > expected:
            yield Lost(expected, row.index)
        yield row
        expected = row.end
    if expected < end:
        yield Lost(expected, end)
