"""The store in one SQLite file: whose it is, what it refuses to touch, and what it says when the disk does not work."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import pytest

from hermes import ConfigError
from hermes.base.errors import LogUnavailable
from hermes.dead_letters import Selection
from hermes.dead_letters.sqlite import open_sqlite_dead_letters
from hermes.events.letters import sink_source
from hermes.store import sqlite as wrapper
from tests.dead_letters.kit import EVERYTHING, everything, ids, make_letter

FILE_NAME = "dead-letters.db"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_the_files_and_their_folder_are_for_this_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "data" / FILE_NAME
    async with open_sqlite_dead_letters(path, 10) as store:
        await store.add([make_letter()])
        assert mode(path.parent) == 0o700
        assert {mode(file) for file in path.parent.iterdir()} == {0o600}


async def test_a_letter_is_durable_when_add_returns(tmp_path: Path) -> None:
    async with open_sqlite_dead_letters(tmp_path / FILE_NAME, 10) as store:
        await store.add([make_letter()])
        connection = sqlite3.connect(tmp_path / FILE_NAME)
        assert connection.execute("SELECT facts ->> 'id' FROM letters").fetchall() == [("event-0",)]
        connection.close()
        level = await store._database.run(lambda connection: connection.execute("PRAGMA synchronous").fetchone())
    assert level == (2,)


async def test_what_is_removed_gives_its_space_back(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    async with open_sqlite_dead_letters(path, 10_000) as store:
        await store.add([make_letter(n, payload=b'{"v":"' + b"x" * 4000 + b'"}') for n in range(2500)])
    full = path.stat().st_size
    assert full > 10_000_000
    async with open_sqlite_dead_letters(path, 10_000) as store:
        assert await store.remove(EVERYTHING) == 2500
    assert path.stat().st_size < full / 100


async def test_another_process_that_holds_the_file_is_waited_for_and_then_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wrapper, "LOCK_TIMEOUT", 0.05)
    path = tmp_path / FILE_NAME
    async with open_sqlite_dead_letters(path, 10) as store:
        await store.add([make_letter(1)])
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for change in (store.add([make_letter(2)]), store.amend([make_letter(1)]), store.remove(EVERYTHING)):
            with pytest.raises(LogUnavailable, match="database is locked"):
                await change
        assert await ids(store) == ["event-1"]
        other.close()
        await store.add([make_letter(2)])
        assert await ids(store) == ["event-1", "event-2"]


async def test_a_full_disk_is_said_and_nothing_of_the_call_is_kept(tmp_path: Path) -> None:
    async with open_sqlite_dead_letters(tmp_path / FILE_NAME, 10_000) as store:
        await store.add([make_letter(0)])
        await limit_pages(store, 12)
        with pytest.raises(LogUnavailable, match="full"):
            await store.add([make_letter(n) for n in range(1, 5000)])
        assert (await ids(store), store.evictions.total) == (["event-0"], 0)
        await limit_pages(store, 1_000_000)
        await store.add([make_letter(n) for n in range(1, 5000)])
        assert await store.count(EVERYTHING) == {sink_source("fake"): 5000}


async def limit_pages(store: object, pages: int) -> None:
    statement = f"PRAGMA max_page_count = {pages}"
    await store._database.run(lambda connection: connection.execute(statement).fetchall())  # type: ignore[attr-defined]


async def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as raised:
        async with open_sqlite_dead_letters(path, 10):
            pass
    assert "\n" not in str(raised.value)
    return str(raised.value)


async def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    path.write_text("dear diary, " * 1000)
    assert "file is not a database; move it away" in await refusal(path)
    assert path.read_text() == "dear diary, " * 1000


async def test_a_damaged_file_is_said_by_the_call_that_meets_the_damage(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    async with open_sqlite_dead_letters(path, 10) as store:
        await store.add([make_letter(n, payload=b'{"v":"' + b"x" * 9000 + b'"}') for n in range(3)])
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    path.write_bytes(data)
    async with open_sqlite_dead_letters(path, 10) as store:
        with pytest.raises(LogUnavailable, match="malformed"):
            await everything(store)


async def test_somebody_elses_database_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    connection.execute("CREATE TABLE letters (n)")
    connection.close()
    assert "belongs to another program" in await refusal(tmp_path / FILE_NAME)


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    async with open_sqlite_dead_letters(tmp_path / FILE_NAME, 10) as store:
        await store._database.run(lambda connection: connection.execute("PRAGMA user_version = 99"))
    assert "newer Hermes (schema 99" in await refusal(tmp_path / FILE_NAME)


async def test_a_path_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot be opened" in await refusal(tmp_path / "file" / FILE_NAME)


async def test_hundreds_of_numbers_are_no_limit(tmp_path: Path) -> None:
    async with open_sqlite_dead_letters(tmp_path / FILE_NAME, 10) as store:
        await store.add([make_letter(1)])
        assert await ids(store, Selection(numbers=range(100_000))) == ["event-1"]
