"""The sqlite sink: every batch one durable transaction, every id once, and a clear word about a file it cannot use."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from hermes_sinks.sqlite import SqliteSettings, SqliteSink, open_sqlite
from msgspec import Raw

from hermes import BatchRejected, ConfigError, Event, SinkUnavailable, Storage
from hermes.testing import check_sink, make_batch, make_event, make_events
from hermes.testing.events import RECEIVED_AT
from tests.sinks.configured import configure_sinks


def opened(folder: Path, path: str = "events.db") -> AbstractAsyncContextManager[SqliteSink]:
    return open_sqlite(SqliteSettings(Path(path)), Storage(hermes_data_dir=folder))


def rows(
    path: Path, query: str = "SELECT id, user_id, type, ts, payload FROM events ORDER BY rowid"
) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


async def test_it_conforms(tmp_path: Path) -> None:
    async def read_back() -> list[Event]:
        return [Event(row[0], row[1], row[2], row[3], Raw(row[4].encode())) for row in rows(tmp_path / "events.db")]

    await check_sink(lambda: opened(tmp_path), read_back, stores_once=True, keeps_order=True, atomic=True)


async def test_the_columns_hold_what_they_say(tmp_path: Path) -> None:
    async with opened(tmp_path) as sink:
        await sink.write(make_batch([make_event("a"), make_event("b", payload='{ "é": "\\n" }')], chunk=1))
    assert rows(tmp_path / "events.db", "SELECT * FROM events") == [
        ("a", "user-1", "song_played", 1_700_000_000, "{}", RECEIVED_AT),
        ("b", "user-1", "song_played", 1_700_000_000, '{ "é": "\\n" }', RECEIVED_AT + 1),
    ]


async def test_the_folder_is_made_for_this_user_alone(tmp_path: Path) -> None:
    async with opened(tmp_path / "deep" / "data"):
        pass
    assert stat.S_IMODE((tmp_path / "deep" / "data").stat().st_mode) == 0o700
    assert (tmp_path / "deep" / "data" / "events.db").exists()


async def test_an_absolute_path_leaves_the_data_folder_alone(tmp_path: Path) -> None:
    async with opened(tmp_path / "data", str(tmp_path / "else.db")):
        pass
    assert (tmp_path / "else.db").exists()
    assert not (tmp_path / "data").exists()


async def test_a_batch_is_durable_when_the_write_returns(tmp_path: Path) -> None:
    async with opened(tmp_path) as sink:
        await sink.write(make_batch(1000))
        assert rows(tmp_path / "events.db", "SELECT count(*) FROM events") == [(1000,)]
        (level,) = sink._database._connection.execute("PRAGMA synchronous").fetchone()
        (mode,) = sink._database._connection.execute("PRAGMA journal_mode").fetchone()
    assert (level, mode) == (2, "wal")


async def test_text_that_is_no_unicode_is_rejected_by_its_index(tmp_path: Path) -> None:
    events = make_events(2500)
    events[3] = make_event("half \ud800")
    events[2100] = Event("utf8", "user", "song_played", 1, Raw(b'{"v": "\xff"}'))
    async with opened(tmp_path) as sink:
        with pytest.raises(BatchRejected) as raised:
            await sink.write(make_batch(events, chunk=700))
    assert set(raised.value.reasons) == {3, 2100}
    assert "Unicode" in raised.value.reasons[3]
    assert rows(tmp_path / "events.db", "SELECT count(*) FROM events") == [(2498,)]


@pytest.mark.parametrize(
    "change",
    [
        "CREATE UNIQUE INDEX theirs ON events (user_id, ts)",
        "ALTER TABLE events ADD COLUMN theirs TEXT CHECK (user_id <> 'taken' OR id = 'first')",
        "CREATE TRIGGER theirs BEFORE INSERT ON events WHEN new.id = 'second' BEGIN SELECT RAISE(ABORT, 'no'); END",
        "CREATE TRIGGER theirs BEFORE INSERT ON events WHEN new.id = 'second' BEGIN SELECT RAISE(FAIL, 'no'); END",
    ],
)
async def test_an_event_that_another_constraint_keeps_out_is_named_and_never_passed_over(
    tmp_path: Path, change: str
) -> None:
    """INSERT OR IGNORE passed over it, and it counted as delivered."""
    first = make_event("first", user_id="taken")
    events = [make_event("half \ud800"), *make_events(5), first, make_event("second", user_id="taken")]
    for event in events[1:6]:
        event.user_id = event.id
    async with opened(tmp_path) as sink:
        await sink.write(make_batch([first]))
        rows(tmp_path / "events.db", change)
        with pytest.raises(BatchRejected) as raised:
            await sink.write(make_batch(events, chunk=3))
    assert list(raised.value.reasons) == [0, 7]
    assert any(word in raised.value.reasons[7] for word in ("UNIQUE constraint", "CHECK constraint", "SQLite: no"))
    assert len(rows(tmp_path / "events.db")) == 6


async def test_a_trigger_that_rolls_back_leaves_nothing_of_the_batch(tmp_path: Path) -> None:
    async with opened(tmp_path) as sink:
        rows(
            tmp_path / "events.db",
            "CREATE TRIGGER theirs BEFORE INSERT ON events WHEN new.id = 'event-3' "
            "BEGIN SELECT RAISE(ROLLBACK, 'all or none'); END",
        )
        with pytest.raises(SinkUnavailable, match="all or none"):
            await sink.write(make_batch(5))
    assert not rows(tmp_path / "events.db")


async def test_a_locked_file_is_unavailable_and_works_again_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hermes.store.sqlite.LOCK_TIMEOUT", 0.05)
    async with opened(tmp_path) as sink:
        other = sqlite3.connect(tmp_path / "events.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(SinkUnavailable, match="locked"):
            await sink.write(make_batch(3))
        other.close()
        await sink.write(make_batch(3))
    assert len(rows(tmp_path / "events.db")) == 3


async def test_a_full_disk_is_unavailable_and_leaves_nothing_of_the_batch(tmp_path: Path) -> None:
    async with opened(tmp_path) as sink:
        await sink.write(make_batch(10))
        (pages,) = sink._database._connection.execute("PRAGMA page_count").fetchone()
        sink._database._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(SinkUnavailable, match="full"):
            await sink.write(make_batch(make_events(5000, prefix="more")))
        assert len(rows(tmp_path / "events.db")) == 10
        sink._database._connection.execute("PRAGMA max_page_count = 1000000")
        await sink.write(make_batch(make_events(5000, prefix="more")))
    assert len(rows(tmp_path / "events.db")) == 5010


async def test_a_missing_table_is_unavailable(tmp_path: Path) -> None:
    async with opened(tmp_path) as sink:
        sink._database._connection.execute("DROP TABLE events")
        with pytest.raises(SinkUnavailable, match="no such table"):
            await sink.write(make_batch(3))


async def refusal(folder: Path, path: str = "events.db") -> str:
    with pytest.raises(ConfigError) as raised:
        async with opened(folder, path):
            pass
    assert "\n" not in str(raised.value)
    return str(raised.value)


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "events.db").write_text("dear diary, " * 1000)
    assert "file is not a database" in await refusal(tmp_path)
    assert (tmp_path / "events.db").read_text().startswith("dear diary")


async def test_somebody_elses_database_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "events.db")
    connection.execute("CREATE TABLE events (n)")
    connection.close()
    assert "belongs to another program" in await refusal(tmp_path)


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as sink:
        sink._database._connection.execute("PRAGMA user_version = 99")
    assert "newer Hermes (schema 99" in await refusal(tmp_path)


async def test_a_path_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "SINK_SQLITE_PATH" in await refusal(tmp_path, "file/events.db")
    assert "unable to open" in await refusal(tmp_path, str(tmp_path))


async def test_what_was_stored_is_there_after_a_restart(tmp_path: Path) -> None:
    for prefix in ("one", "two", "one"):
        async with opened(tmp_path) as sink:
            await sink.write(make_batch(make_events(5, prefix=prefix)))
    assert len(rows(tmp_path / "events.db")) == 10


def test_its_path_is_a_variable() -> None:
    (found,) = configure_sinks(["sqlite"], {"SINK_SQLITE_PATH": "/elsewhere/e.db"})
    assert found.settings == SqliteSettings(Path("/elsewhere/e.db"))
