"""The store of dead letters in one SQLite file, for DURABILITY=disk.

Invariants: a call that returns has committed (see `hermes.sqlite`), so its letters survive a crash; the running service
and ``hermes dlq`` use the file at the same time, each within `hermes.sqlite.LOCK_TIMEOUT`; what is removed in numbers
gives its space back. A long removal is made of short transactions, so that nobody else waits for all of it. A file that
another program deletes or renames is begun anew.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import TypeVar

import trio

from hermes.dead_letters.contract import PAGE_BYTES, PAGE_LETTERS, DeadLetter, Selection, Source
from hermes.dead_letters.evictions import Evictions
from hermes.dead_letters.rows import COLUMNS, from_row, latest, tidy
from hermes.dead_letters.tables import SCHEMA
from hermes.errors import ConfigError, LogFull, LogUnavailable
from hermes.sqlite import Database, open_database, transaction

REMOVED_AT_ONCE = 1000  # letters of one transaction
_LEAST_ROOM = 64 * 2**10  # bytes: what an empty database and the files beside it take

_ADD = f"""
INSERT INTO letters ({", ".join(COLUMNS[1:])}, digest) VALUES ({", ".join("?" * len(COLUMNS))})
ON CONFLICT (digest, part, source) DO UPDATE SET reason = excluded.reason, attempts = excluded.attempts,
    rejected_at = excluded.rejected_at, received_at = excluded.received_at
"""  # noqa: S608 - the columns are ours
_EVICT = """
DELETE FROM letters WHERE number IN (
    SELECT number FROM letters ORDER BY number LIMIT max(0, (SELECT count(*) FROM letters) - ?)
) RETURNING number, part, source
"""
_LAST = "SELECT coalesce(max(number), 0) FROM letters"
_AMEND = "UPDATE letters SET reason = ?, attempts = ?, rejected_at = ? WHERE number = ?"

ResultT = TypeVar("ResultT")


class SqliteDeadLetters:
    """A store over an open database; it keeps the last ``max_letters``. See `DeadLetters`."""

    def __init__(self, database: Database, max_letters: int) -> None:
        self.evictions = Evictions()
        self._database = database
        self._max_letters = max_letters

    async def add(self, letters: Sequence[DeadLetter]) -> None:
        """Keep letters, on the disk; the oldest make room."""

        def add(connection: sqlite3.Connection) -> tuple[int, int, list[tuple[int, str, str]]]:
            rows = latest(letters)
            with transaction(connection):
                (before,) = connection.execute(_LAST).fetchone()
                connection.executemany(_ADD, rows)
                (after,) = connection.execute(_LAST).fetchone()
                return before, after, connection.execute(_EVICT, [self._max_letters]).fetchall()

        before, after, evicted = await self._run(add)
        self.evictions.add(before, after, [(number, Source(part, name)) for number, part, name in evicted])

    async def page(
        self, selection: Selection, *, after: int = 0, limit: int = PAGE_LETTERS, max_bytes: int = PAGE_BYTES
    ) -> list[DeadLetter]:
        """The first letters that match and have a number above ``after``, in the order of their numbers."""
        condition, values = _where(selection)

        def page(connection: sqlite3.Connection) -> list[DeadLetter]:
            query = f"SELECT {', '.join(COLUMNS)} FROM letters WHERE {condition} AND number > ? ORDER BY number LIMIT ?"  # noqa: S608
            letters: list[DeadLetter] = []
            size = 0
            with closing(connection.execute(query, [*values, after, limit])) as rows:
                for row in rows:
                    size += len(row[-1])
                    if letters and size > max_bytes:
                        break
                    letters.append(from_row(row))
            return letters

        return await self._run(page)

    async def count(self, selection: Selection) -> Mapping[Source, int]:
        """How many letters match, by source."""
        condition, values = _where(selection)
        query = (
            f"SELECT part, source, count(*) FROM letters WHERE {condition} GROUP BY part, source ORDER BY part, source"  # noqa: S608
        )
        rows = await self._run(lambda connection: connection.execute(query, values).fetchall())
        return {Source(part, name): count for part, name, count in rows}

    async def last(self) -> int:
        """The highest number of a letter that is kept, 0 if there is none."""

        def last(connection: sqlite3.Connection) -> int:
            (number,) = connection.execute(_LAST).fetchone()
            return int(number)

        return await self._run(last)

    async def amend(self, letters: Sequence[DeadLetter]) -> None:
        """Write reason, attempts and time of letters that were refused again, by their numbers."""

        def amend(connection: sqlite3.Connection) -> None:
            with transaction(connection):
                connection.executemany(
                    _AMEND,
                    [(tidy(letter.reason), letter.attempts, letter.rejected_at, letter.number) for letter in letters],
                )

        await self._run(amend)

    async def remove(self, selection: Selection) -> int:
        """Forget the letters that match for good; return how many of them there were."""
        condition, values = _where(selection)
        statement = f"DELETE FROM letters WHERE number IN (SELECT number FROM letters WHERE {condition} LIMIT ?)"  # noqa: S608

        def remove(connection: sqlite3.Connection) -> int:
            with transaction(connection):
                removed = connection.execute(statement, [*values, REMOVED_AT_ONCE]).rowcount
            connection.executescript("PRAGMA incremental_vacuum")  # a script, for `execute` would free a single page
            return removed

        removed = part = await self._run(remove)
        while part == REMOVED_AT_ONCE:
            part = await self._run(remove)
            removed += part
        return removed

    async def _run(self, function: Callable[[sqlite3.Connection], ResultT]) -> ResultT:
        try:
            return await self._database.run_in_place(function)
        except sqlite3.ProgrammingError:
            raise  # ours to mend
        except sqlite3.DatabaseError as error:
            raise LogUnavailable(f"the dead letters in {self._database.path}: {error}") from error


def _where(selection: Selection) -> tuple[str, list[str | float]]:
    """The condition of a selection and its values."""
    parts: list[tuple[str, str | float]] = []
    if selection.part is not None:
        parts.append(("part = ?", selection.part))
    if selection.name is not None:
        parts.append(("source = ?", selection.name))
    for name, fact in selection.facts.items():
        parts.append((f"json_extract(facts, '$.{name}') = ?", fact))
    if selection.reason is not None:
        parts.append(("instr(lower(reason), lower(?)) > 0", selection.reason))  # SQLite's lower knows ASCII alone
    if selection.since is not None:
        parts.append(("rejected_at >= ?", selection.since))
    if selection.numbers is not None:
        parts.append(("number IN (SELECT value FROM json_each(?))", json.dumps(list(selection.numbers))))
    if selection.up_to is not None:
        parts.append(("number <= ?", selection.up_to))
    return " AND ".join(["TRUE", *(condition for condition, _ in parts)]), [value for _, value in parts]


@asynccontextmanager
async def open_sqlite_dead_letters(path: Path, max_letters: int) -> AsyncIterator[SqliteDeadLetters]:
    """Open or make the store in the file ``path``, for this user alone; it keeps the last ``max_letters``.

    Raises `hermes.ConfigError` for a file that cannot be used, and says why; `hermes.LogFull` for a full disk.
    """
    async with AsyncExitStack() as stack:
        try:
            database = await stack.enter_async_context(open_database(path, SCHEMA))
        except sqlite3.OperationalError as error:
            if await trio.to_thread.run_sync(_is_full, path.parent, error):
                raise LogFull(f"{path}: the disk is full") from error
            raise ConfigError(f"{path}: cannot be used: {error}") from error
        except sqlite3.DatabaseError as error:
            raise ConfigError(f"{path}: cannot be used: {error}; move it away to begin a new one") from error
        yield SqliteDeadLetters(database, max_letters)


def _is_full(folder: Path, error: sqlite3.OperationalError) -> bool:
    """Whether SQLite has failed for want of room. For its shared memory it says so as an I/O error."""
    room = os.statvfs(folder)
    return error.sqlite_errorcode == sqlite3.SQLITE_FULL or room.f_bavail * room.f_frsize < _LEAST_ROOM
