"""A damaged log: what a check says of it, what a repair saves of it and what it does not, down to the single record."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import trio

from hermes.base.errors import ConfigError, LogDamaged
from hermes.store.log import Snapshot
from hermes.store.log.sqlite import repair
from hermes.store.log.sqlite.folder import DATABASE, REPAIRED
from hermes.store.log.sqlite.log import open_sqlite_log
from hermes.store.log.sqlite.survey import Survey, survey
from hermes.store.log.sqlite.tables import PAGE_BYTES
from tests.store.log.damage import FIRST, SNAPSHOT, SNAPSHOT_INDEX, Damage, make_log, make_records

RECORDS = make_records()
KEPT = set(range(FIRST, len(RECORDS)))


async def read_all(folder: Path) -> dict[int, bytes]:
    """What can be read of the log, which then goes on where it stood."""
    found: dict[int, bytes] = {}
    async with open_sqlite_log(folder) as log:
        index, end = log.first, log.next
        while index < end:
            records = await log.read(index)
            found |= {record.index: record.data for record in records}
            index = records[-1].index + 1 if records else end
        assert await log.append([b"after"], expected_index=end) == end
    return found


async def repaired(folder: Path) -> tuple[Survey, dict[int, bytes]]:
    """Repair the log; return what was found before, and what can be read after it."""
    found = survey(folder)
    repair.repair(found)
    assert not survey(folder).faults
    read = await read_all(folder)
    assert all(data == RECORDS[index] for index, data in read.items())
    return found, read


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "journal"
    trio.run(make_log, folder, RECORDS)
    return folder


@pytest.fixture
def folder(model: Path, tmp_path: Path) -> Path:
    """A log of `RECORDS` to be damaged."""
    return Path(shutil.copytree(model, tmp_path / "journal"))


def lost_indexes(found: Survey) -> set[int]:
    return {index for lost in found.lost for index in range(lost.index, lost.end)}


async def test_a_good_log_has_no_fault(folder: Path) -> None:
    found = survey(folder)
    assert (found.faults, found.lost, found.lost_before) == ([], [], [])
    assert (found.first, found.next, found.snapshot) == (FIRST, 60, Snapshot(SNAPSHOT_INDEX, SNAPSHOT))


def contents(folder: Path) -> dict[str, bytes]:
    """The files that are not empty."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.stat().st_size}


async def test_to_survey_changes_nothing(folder: Path) -> None:
    Damage(folder).flip(b"record 33:")
    before = contents(folder)
    survey(folder)
    after = contents(folder)
    assert {name: after[name] for name in before} == before


async def test_a_log_that_was_killed_is_surveyed_with_its_write_ahead_log(tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    async with open_sqlite_log(tmp_path / "journal") as log:
        for data in RECORDS[:5]:
            await log.append([data])
        killed.mkdir()
        for name in (DATABASE, f"{DATABASE}-wal"):
            (killed / name).write_bytes((tmp_path / "journal" / name).read_bytes())
    assert (survey(killed).faults, survey(killed).next) == ([], 5)
    # All that the database itself has of the records is in the write-ahead file.
    Damage(killed).write(0, bytes(100))
    _, read = await repaired(killed)
    assert read.keys() == {0, 1, 2, 3, 4}


def in_a_record(damage: Damage) -> None:
    damage.flip(b"record 33:")


def in_a_record_of_many_pages(damage: Damage) -> None:
    damage.flip(RECORDS[40][300_000:300_050])


def in_the_first_record(damage: Damage) -> None:
    damage.flip(b"record 25:")


def in_the_last_record(damage: Damage) -> None:
    damage.flip(b"record 59:")


def in_the_last_two_records(damage: Damage) -> None:
    damage.flip(b"record 58:")
    damage.flip(b"record 59:")


def in_the_count_of_a_row(damage: Damage) -> None:
    damage.execute("UPDATE batches SET count = 70000 WHERE first = 33")


def a_missing_row(damage: Damage) -> None:
    damage.execute("DELETE FROM batches WHERE first IN (33, 34)")


def a_missing_first_row(damage: Damage) -> None:
    damage.execute("DELETE FROM batches WHERE first = ?", FIRST)


def in_a_page_of_an_overflow_chain(damage: Damage) -> None:
    damage.overwrite_page(damage.page_of(RECORDS[40][500_000:500_050]))


def in_the_root_of_the_tree(damage: Damage) -> None:
    damage.overwrite_page(damage.root_page("batches"))


def in_the_pages_that_lead_to_the_tree(damage: Damage) -> None:
    damage.overwrite_page(0)


def in_the_header(damage: Damage) -> None:
    damage.write(0, bytes(16))


def in_the_application_id(damage: Damage) -> None:
    damage.write(68, b"????")


def in_the_trim_point(damage: Damage) -> None:
    damage.execute("UPDATE trimmed SET first = 50")


def without_a_trim_point(damage: Damage) -> None:
    damage.execute("DELETE FROM trimmed")


def in_the_snapshot(damage: Damage) -> None:
    damage.execute("UPDATE snapshot SET state = x'00'")


CASES: list[tuple[Callable[[Damage], None], set[int], str]] = [
    (in_a_record, {33}, "record 33: the checksum does not fit"),
    (in_a_record_of_many_pages, {40}, "record 40: the checksum does not fit"),
    (in_the_first_record, {25}, "record 25: the checksum does not fit"),
    (in_the_last_record, {59}, "record 59: the checksum does not fit"),
    (in_the_last_two_records, {58, 59}, "records 58 to 59: the checksum does not fit"),
    (in_the_count_of_a_row, {33}, "record 33: the checksum does not fit"),
    (a_missing_row, {33, 34}, "record 33: missing"),
    (a_missing_first_row, {25}, "record 25: missing"),
    (in_a_page_of_an_overflow_chain, {40}, "SQLite "),
    (in_the_root_of_the_tree, set(), "SQLite "),
    (in_the_pages_that_lead_to_the_tree, set(), "SQLite cannot read the database: file is not a database"),
    (in_the_header, set(), "SQLite cannot read the database: file is not a database"),
    (in_the_application_id, set(), "log.db: the database belongs to another program"),
    (in_the_trim_point, set(), "where the log begins cannot be read"),
    (without_a_trim_point, set(), "where the log begins cannot be read"),
    (in_the_snapshot, set(), "the snapshot cannot be read"),
]


@pytest.mark.parametrize(("harm", "lost", "words"), CASES, ids=lambda case: getattr(case, "__name__", ""))
async def test_a_repair_saves_all_but_what_is_damaged_and_says_so_before(
    harm: Callable[[Damage], None], lost: set[int], words: str, folder: Path
) -> None:
    harm(Damage(folder))
    found, read = await repaired(folder)
    assert any(words in fault.what for fault in found.faults), found.faults
    assert all(fault.repair for fault in found.faults)
    assert read.keys() == KEPT - lost_indexes(found)
    if harm in (a_missing_row, a_missing_first_row):
        assert lost_indexes(found) <= lost  # for SQLite leaves copies of what it deletes
    else:
        assert lost_indexes(found) == lost
    async with open_sqlite_log(folder) as log:
        assert (log.first, log.next) == (FIRST, len(RECORDS) + 1)
        assert log.snapshot == (None if harm is in_the_snapshot else Snapshot(SNAPSHOT_INDEX, SNAPSHOT))
        kept = sum(len(data) for index, data in read.items())
        assert log.statistics().bytes == kept + len(b"after")


@pytest.mark.parametrize("harm", [case[0] for case in CASES], ids=lambda harm: harm.__name__)
async def test_what_a_check_finds_the_log_does_not_hide(harm: Callable[[Damage], None], folder: Path) -> None:
    """Where a check finds a fault, the log refuses to be opened or read; or, at its end, it has cut the damage away."""
    harm(Damage(folder))
    if harm in (in_the_last_record, in_the_last_two_records):
        read = await read_all(folder)
        assert read.keys() == KEPT - ({59} if harm is in_the_last_record else {58, 59})
    elif harm is in_the_application_id:
        with pytest.raises(ConfigError, match=r"log\.db: the database belongs to another program"):
            await read_all(folder)
    else:
        with pytest.raises(LogDamaged, match=r"log\.db: .*; stop Hermes, see `hermes log check`, then"):
            await read_all(folder)


async def test_a_row_that_holds_many_records_is_lost_or_kept_whole(tmp_path: Path) -> None:
    async with open_sqlite_log(tmp_path) as log:
        for start in range(0, 60, 4):
            await log.append(RECORDS[start : start + 4])
        await log.trim(6)
    Damage(tmp_path).flip(b"record 9:")
    found, read = await repaired(tmp_path)
    assert lost_indexes(found) == {8, 9, 10, 11}
    assert read.keys() == {6, 7, *range(12, 60)}


async def test_a_row_that_the_log_begins_inside_of_may_be_lost(tmp_path: Path) -> None:
    async with open_sqlite_log(tmp_path) as log:
        await log.append(RECORDS[:4])
        await log.append(RECORDS[4:8])
        await log.trim(2)
    Damage(tmp_path).flip(b"record 0:")
    found, read = await repaired(tmp_path)
    assert [fault.what for fault in found.faults] == ["records 2 to 3: the checksum does not fit"]
    assert read.keys() == {4, 5, 6, 7}


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
async def test_a_truncated_file_is_saved_as_far_as_it_goes(share: float, folder: Path) -> None:
    size = int((folder / DATABASE).stat().st_size * share)
    os.truncate(folder / DATABASE, size)
    found, read = await repaired(folder)
    assert found.faults
    assert read.keys() == KEPT - lost_indexes(found) - set(range(found.next, 60))
    assert len(read) >= 30 * share - 12
    assert found.next >= SNAPSHOT_INDEX  # what was snapshotted was there


async def test_of_an_emptied_file_a_new_log_is_made_when_asked_to(folder: Path) -> None:
    (folder / DATABASE).write_bytes(bytes(5 * PAGE_BYTES))
    found, read = await repaired(folder)
    assert ("no good row was found", "the log begins anew") in [(fault.what, fault.repair) for fault in found.faults]
    assert read == {}


async def test_without_its_write_ahead_log_a_killed_log_is_what_was_folded_before(tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    await make_log(tmp_path / "journal", RECORDS)
    async with open_sqlite_log(tmp_path / "journal") as log:
        await log.append([b"only in the write-ahead file"])
        killed.mkdir()
        (killed / DATABASE).write_bytes((tmp_path / "journal" / DATABASE).read_bytes())
    assert not survey(killed).faults
    assert (await read_all(killed)).keys() == KEPT


async def test_what_was_lost_before_is_told_and_is_no_fault(folder: Path) -> None:
    Damage(folder).flip(b"record 33:")
    await repaired(folder)
    found = survey(folder)
    assert ([str(lost) for lost in found.lost_before], found.faults, found.lost) == (["record 33"], [], [])


# What is repaired again


async def test_the_damaged_database_is_kept_as_it_was(folder: Path) -> None:
    Damage(folder).flip(b"record 33:")
    before = (folder / DATABASE).read_bytes()
    aside = repair.repair(survey(folder))
    assert aside.name.startswith("log.db.damaged-")
    assert aside.read_bytes() == before
    assert (folder / DATABASE).stat().st_mode & 0o777 == 0o600


async def test_a_repair_that_was_interrupted_is_finished_before_the_log_is_used(folder: Path) -> None:
    Damage(folder).flip(b"record 33:")
    aside = repair.repair(survey(folder))
    # As if it had been killed between its last two steps.
    (folder / DATABASE).rename(folder / REPAIRED)
    with pytest.raises(LogDamaged, match="a repair was interrupted; run `hermes log repair` again"):
        await read_all(folder)
    with pytest.raises(ConfigError, match="a repair was interrupted; run `hermes log repair` again"):
        survey(folder)
    assert repair.is_unfinished(folder)
    assert repair.finish(folder) == aside
    assert (await read_all(folder)).keys() == KEPT - {33}


async def test_a_repair_that_was_interrupted_while_it_wrote_begins_again(folder: Path) -> None:
    Damage(folder).flip(b"record 33:")
    for sidecar in ("", "-wal", "-shm"):
        (folder / f"log.db.repairing{sidecar}").write_bytes(b"half of it")
    await repaired(folder)


async def test_a_repair_without_room_for_it_says_how_much_it_needs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Damage(folder).flip(b"record 33:")
    found = survey(folder)
    monkeypatch.setattr(repair, "_SPARE_BYTES", 2**60)
    with pytest.raises(ConfigError, match=r"the log is written anew, which needs \d+ bytes: \d+ are free"):
        repair.repair(found)


async def test_a_large_log_is_written_in_parts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Damage(folder).flip(b"record 33:")
    monkeypatch.setattr(repair, "_TRANSACTION_BYTES", 50_000)
    await repaired(folder)


def test_where_there_is_no_log_there_is_nothing_to_check(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no journal here, for log\.db is missing"):
        survey(tmp_path)


async def test_a_database_of_another_program_is_not_ours_to_repair(tmp_path: Path) -> None:
    Damage(tmp_path).execute("CREATE TABLE theirs (x)")
    with pytest.raises(ConfigError, match="belongs to another program"):
        survey(tmp_path)


async def test_a_log_of_a_newer_hermes_is_not_ours_to_repair(folder: Path) -> None:
    Damage(folder).execute("PRAGMA user_version = 2")
    with pytest.raises(ConfigError, match="written by a newer Hermes"):
        survey(folder)


# Any damage


@pytest.mark.parametrize("seed", range(60))
async def test_after_any_damage_every_record_is_itself_or_named_as_lost(seed: int, folder: Path) -> None:
    damage = Damage(folder)
    chance = Random(seed)
    size = len(damage.content)
    for _ in range(chance.choice([1, 1, 3, 20])):
        at = chance.randrange(size)
        if 56 <= at < 64:  # the version: what a newer Hermes wrote is left alone
            continue
        match chance.choice(["byte", "byte", "sector", "page", "zeros"]):
            case "byte":
                damage.write(at, bytes([damage.content[at] ^ 1 << chance.randrange(8)]))
            case "sector":
                damage.write(at // 512 * 512, chance.randbytes(512))
            case "page":
                damage.overwrite_page(at // PAGE_BYTES)
            case "zeros":
                damage.write(at // PAGE_BYTES * PAGE_BYTES, bytes(chance.randint(1, PAGE_BYTES)))
    found = survey(folder)
    if not found.faults:
        assert await read_all(folder) == {index: RECORDS[index] for index in KEPT}
        return
    lost = lost_indexes(found)
    _, read = await repaired(folder)
    assert read.keys() == set(range(found.first, found.next)) - lost
    assert found.first <= SNAPSHOT_INDEX
