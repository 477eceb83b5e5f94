"""The simulated store of dead letters: the real one on SQLite, whose file is one row of the simulated disk.

Statements, schema and file are those of `hermes.dead_letters.sqlite`. Beneath them, in the place of the thread and the
kernel's file, is a database in memory; what a call has changed is written to the simulated disk as a whole file and
synced before the call returns. So a crash keeps or loses a call, and tears none: SQLite's own write-ahead log is not
simulated. Invariant: a call that changes something has returned: the change survives a crash; it has raised: nothing
was changed. Opened for one life of the service; the oracle reads the file when all is over.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import trio

from hermes import sqlite
from hermes.dead_letters import DeadLetter
from hermes.dead_letters.rows import COLUMNS, from_row
from hermes.dead_letters.sqlite import SCHEMA, SqliteDeadLetters
from tests.simulation.disk import Disk, Mount

FILE = "letters"

ResultT = TypeVar("ResultT")


def _open(image: bytes | None) -> sqlite.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None, factory=sqlite.Connection)
    if image is not None:
        connection.deserialize(image)
    sqlite._prepare(connection, Path(FILE), SCHEMA)
    return connection


def kept_letters(disk: Disk) -> list[DeadLetter]:
    """What the disk has."""
    with closing(_open(disk.file(FILE).rows.get(0))) as connection:
        rows = connection.execute(f"SELECT {', '.join(COLUMNS)} FROM letters ORDER BY number")
        return [from_row(row) for row in rows]


class SimulatedDatabase(sqlite.Database):
    """In the place of `hermes.sqlite.Database`."""

    def __init__(self, mount: Mount) -> None:
        self.path = Path(FILE)
        self._mount = mount
        self._kept = mount.rows(FILE).get(0)
        self._memory = _open(self._kept)
        self._one_at_a_time = trio.Lock()

    async def run(self, function: Callable[[sqlite.Connection], ResultT]) -> ResultT:
        async with self._one_at_a_time:
            changes = self._memory.total_changes
            result = function(self._memory)
            if self._memory.total_changes == changes:
                return result
            image = self._memory.serialize()
            self._mount.write(FILE, 0, image, whole=True)
            with trio.CancelScope(shield=True):
                try:
                    await self._mount.sync(FILE)
                except OSError as error:
                    self._memory.close()
                    self._memory = _open(self._kept)
                    raise sqlite3.OperationalError(str(error)) from error
            self._kept = image
            return result

    run_in_place = run


class SimulatedDeadLetters(SqliteDeadLetters):
    """The store on a mounted disk, for at most ``max_letters``."""

    def __init__(self, mount: Mount, max_letters: int) -> None:
        super().__init__(SimulatedDatabase(mount), max_letters)
