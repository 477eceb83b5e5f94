"""What the service stands on, as far as it can be told to be wrong before anything is opened."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hermes.base.errors import ConfigError, PluginError
from hermes.dead_letters import MemoryDeadLetters
from hermes.storage import EVENTS_LOG, check_world, log_folder, open_dead_letters, open_log
from hermes.store.settings import Storage


def test_a_database_that_cannot_be_named_is_told_without_its_password() -> None:
    with pytest.raises(ConfigError, match="DB_DSN=") as caught:
        check_world(Storage(durability="postgres", db_dsn="postgresql://me:secret@[h"))
    assert "secret" not in str(caught.value)


def test_a_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("hermes.store.postgres")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(PluginError, match=r"hermes-events\[postgres\]"):
        check_world(Storage(durability="postgres", db_dsn="host=h"))


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def write(path: Path) -> None:
    path.write_text("in the way")


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


async def test_durability_memory_keeps_nothing_on_disk(tmp_path: Path) -> None:
    storage = Storage(durability="memory", hermes_data_dir=tmp_path)
    async with open_log(storage, EVENTS_LOG) as log, open_dead_letters(storage, 9) as letters:
        assert await log.append([b"record"]) == 0
        assert isinstance(letters, MemoryDeadLetters)
    assert names_in(tmp_path) == set()


async def test_durability_disk_keeps_everything_in_the_data_folder(tmp_path: Path) -> None:
    storage = Storage(durability="disk", hermes_data_dir=tmp_path / "data")
    async with open_log(storage, EVENTS_LOG) as log, open_dead_letters(storage, 9):
        assert await log.append([b"record"]) == 0
    assert names_in(tmp_path / "data") == {"journal", "dead-letters.db"}
    assert mode_of(tmp_path / "data") == 0o700


async def test_each_log_has_a_folder_of_its_name_and_that_of_the_events_keeps_its_place(tmp_path: Path) -> None:
    storage = Storage(durability="disk", hermes_data_dir=tmp_path)
    async with open_log(storage, EVENTS_LOG) as events, open_log(storage, "jobs") as jobs:
        assert [await log.append([b"record"]) for log in (events, jobs, jobs)] == [0, 0, 1]
    assert names_in(tmp_path) == {"journal", "logs"}
    assert {mode_of(tmp_path / "logs"), mode_of(tmp_path / "logs" / "jobs")} == {0o700}
    async with open_log(storage, "jobs") as jobs:
        assert jobs.next == 2
    for name in ("", "Jobs", "../jobs", "jobs/x", "-", "x" * 41):
        with pytest.raises(ValueError, match="is not a name of a log"):
            log_folder(tmp_path, name)


async def test_a_data_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    write(tmp_path / "file")
    with pytest.raises(ConfigError, match="HERMES_DATA_DIR="):
        async with open_log(Storage(durability="disk", hermes_data_dir=tmp_path / "file" / "data"), EVENTS_LOG):
            pass
