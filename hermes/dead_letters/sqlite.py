"""The store of dead letters in one SQLite file, for DURABILITY=disk.

Invariants: a call that returns has committed (see `hermes.store.sqlite`), so its letters survive a crash; the running
service and ``hermes dlq`` use the file at the same time, and each waits for the other at most
`hermes.store.sqlite.LOCK_TIMEOUT`; removed letters give their space back to the disk. When another program deletes or
renames the file, a new one is made.
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

from hermes.base.errors import ConfigError, LogFull, LogUnavailable
from hermes.dead_letters.contract import PAGE_BYTES, PAGE_LETTERS, DeadLetter, Selection, Source
from hermes.dead_letters.evictions import Evictions
from hermes.dead_letters.rows import COLUMNS, from_row, latest, tidy
from hermes.dead_letters.tables import SCHEMA
from hermes.store.sqlite import Database, open_database, transaction

# Letters of one transaction. A removal of many is several short ones, so that a running service that adds a letter
# meanwhile does not wait for all of it.
REMOVED_AT_ONCE = 1000
# Bytes that an empty database and the files beside it take.
_LEAST_ROOM = 64 * 2**10

# ON CONFLICT … DO UPDATE, not INSERT OR REPLACE: the letter that is refused again keeps its number.
_ADD = f"""
INSERT INTO letters ({", ".join(COLUMNS[1:])}, digest) VALUES ({", ".join("?" * len(COLUMNS))})
ON CONFLICT (digest, part, source) DO UPDATE SET reason = excluded.reason, attempts = excluded.attempts,
    rejected_at = excluded.rejected_at, received_at = excluded.received_at
"""  # noqa: S608 - the columns are ours
# RETURNING counts the letters in the statement that removes them. A sum read before and written after lost the counts
# of other workers that added letters at the same time.
_EVICT = """
DELETE FROM letters WHERE number IN (
    SELECT number FROM letters ORDER BY number LIMIT max(0, (SELECT count(*) FROM letters) - ?)
) RETURNING number, part, source
"""
_LAST = "SELECT coalesce(max(number), 0) FROM letters"
_AMEND = "UPDATE letters SET reason = ?, attempts = ?, rejected_at = ? WHERE number = ?"

ResultT = TypeVar("ResultT")


class SqliteDeadLetters:
    """A store over an open database, which keeps the last ``max_letters``. See `DeadLetters`."""

    def __init__(self, database: Database, max_letters: int) -> None:
        self.evictions = Evictions()
        self._database = database
        self._max_letters = max_letters

    async def add(self, letters: Sequence[DeadLetter]) -> None:
        """Keep letters, on the disk; remove the oldest letters if there is no room."""

        def add(connection: sqlite3.Connection) -> tuple[int, int, list[tuple[int, str, str]]]:
            rows = latest(letters)
            with transaction(connection):
                # Both numbers are read inside the transaction: the letters between them are all of this call.
                (before,) = connection.execute(_LAST).fetchone()
                connection.executemany(_ADD, rows)
                (after,) = connection.execute(_LAST).fetchone()
                # All rows at once: SQLite cannot commit while a statement with RETURNING has rows left.
                return before, after, connection.execute(_EVICT, [self._max_letters]).fetchall()

        before, after, evicted = await self._run(add)
        left = [(number, Source(part, name)) for number, part, name in evicted]
        self.evictions.add(len(letters), before, after, left)

    async def page(
        self, selection: Selection, *, after: int = 0, limit: int = PAGE_LETTERS, max_bytes: int = PAGE_BYTES
    ) -> list[DeadLetter]:
        """The first letters that match and have a number above ``after``, in the order of their numbers."""
        condition, values = _where(selection)

        def page(connection: sqlite3.Connection) -> list[DeadLetter]:
            query = f"SELECT {', '.join(COLUMNS)} FROM letters WHERE {condition} AND number > ? ORDER BY number LIMIT ?"  # noqa: S608
            letters: list[DeadLetter] = []
            size = 0
            # Closed even when the loop ends early: a statement that is under way holds its read transaction open, and
            # no checkpoint could empty the write-ahead file.
            with closing(connection.execute(query, [*values, after, limit])) as rows:
                for row in rows:
                    # The body is the last of `COLUMNS`.
                    size += len(row[-1])
                    # The first letter is returned whatever its size, or a reader would never get past it.
                    if letters and size > max_bytes:
                        break
                    letters.append(from_row(row))
            return letters

        return await self._run(page)

    async def count(self, selection: Selection) -> Mapping[Source, int]:
        """How many letters match, by source."""
        condition, values = _where(selection)
        # SQLite compares text byte by byte, so this is the order in which the other stores sort the sources.
        query = (
            f"SELECT part, source, count(*) FROM letters WHERE {condition} GROUP BY part, source ORDER BY part, source"  # noqa: S608
        )
        rows = await self._run(lambda connection: connection.execute(query, values).fetchall())
        return {Source(part, name): count for part, name, count in rows}

    async def last(self) -> int:
        """The highest number of a letter in the store; 0 if the store is empty."""

        def last(connection: sqlite3.Connection) -> int:
            (number,) = connection.execute(_LAST).fetchone()
            return int(number)

        return await self._run(last)

    async def amend(self, letters: Sequence[DeadLetter]) -> None:
        """Update reason, attempts and time of letters that were refused again, by their numbers."""

        def amend(connection: sqlite3.Connection) -> None:
            with transaction(connection):
                # By number: a letter that was removed meanwhile has no row, and is left out without an error.
                connection.executemany(
                    _AMEND,
                    [(tidy(letter.reason), letter.attempts, letter.rejected_at, letter.number) for letter in letters],
                )

        await self._run(amend)

    async def remove(self, selection: Selection) -> int:
        """Delete the letters that match; return their count."""
        condition, values = _where(selection)
        statement = f"DELETE FROM letters WHERE number IN (SELECT number FROM letters WHERE {condition} LIMIT ?)"  # noqa: S608

        def remove(connection: sqlite3.Connection) -> int:
            with transaction(connection):
                removed = connection.execute(statement, [*values, REMOVED_AT_ONCE]).rowcount
            # A script, for `execute` steps the statement once, and each step frees a single page.
            connection.executescript("PRAGMA incremental_vacuum")
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
            # A misuse of sqlite3 is a bug of ours: it must not look like a disk that fails.
            raise
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
        # The name needs no quoting: a fact's name has only ASCII letters and underscores (see `DeadLetter`).
        # json_extract gives a number for a number, so the fact is compared as it is.
        parts.append((f"json_extract(facts, '$.{name}') = ?", fact))
    if selection.reason is not None:
        # SQLite's lower changes ASCII letters alone, and the other stores follow it.
        parts.append(("instr(lower(reason), lower(?)) > 0", selection.reason))
    if selection.since is not None:
        parts.append(("rejected_at >= ?", selection.since))
    if selection.numbers is not None:
        # One value for all numbers: SQLite bounds how many values a statement may have.
        parts.append(("number IN (SELECT value FROM json_each(?))", json.dumps(list(selection.numbers))))
    if selection.up_to is not None:
        parts.append(("number <= ?", selection.up_to))
    # TRUE, so that a selection without conditions is a condition too.
    return " AND ".join(["TRUE", *(condition for condition, _ in parts)]), [value for _, value in parts]


@asynccontextmanager
async def open_sqlite_dead_letters(path: Path, max_letters: int) -> AsyncIterator[SqliteDeadLetters]:
    """Open or make the store in the file ``path``, for this user alone; the store keeps the last ``max_letters``.

    Raises `hermes.ConfigError` with the reason if the file cannot be used; `hermes.LogFull` for a full disk.

        async with open_sqlite_dead_letters(Path("hermes-data/dead-letters.db"), 100_000) as store:
            print(await store.count(Selection()))
    """
    async with AsyncExitStack() as stack:
        try:
            database = await stack.enter_async_context(open_database(path, SCHEMA))
        # Before its base class, which stands for a file that is no database, or a damaged one.
        except sqlite3.OperationalError as error:
            # The disk is asked, because SQLite tells a full one in different ways (see `_is_full`).
            if await trio.to_thread.run_sync(_is_full, path.parent, error):
                raise LogFull(f"{path}: the disk is full") from error
            raise ConfigError(f"{path}: cannot be used: {error}") from error
        except sqlite3.DatabaseError as error:
            raise ConfigError(f"{path}: cannot be used: {error}; move it away to begin a new one") from error
        yield SqliteDeadLetters(database, max_letters)


def _is_full(folder: Path, error: sqlite3.OperationalError) -> bool:
    """Whether SQLite has failed for want of room."""
    # SQLITE_FULL alone is not enough: when the shared-memory file cannot grow, SQLite calls that an I/O error.
    room = os.statvfs(folder)
    return error.sqlite_errorcode == sqlite3.SQLITE_FULL or room.f_bavail * room.f_frsize < _LEAST_ROOM
