"""Logs to be damaged, and ways to damage their files, for the tests of what is cut, checked and repaired."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from random import Random

from hermes.store.log.sqlite.log import open_sqlite_log
from hermes.store.log.sqlite.tables import PAGE_BYTES

SNAPSHOT = b"the state of the reader"
FIRST, SNAPSHOT_INDEX = 25, 30


def make_records(count: int = 60) -> list[bytes]:
    """Records that are easily told apart: small ones, some of a few pages, one of many."""
    chance = Random(3)
    sizes = [700_000 if n == 40 else 40_000 if n % 7 == 5 else 300 for n in range(count)]
    return [b"record %d:" % n + chance.randbytes(size) for n, size in enumerate(sizes)]


async def make_log(folder: Path, records: Iterable[bytes]) -> None:
    """A closed log of a row a record, trimmed to `FIRST`, with a snapshot."""
    async with open_sqlite_log(folder) as log:
        for data in records:
            await log.append([data])
        await log.take_snapshot(SNAPSHOT_INDEX, SNAPSHOT)
        await log.trim(FIRST)


class Damage:
    """Writes over the database of a folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "log.db"

    @property
    def content(self) -> bytearray:
        return bytearray(self.path.read_bytes())

    def write(self, at: int, data: bytes) -> None:
        with self.path.open("r+b") as file:
            file.seek(at)
            file.write(data)

    def flip(self, text: bytes) -> None:
        """Change a byte wherever this text stands: SQLite leaves copies in what is free of a page."""
        content = self.content
        at = content.find(text)
        assert at >= 0
        while at >= 0:
            self.write(at, bytes([content[at] ^ 0x55]))
            at = content.find(text, at + 1)

    def page_of(self, text: bytes) -> int:
        """The page, counted from 0, on which this text stands."""
        content = self.content
        assert content.count(text) == 1
        return content.index(text) // PAGE_BYTES

    def overwrite_page(self, page: int) -> None:
        self.write(page * PAGE_BYTES, Random(page).randbytes(PAGE_BYTES))

    def root_page(self, table: str) -> int:
        with closing(sqlite3.connect(self.path)) as connection:
            (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
        return int(page) - 1

    def execute(self, statement: str, *values: object) -> None:
        """Change the database by SQL, past the log."""
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute(statement, values)
            connection.commit()
