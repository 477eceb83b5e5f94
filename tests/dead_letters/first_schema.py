"""Dead letters as 0.1.0-dev wrote them, schema 1: a file and a table made by the statements of that time.

They are written down here, and not made by today's code, for what is on somebody's disk does not change with it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import psycopg

from hermes.dead_letters import DeadLetter
from hermes.events.event import Event
from hermes.events.letters import to_event, to_letter
from hermes.testing import awkward_events, make_event

_SQLITE = """
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
CREATE TABLE letters (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    sink        TEXT NOT NULL,
    id          TEXT NOT NULL,
    user_id     TEXT NOT NULL,
    type        TEXT NOT NULL,
    ts          INTEGER NOT NULL, -- Unix seconds
    reason      TEXT NOT NULL,
    attempts    INTEGER NOT NULL,
    rejected_at REAL NOT NULL,    -- Unix seconds
    received_at REAL NOT NULL,    -- Unix seconds
    digest      BLOB NOT NULL,    -- of the event
    payload     BLOB NOT NULL,    -- the client's own JSON text
    UNIQUE (sink, digest)
);
PRAGMA application_id = 0x48524D44;
PRAGMA user_version = 458753; -- schema 1, and the mark of a commit that once failed
"""
_POSTGRES = b"""
CREATE TABLE hermes_dead_letters (
    number      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sink        text NOT NULL,
    id          text NOT NULL,
    user_id     text NOT NULL,
    type        text NOT NULL,
    ts          bigint NOT NULL,           -- Unix seconds
    reason      text NOT NULL,
    attempts    bigint NOT NULL,
    rejected_at double precision NOT NULL, -- Unix seconds
    received_at double precision NOT NULL, -- Unix seconds
    digest      bytea NOT NULL,            -- of the event
    payload     bytea NOT NULL,            -- the client's own JSON text
    UNIQUE (sink, digest)
);
COMMENT ON TABLE hermes_dead_letters IS 'Hermes dead letters, schema 1'
"""
_COLUMNS = "sink, id, user_id, type, ts, reason, attempts, rejected_at, received_at, digest, payload"


def old_letters(large: int = 0) -> list[DeadLetter]:
    """Letters of two sinks, as they are read today, with the numbers that they had: 2 and up.

    ``large`` of them have payloads of 100 KB.
    """
    events = [*awkward_events(), *(make_event(f"large-{n}", payload=_large(n)) for n in range(large))]
    return [
        to_letter(
            event, "fake" if n % 2 else "else", f"no {n}", n + 1, rejected_at=1e9 + n / 8, received_at=1e9 - n / 8
        )
        for n, event in enumerate(events)
    ]


def write_old_file(path: Path, letters: Sequence[DeadLetter]) -> None:
    """The file of an old service, which has had 1 and 2 more letters before and after these, and removed them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(_SQLITE)
        insert = f"INSERT INTO letters ({_COLUMNS}) VALUES ({', '.join('?' * 11)})"
        connection.executemany(insert, _rows(letters))
        connection.execute("DELETE FROM letters WHERE sink = 'removed'")
        connection.commit()


def write_old_table(dsn: str, letters: Sequence[DeadLetter]) -> None:
    """The same in Postgres."""
    with psycopg.connect(dsn) as connection:
        connection.execute(_POSTGRES)
        insert = f"INSERT INTO hermes_dead_letters ({_COLUMNS}) VALUES ({', '.join(['%s'] * 11)})"
        connection.cursor().executemany(insert.encode(), _rows(letters))
        connection.execute("DELETE FROM hermes_dead_letters WHERE sink = 'removed'")


def _rows(letters: Sequence[DeadLetter]) -> list[tuple[str | int | float | bytes, ...]]:
    removed = [to_letter(make_event(f"x{n}"), "removed", "", 1, rejected_at=0, received_at=0) for n in range(3)]
    return [_row(letter) for letter in (removed[0], *letters, *removed[1:])]


def _row(letter: DeadLetter) -> tuple[str | int | float | bytes, ...]:
    event = to_event(letter)
    fields = event.id, event.user_id, event.type, event.timestamp
    outcome = letter.reason, letter.attempts, letter.rejected_at, letter.received_at
    return letter.source.name, *fields, *outcome, _digest(event), bytes(event.payload)


def _digest(event: Event) -> bytes:
    """As 0.1.0-dev computed it."""
    digest = sha256()
    for part in (event.id.encode(), event.user_id.encode(), event.type.encode(), b"%d" % event.timestamp):
        digest.update(b"%d:" % len(part))
        digest.update(part)
    digest.update(event.payload)
    return digest.digest()


def _large(n: int) -> bytes:
    return b'{"v":"' + b"%06d" % n * 17_000 + b'"}'
