"""``hermes log inspect | check | repair``: what they print, what they ask, and with which exit code they end."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest
import trio
from click.testing import CliRunner, Result

from hermes.cli import main
from hermes.events.engine.journal_record import encode_chunk
from hermes.store.log.sqlite.folder import DATABASE, REPAIRED
from hermes.store.log.sqlite.log import open_sqlite_log
from hermes.testing import make_chunk, make_events
from tests.store.log.damage import Damage

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run ``hermes log`` with a data folder of its own."""

    def run(*arguments: str, answer: str | None = None) -> Result:
        with patch.dict(os.environ, {"HERMES_DATA_DIR": str(tmp_path), "COLUMNS": "200"}, clear=True):
            return CliRunner().invoke(main, ["log", *arguments], input=answer)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A log where the service would have it: ten records, the first two trimmed, the last three of the journal."""
    folder = tmp_path / "journal"

    async def fill() -> None:
        async with open_sqlite_log(folder) as log:
            for number in range(7):
                await log.append([b"record %d" % number])
            for number in range(3):
                chunk = make_chunk(make_events(2, prefix=f"event{number}"))
                chunk.received_at = 1_700_000_000.0
                await log.append([encode_chunk(chunk, 2 * number)])
            await log.take_snapshot(2, b"state")
            await log.trim(2)

    trio.run(fill)
    return folder


def lines(result: Result) -> list[str]:
    return [" ".join(line.split()) for line in result.stdout.splitlines()]


# inspect


def test_inspect_prints_what_a_log_holds(run: Run, folder: Path) -> None:
    result = run("inspect")
    assert result.exit_code == 0
    assert f"folder {folder}" in lines(result)
    assert {"records 8: 2 to 9", "next 10", "snapshot at 2, 5 bytes"} <= set(lines(result))
    data = json.loads(run("inspect", str(folder), "--json").stdout)
    assert (data["first"], data["next"], data["rows"], data["snapshot"]) == (2, 10, 8, {"index": 2, "bytes": 5})
    assert data["bytes"] > 5 * len("record 2")
    assert data["database_bytes"] == (folder / DATABASE).stat().st_size


def test_inspect_lists_records_and_what_is_in_them(run: Run, folder: Path) -> None:
    assert lines(run("inspect", "--from", "5"))[1:] == [
        "5 8",
        "6 8",
        *(f"{index} {size} 2 {first} 2023-11-14T22:13:20Z" for index, size, first in sizes(run)),
    ]
    assert [json.loads(line) for line in run("inspect", "--limit", "2", "--json").stdout.splitlines()] == [
        {"index": 2, "bytes": 8},
        {"index": 3, "bytes": 8},
    ]
    (last,) = (json.loads(line) for line in run("inspect", "--from", "9", "--json").stdout.splitlines())
    assert (last["events"], last["first_event"]) == (2, 4)


@pytest.mark.parametrize("index", [0, 1, 10])
def test_inspect_of_a_record_that_is_gone_or_not_there_yet_is_exit_code_1(run: Run, folder: Path, index: int) -> None:
    for options in ([], ["--json"], ["--limit", "20"]):
        result = run("inspect", "--from", str(index), *options)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == f"hermes: there is no record {index} in {folder}; its records are 2 to 9\n"


def sizes(run: Run) -> list[tuple[int, int, int]]:
    rows = [json.loads(line) for line in run("inspect", "--from", "7", "--json").stdout.splitlines()]
    assert len({row["bytes"] for row in rows}) == 1
    return [(row["index"], row["bytes"], row["first_event"]) for row in rows]


async def test_inspect_tells_how_far_each_sink_has_come(run: Run, tmp_path: Path) -> None:
    state = {
        "events": 9,
        "sinks": {"main": {"cursor": 3, "settled": 4, "done": [[5, 7, 2]]}, "other": {"cursor": 9, "settled": 9}},
    }
    async with open_sqlite_log(tmp_path / "journal") as log:
        await log.append([b"x"] * 9)
        await log.take_snapshot(3, json.dumps(state).encode())
    assert lines(run("inspect"))[-2:] == [
        "sink main has every record before 3; 4 records to go",
        "sink other has every record",
    ]
    assert json.loads(run("inspect", "--json").stdout)["sinks"]["main"]["done"] == [[5, 7, 2]]


async def test_inspect_works_while_the_service_runs(run: Run, tmp_path: Path) -> None:
    async with open_sqlite_log(tmp_path / "journal") as log:
        await log.append([b"a", b"b"])
        assert "records 2: 0 to 1" in lines(run("inspect"))
        await log.append([b"c"])
        assert "records 3: 0 to 2" in lines(run("inspect"))


async def test_inspect_prints_an_empty_log(run: Run, tmp_path: Path) -> None:
    async with open_sqlite_log(tmp_path / "journal"):
        pass
    assert {"records 0", "next 0", "snapshot none"} <= set(lines(run("inspect")))
    result = run("inspect", "--from", "0")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"hermes: there is no record 0 in {tmp_path / 'journal'}; it has none\n"


def test_inspect_of_a_damaged_log_says_what_to_do(run: Run, folder: Path) -> None:
    Damage(folder).flip(b"record 5")
    result = run("inspect", "--limit", "10")
    assert result.exit_code == 2
    assert "log.db: record 5: the checksum does not fit; stop Hermes, see `hermes log check`" in result.stderr


async def test_a_log_is_found_by_its_name(run: Run, tmp_path: Path) -> None:
    async with open_sqlite_log(tmp_path / "logs" / "jobs") as log:
        await log.append([b"a", b"b"])
    assert f"folder {tmp_path / 'logs' / 'jobs'}" in lines(run("inspect", "--name", "jobs"))
    assert run("check", "--name", "jobs").exit_code == 0
    refused = run("repair", "--name", "../jobs")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "is not a name of a log" in refused.stderr


# check


def test_check_finds_nothing_wrong_with_a_good_log(run: Run, folder: Path) -> None:
    result = run("check")
    assert (result.exit_code, result.output) == (
        0,
        f"{folder}: no fault; records 2 to 9; acknowledged up to record 9.\n",
    )
    assert json.loads(run("check", "--json").stdout) == {
        "first": 2,
        "next": 10,
        "faults": [],
        "lost": [],
        "lost_before": [],
        "acknowledged": [2, 10],
        "gone": None,
    }


def test_check_says_what_a_repair_would_do_and_lose(run: Run, folder: Path) -> None:
    Damage(folder).flip(b"record 3")
    Damage(folder).flip(b"record 5")
    result = run("check", str(folder))
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "- record 3: the checksum does not fit",
        "  repair: lost; the place is marked so",
        "- record 5: the checksum does not fit",
        "  repair: lost; the place is marked so",
        "A repair would lose 2 records: record 3, record 5, and keep the rest.",
    ]
    data = json.loads(run("check", "--json").stdout)
    assert data["lost"] == [[3, 4], [5, 6]]
    assert data["faults"][0] == {
        "what": "record 3: the checksum does not fit",
        "repair": "lost; the place is marked so",
    }


@pytest.mark.parametrize(("records", "words"), [(1, "record 9, 2 events"), (2, "records 8 to 9, 4 events")])
def test_check_says_what_was_acknowledged_and_is_gone(records: int, words: str, run: Run, folder: Path) -> None:
    Damage(folder).execute("DELETE FROM batches WHERE first >= ?", 10 - records)
    result = run("check")
    assert result.exit_code == 1
    assert f"Acknowledged, and gone from the end: {words}." in result.stdout.splitlines()
    assert json.loads(run("check", "--json").stdout)["gone"]["events"] == 2 * records
    (folder / DATABASE).unlink()
    result = run("check")
    assert result.exit_code == 2
    assert "log.db is missing, though records 2 to 9 in it were acknowledged; put it back" in result.stderr


def test_check_says_when_nothing_would_be_lost(run: Run, folder: Path) -> None:
    Damage(folder).execute("UPDATE trimmed SET checksum = 1")
    result = run("check")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == "A repair would lose no record."


# repair


def test_repair_of_a_good_log_does_nothing(run: Run, folder: Path) -> None:
    before = (folder / DATABASE).read_bytes()
    result = run("repair")
    assert (result.exit_code, result.output) == (
        0,
        f"{folder}: no fault; records 2 to 9; acknowledged up to record 9.\n",
    )
    assert (folder / DATABASE).read_bytes() == before


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_repair_does_nothing_that_was_not_confirmed(answer: str, run: Run, folder: Path) -> None:
    Damage(folder).flip(b"record 3")
    before = (folder / DATABASE).read_bytes()
    result = run("repair", answer=answer)
    assert result.exit_code == 1
    assert "A repair would lose 1 record: record 3, and keep the rest." in result.stdout
    assert (folder / DATABASE).read_bytes() == before
    assert not list(folder.glob("*damaged*"))


@pytest.mark.parametrize("arguments", [{"answer": "y\n"}, {"yes": True}], ids=["confirmed", "--yes"])
def test_repair_mends_a_log_and_keeps_the_damaged_one(arguments: dict[str, object], run: Run, folder: Path) -> None:
    Damage(folder).flip(b"record 3")
    result = run("repair", "--yes") if "yes" in arguments else run("repair", answer="y\n")
    assert result.exit_code == 0
    (aside,) = [path for path in folder.glob("log.db.damaged-*") if not path.name.endswith(("-wal", "-shm"))]
    assert f"Repaired. The damaged database is {aside}; delete it when nothing is missed." in result.stdout
    result = run("check")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == "Lost before: 1 record: record 3."
    listed = [json.loads(line)["index"] for line in run("inspect", "--limit", "99", "--json").stdout.splitlines()]
    assert listed == [2, 4, 5, 6, 7, 8, 9]


def test_repair_finishes_one_that_was_interrupted(run: Run, folder: Path) -> None:
    (folder / DATABASE).rename(folder / REPAIRED)
    result = run("check")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "a repair was interrupted; run `hermes log repair` to finish it" in result.stderr
    result = run("repair")
    assert (result.exit_code, result.stdout[:46]) == (0, "Finished the repair that was interrupted. The ")
    assert run("check").exit_code == 0


# What the operator did wrong


@pytest.mark.parametrize("command", ["check", "repair"])
async def test_a_log_in_use_is_left_alone(command: str, run: Run, tmp_path: Path) -> None:
    async with open_sqlite_log(tmp_path / "journal"):
        result = run(command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{tmp_path / 'journal'}: another Hermes uses it; stop that one" in result.stderr


@pytest.mark.parametrize("command", ["inspect", "check", "repair"])
def test_a_folder_without_a_log_is_told_so_and_not_made(command: str, run: Run, tmp_path: Path) -> None:
    result = run(command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{tmp_path / 'journal'}: there is no journal here" in result.stderr
    assert not (tmp_path / "journal").exists()
    (tmp_path / "empty").mkdir()
    result = run(command, str(tmp_path / "empty"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "there is no journal here, for log.db is missing" in result.stderr
