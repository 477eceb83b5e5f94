"""What holds an open file by its name notices that the name is gone, and loses nothing of what it says is stored.

A file that was deleted or renamed takes writes as before, and nobody finds them. Here each holder of one is bereft of
each of its files, in each way: what it takes afterwards is found by whoever opens the name anew, or it takes nothing.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hermes_sinks.file import FileSettings, open_file
from hermes_sinks.parquet import ParquetSettings, open_parquet
from hermes_sinks.sqlite import SqliteSettings, open_sqlite
from pyarrow import dataset

from hermes import SinkUnavailable, Storage
from hermes.base.errors import LogUnavailable
from hermes.dead_letters.sqlite import open_sqlite_dead_letters
from hermes.events.sink import Sink
from hermes.store.log.sqlite import tables
from hermes.store.log.sqlite.log import open_sqlite_log
from hermes.testing import make_batch, make_event
from tests.dead_letters.kit import make_letter

Write = Callable[[int], Awaitable[object]]


@dataclass(frozen=True)
class Holder:
    """``open`` gives a function that stores the event of a number; ``ids`` reads the folder, as a stranger would."""

    open: Callable[[Path], AbstractAsyncContextManager[Write]]
    ids: Callable[[Path], list[str]]


def as_write(sink: Sink) -> Write:
    return lambda number: sink.write(make_batch([make_event(f"event-{number}")]))


@asynccontextmanager
async def sqlite_sink(folder: Path) -> AsyncIterator[Write]:
    async with open_sqlite(SqliteSettings(), Storage(hermes_data_dir=folder)) as sink:
        yield as_write(sink)


@asynccontextmanager
async def file_sink(folder: Path) -> AsyncIterator[Write]:
    async with open_file(FileSettings(path=folder), Storage()) as sink:
        yield as_write(sink)


@asynccontextmanager
async def parquet_sink(folder: Path) -> AsyncIterator[Write]:
    async with open_parquet(ParquetSettings(url=str(folder)), Storage()) as sink:
        yield as_write(sink)


@asynccontextmanager
async def dead_letters(folder: Path) -> AsyncIterator[Write]:
    async with open_sqlite_dead_letters(folder / "dead-letters.db", 100) as store:
        yield lambda number: store.add([make_letter(number)])


@asynccontextmanager
async def journal(folder: Path) -> AsyncIterator[Write]:
    async with open_sqlite_log(folder) as log:
        yield lambda number: log.append([json.dumps({"id": f"event-{number}"}).encode()])


def column(name: str, table: str, expression: str = "id") -> Callable[[Path], list[str]]:
    def ids(folder: Path) -> list[str]:
        with closing(sqlite3.connect(f"file:{folder / name}?mode=ro", uri=True)) as connection:
            return [row[0] for row in connection.execute(f"SELECT {expression} FROM {table}")]

    return ids


def lines(folder: Path) -> list[str]:
    return [json.loads(line)["id"] for line in (folder / "events.jsonl").read_text().splitlines()]


def parquet(folder: Path) -> list[str]:
    ids: list[str] = dataset.dataset(folder).to_table(["id"])["id"].to_pylist()
    return ids


HOLDERS = {
    "sqlite sink": Holder(sqlite_sink, column("events.db", "events")),
    "dead letters": Holder(dead_letters, column("dead-letters.db", "letters", "facts ->> 'id'")),
    "file sink": Holder(file_sink, lines),
    "parquet sink": Holder(parquet_sink, parquet),
    "journal": Holder(journal, lambda _folder: []),
}


def delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def rename(path: Path) -> None:
    path.rename(path.with_name(path.name + "-aside"))


def replace(path: Path) -> None:
    """As a restored backup does."""
    if path.is_dir():
        rename(path)
        path.mkdir()
    else:
        content = path.with_name("copy")
        shutil.copyfile(path, content)
        content.replace(path)


@pytest.mark.parametrize("harm", [delete, rename, replace])
@pytest.mark.parametrize("holder", HOLDERS.values(), ids=list(HOLDERS))
async def test_what_is_taken_after_a_file_was_lost_is_found_under_its_name(
    holder: Holder, harm: Callable[[Path], None], tmp_path: Path
) -> None:
    harmed = 0
    while True:
        folder = tmp_path / f"case-{harmed}" / "held"
        folder.mkdir(parents=True)
        async with holder.open(folder) as write:
            await write(0)
            places = [folder, *sorted(path for path in folder.rglob("*") if path.is_file())]
            if harmed == len(places):
                break
            place = places[harmed]
            if place.suffix == ".parquet":
                harmed += 1
                continue  # finished: whoever takes it away has it
            harm(place)
            for number in (1, 2):
                if not folder.exists() and holder in (HOLDERS["file sink"], HOLDERS["parquet sink"]):
                    with pytest.raises(SinkUnavailable, match="No such file or directory"):
                        await write(0)
                    folder.mkdir()
                if holder is HOLDERS["journal"]:
                    with pytest.raises(
                        LogUnavailable, match="deleted or renamed while in use: put it back, or restart"
                    ):
                        await write(number)
                else:
                    await write(number)
                    assert f"event-{number}" in holder.ids(folder), place
        harmed += 1
    assert harmed >= 2


async def test_the_journal_takes_records_again_when_its_file_is_put_back(tmp_path: Path) -> None:
    database = tmp_path / "log.db"
    async with open_sqlite_log(tmp_path) as log:
        await log.append([b"0"])
        rename(database)
        with pytest.raises(LogUnavailable, match=r"^[^:]*log\.db was deleted or renamed"):
            await log.append([b"1"])
        assert [record.data for record in await log.read(0)] == [b"0"]
        (tmp_path / "log.db-aside").rename(database)
        assert await log.append([b"2"]) == 1
    async with open_sqlite_log(tmp_path) as log:
        assert [record.data for record in await log.read(0)] == [b"0", b"2"]


async def test_a_journal_that_is_renamed_between_the_look_and_the_commit_acknowledges_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tmp_path / "log.db"
    insert = tables.insert

    def rename_and_insert(*args: Any) -> None:
        rename(database)
        insert(*args)

    async with open_sqlite_log(tmp_path) as log:
        await log.append([b"0"])
        monkeypatch.setattr(tables, "insert", rename_and_insert)
        with pytest.raises(LogUnavailable, match="deleted or renamed while in use"):
            await log.append([b"1", b"1"])
        monkeypatch.undo()
        (tmp_path / "log.db-aside").rename(database)
        assert [record.data for record in await log.read(0)] == [b"0"]
        assert await log.append([b"2"]) == 1
    async with open_sqlite_log(tmp_path) as log:
        assert [record.data for record in await log.read(0)] == [b"0", b"2"]


async def test_a_name_that_another_process_has_taken_meanwhile_is_left_to_it(tmp_path: Path) -> None:
    for holder in (HOLDERS["file sink"], HOLDERS["parquet sink"]):
        folder = tmp_path / holder.open.__name__
        async with holder.open(folder) as write:
            await write(0)
            rename(folder)
            async with holder.open(folder) as other:
                await other(1)
                with pytest.raises(SinkUnavailable, match="another"):
                    await write(2)
                assert holder.ids(folder) == ["event-1"]
            await write(3)
            assert set(holder.ids(folder)) == {"event-1", "event-3"}
