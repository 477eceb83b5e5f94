"""The dead letters that 0.1.0-dev left in a folder: upgraded whole, or not at all."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from click.testing import CliRunner

from hermes import ConfigError
from hermes.cli import main
from hermes.dead_letters.sqlite import open_sqlite_dead_letters
from hermes.events.letters import sink_source
from hermes.store import sqlite as wrapper
from hermes.store.sqlite import Schema, reading
from tests.dead_letters.first_schema import old_letters, write_old_file
from tests.dead_letters.kit import everything, ids, select_events

FILE_NAME = "dead-letters.db"


def query(path: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


def shape(path: Path) -> list[tuple[Any, ...]]:
    return query(path, "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name")


async def test_a_file_of_the_first_schema_is_upgraded_and_loses_nothing(tmp_path: Path) -> None:
    path, letters = tmp_path / FILE_NAME, old_letters(large=20)
    write_old_file(path, letters)
    before = path.stat().st_size
    expected = [replace(letter, number=n) for n, letter in enumerate(letters, 2)]
    for _ in range(2):
        async with open_sqlite_dead_letters(path, 1000) as store:
            assert await everything(store) == expected
    assert path.stat().st_size < before * 1.2, "the room of the old table is given back"
    async with open_sqlite_dead_letters(path, 1000) as store:
        again = replace(letters[3], reason="still no", attempts=9)
        await store.add([again])
        assert (await everything(store))[3] == replace(again, number=expected[3].number), "the same event, one letter"
        await store.add([replace(letters[3], source=sink_source("new"))])
        assert await store.last() > expected[-1].number + 2, "the numbers of letters that were removed are not used"
        assert len(await ids(store, select_events("fake"))) == len(letters) // 2
    async with open_sqlite_dead_letters(tmp_path / "new" / FILE_NAME, 10):
        assert shape(path) == shape(tmp_path / "new" / FILE_NAME)
    assert query(path, "PRAGMA user_version") == [(7 << 16 | 2,)], "the mark of a failed commit stays"


async def test_an_empty_file_of_the_first_schema_is_upgraded(tmp_path: Path) -> None:
    write_old_file(tmp_path / FILE_NAME, [])
    async with open_sqlite_dead_letters(tmp_path / FILE_NAME, 10) as store:
        await store.add(old_letters()[:1])
        assert await store.last() == 4


def test_the_commands_work_on_a_folder_of_an_older_hermes(tmp_path: Path) -> None:
    letters = old_letters()
    write_old_file(tmp_path / FILE_NAME, letters)
    with patch.dict(os.environ, {"HERMES_DATA_DIR": str(tmp_path)}, clear=True):
        result = CliRunner().invoke(main, ["dlq", "list", "--json", "--type", "song_played"])
    assert result.exit_code == 0, result.output
    listed = [json.loads(line)["event"]["id"] for line in result.stdout.split("\n") if line]
    assert listed == [letter.facts["id"] for letter in letters if letter.facts["type"] == "song_played"]


async def test_a_crash_anywhere_in_an_upgrade_leaves_a_file_that_the_next_start_upgrades(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, letters = tmp_path / "data" / FILE_NAME, old_letters(large=25)  # more than SQLite's cache holds
    write_old_file(path, letters)
    images: list[Path] = []
    execute: Callable[..., sqlite3.Cursor] = wrapper.Connection.execute

    def crash_after(connection: wrapper.Connection, *arguments: Any) -> sqlite3.Cursor:
        """Keep what is on the disk after each statement: what a process that is killed there leaves."""
        cursor = execute(connection, *arguments)
        images.append(tmp_path / f"image-{len(images)}")
        images[-1].mkdir()
        for file in (path, path.with_name(FILE_NAME + "-wal")):
            if file.exists():
                shutil.copy(file, images[-1] / file.name)
        return cursor

    with monkeypatch.context() as patched:
        patched.setattr(wrapper.Connection, "execute", crash_after)
        async with open_sqlite_dead_letters(path, 1000):
            patched.undo()
    expected = [replace(letter, number=n) for n, letter in enumerate(letters, 2)]
    found = set()
    for image in images:
        found.add(query(image / FILE_NAME, "PRAGMA user_version")[0][0] % 2**16)
        async with open_sqlite_dead_letters(image / FILE_NAME, 1000) as store:
            assert await everything(store) == expected, image
    assert found == {1, 2}


# What no upgrade leads from

NEWER = Schema(0x4D494E45, 3, "CREATE TABLE t (n, extra)", upgrades=("ALTER TABLE t ADD COLUMN extra",))


@pytest.mark.parametrize("version", [1, 4])
def test_a_version_without_an_upgrade_is_refused_with_what_to_do(tmp_path: Path, version: int) -> None:
    path = tmp_path / "my.db"
    wrapper.connect(path, Schema(0x4D494E45, version, "CREATE TABLE t (n)")).close()
    expected = "newer Hermes .*upgrade" if version == 4 else "older Hermes .*go back to the older one, or move the file"
    with pytest.raises(ConfigError, match=expected):
        wrapper.connect(path, NEWER)
    assert query(path, "PRAGMA user_version") == [(version,)]


def test_a_reader_changes_no_older_file_and_says_what_does(tmp_path: Path) -> None:
    path = tmp_path / "my.db"
    wrapper.connect(path, Schema(0x4D494E45, 2, "CREATE TABLE t (n)")).close()
    with pytest.raises(ConfigError, match=r"older Hermes .*start the service"), reading(path, NEWER):
        pass
    wrapper.connect(path, NEWER).close()
    with reading(path, NEWER) as connection:
        assert connection.execute("SELECT n, extra FROM t").fetchall() == []
