"""What is stored on the simulated disk, read from copies of the files, as an operator would who finds them.

Invariant: the files and those who use them notice nothing. Read by the oracle and by the run, at any moment.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import zstandard

from hermes.dead_letters import DeadLetter
from hermes.dead_letters.rows import COLUMNS, from_row
from hermes.events.event import Event
from hermes.storage import DEAD_LETTERS_FILE
from tests.simulation.disk import DATA, Disk

_SIDECARS = ("-wal", "-journal")


def query(disk: Disk, name: str, statement: str) -> Sequence[Any]:
    """The rows that a database has; none where there is no file, or no table yet."""
    path = disk.mount.root / DATA / name
    if not path.exists():
        return []
    disk.scratch.mkdir(exist_ok=True)
    copy = disk.scratch / path.name
    for suffix in ("", *_SIDECARS):
        source, target = path.with_name(path.name + suffix), copy.with_name(copy.name + suffix)
        target.unlink(missing_ok=True)
        if source.exists():
            target.write_bytes(source.read_bytes())
    with closing(sqlite3.connect(f"file:{copy}?vfs=unix", uri=True)) as connection:
        if not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            return []
        return connection.execute(statement).fetchall()


def kept_letters(disk: Disk) -> list[DeadLetter]:
    """All dead letters."""
    return [
        from_row(row)
        for row in query(disk, DEAD_LETTERS_FILE, f"SELECT {', '.join(COLUMNS)} FROM letters ORDER BY number")
    ]


def table_rows(disk: Disk, name: str) -> list[Event]:
    """The events in the table of the sqlite sink."""
    rows = query(disk, name, "SELECT id, user_id, type, ts, payload FROM events ORDER BY rowid")
    return [Event(id_, user, type_, ts, msgspec.Raw(payload.encode())) for id_, user, type_, ts, payload in rows]


def lines(disk: Disk, folder: str) -> Iterator[bytes]:
    """The lines in all files of the file sink, oldest file first; the last of a file may be without its end."""
    place = disk.mount.root / DATA / folder
    files = {_stem(path): path for path in sorted(place.glob("*.jsonl*"))} if place.exists() else {}
    for _, path in sorted(files.items()):
        yield from _plain(path).splitlines(keepends=True)


def as_event(line: bytes) -> Event:
    """The event of a line. Raises `msgspec.MsgspecError`."""
    found = msgspec.json.decode(line, type=_Line)
    return Event(found.id, found.user_id, found.type, found.timestamp, found.payload)


class _Line(msgspec.Struct):
    id: str
    user_id: str
    type: str
    timestamp: int
    payload: msgspec.Raw


def _stem(path: Path) -> str:
    """The same for a file that is sealed and for one that has its final name, which may both be there."""
    return path.name.removeprefix(".").partition(".jsonl")[0]


def _plain(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".gz":
        return zlib.decompress(data, wbits=16 + zlib.MAX_WBITS)
    if path.suffix == ".zst":
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return data
