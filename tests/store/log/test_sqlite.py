"""The sqlite log on a real disk: what survives, what it costs, what is refused, what is cut away."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio
from click.testing import CliRunner, Result
from structlog.testing import capture_logs

from hermes.base.errors import ConfigError, LogDamaged, LogFull, LogUnavailable, StaleWriter
from hermes.cli import main
from hermes.events.engine.journal import open_journal
from hermes.events.engine.journal_record import encode_chunk, lost_events
from hermes.store.log import Record, Snapshot
from hermes.store.log.rows import encode_rows
from hermes.store.log.sqlite import log as engine
from hermes.store.log.sqlite import tables
from hermes.store.log.sqlite.folder import DATABASE, room
from hermes.store.log.sqlite.log import SqliteLog, open_sqlite_log
from hermes.store.log.sqlite.opening import CHECKPOINT_BYTES
from hermes.store.log.sqlite.tables import SCHEMA
from hermes.store.sqlite import connect
from hermes.testing import make_chunk, make_events
from tests.store.log.damage import Damage

MIB = 2**20


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


async def fill(log: SqliteLog, mib: int) -> None:
    for _ in range(mib):
        await log.append([bytes(MIB // 16)] * 16)


async def test_what_was_appended_is_read_again_after_a_reopening(tmp_path: Path) -> None:
    async with open_sqlite_log(tmp_path) as log:
        assert (log.first, log.next, log.snapshot) == (0, 0, None)
        assert await log.append([b"a", b""]) == 0
        assert await log.append([b"c" * MIB], expected_index=2) == 2
        await log.take_snapshot(1, b"state")
        await log.trim(1)
        with pytest.raises(StaleWriter):
            await log.append([b"d"], expected_index=2)
    async with open_sqlite_log(tmp_path) as log:
        assert (log.first, log.next) == (1, 3)
        assert await log.read(0) == [Record(1, b""), Record(2, b"c" * MIB)]
        assert log.snapshot == Snapshot(1, b"state")
        assert log.statistics().bytes == MIB


# The disk


async def test_the_files_are_for_this_user_alone(tmp_path: Path) -> None:
    folder = tmp_path / "some" / "journal"
    async with open_sqlite_log(folder) as log:
        await log.append([b"x"])
        assert folder.stat().st_mode & 0o777 == 0o700
        modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert modes == dict.fromkeys(("lock", "log.db", "log.db-wal", "log.db-shm"), 0o600)


async def test_a_trim_gives_the_disk_its_space_back(tmp_path: Path) -> None:
    async with open_sqlite_log(tmp_path) as log:
        await fill(log, 40)
        assert size(tmp_path / "log.db") > 20 * MIB
        await log.trim(log.next)
        spare = tables.SPARE_PAGES * tables.PAGE_BYTES
        assert size(tmp_path / "log.db") < spare + MIB
        assert size(tmp_path / "log.db-wal") == 0
        await fill(log, 1)
        assert log.next == 41 * 16


async def test_a_trim_of_the_older_half_moves_what_is_left(tmp_path: Path) -> None:
    async with open_sqlite_log(tmp_path) as log:
        for start in range(0, 640, 32):
            await log.append([b"%d" % number + bytes(MIB // 16) for number in range(start, start + 32)])
        await log.trim(500)
        assert size(tmp_path / "log.db") < 24 * MIB
        kept = [record for start in (500, 570) for record in await log.read(start, max_records=70)]
        assert [(record.index, int(record.data.rstrip(b"\0"))) for record in kept] == [(n, n) for n in range(500, 640)]


async def test_the_space_of_a_small_trim_is_used_again_instead_of_given_back(tmp_path: Path) -> None:
    async with open_sqlite_log(tmp_path) as log:
        await fill(log, 20)
        sizes = []
        for _ in range(20):
            await log.trim(log.first + 16)
            await fill(log, 1)
            sizes.append(size(tmp_path / "log.db"))
        assert sizes[-1] < 30 * MIB
        assert log.statistics().bytes == 20 * MIB


async def test_the_write_ahead_log_is_bounded(tmp_path: Path) -> None:
    async with open_sqlite_log(tmp_path) as log:
        for _ in range(15):
            await fill(log, 4)
            assert size(tmp_path / "log.db-wal") <= 4 * CHECKPOINT_BYTES + 6 * MIB
        await log.take_snapshot(60, b"")
        await fill(log, 1)
        assert size(tmp_path / "log.db-wal") <= CHECKPOINT_BYTES
    assert size(tmp_path / "log.db-wal") == 0
    assert size(tmp_path / "log.db") > 60 * MIB


async def test_appends_go_on_during_a_long_trim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "DELETE_ROWS", 2)
    order: list[str] = []
    async with open_sqlite_log(tmp_path) as log:
        for _ in range(100):
            await log.append([b"x"])

        async def trim() -> None:
            await log.trim(100)
            order.append("trimmed")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trim)
            for _ in range(5):
                await log.append([b"y"])
                await log.read(log.first)
                order.append("appended")
        assert order[-1] == "trimmed"
        assert (log.first, log.next) == (100, 105)


async def test_what_a_cancelled_trim_has_left_the_next_one_deletes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "DELETE_ROWS", 2)
    async with open_sqlite_log(tmp_path) as log:
        for _ in range(50):
            await log.append([b"x"])
        with trio.CancelScope() as scope:
            delete = tables.delete_slice

            def cancel_and_delete(connection: sqlite3.Connection, to_index: int, on_row_boundary: bool) -> bool:
                trio.from_thread.run_sync(scope.cancel)
                return delete(connection, to_index, on_row_boundary)

            monkeypatch.setattr(tables, "delete_slice", cancel_and_delete)
            await log.trim(40)
        assert scope.cancelled_caught
        monkeypatch.setattr(tables, "delete_slice", delete)
        assert log.first == 40
        assert [record.index for record in await log.read(0)] == list(range(40, 50))
        await log.trim(40)
    with closing(sqlite3.connect(tmp_path / "log.db")) as connection:
        assert connection.execute("SELECT count(*) FROM batches").fetchone() == (10,)


async def test_appends_that_waited_for_a_commit_share_rows(tmp_path: Path) -> None:
    async with open_sqlite_log(tmp_path) as log:
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(log.append, [b"x"])
        assert log.statistics().commits <= 2
    with closing(sqlite3.connect(tmp_path / "log.db")) as connection:
        assert connection.execute("SELECT sum(count), count(*) <= 2 FROM batches").fetchone() == (50, 1)


# Who may use it


async def test_a_folder_is_used_by_one_log_at_a_time(tmp_path: Path) -> None:
    async with open_sqlite_log(tmp_path) as log:
        with pytest.raises(ConfigError, match=f"{tmp_path}: another Hermes uses it; stop that one, or name another"):
            async with open_sqlite_log(tmp_path):
                pass
        await log.append([b"x"])
    async with open_sqlite_log(tmp_path) as log:
        assert log.next == 1


async def test_a_folder_that_cannot_be_one_is_told_so(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ConfigError, match=f"{file}: cannot be used: "):
        async with open_sqlite_log(file):
            pass


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("PRAGMA application_id = 7", "belongs to another program; name another folder or file"),
        ("PRAGMA user_version = 9", r"written by a newer Hermes \(schema 9, this one knows 1\); upgrade"),
    ],
)
async def test_a_database_that_is_not_ours_is_left_alone(statement: str, words: str, tmp_path: Path) -> None:
    async with open_sqlite_log(tmp_path) as log:
        await log.append([b"x"])
    Damage(tmp_path).execute(statement)
    before = (tmp_path / "log.db").read_bytes()
    with pytest.raises(ConfigError, match=words):
        async with open_sqlite_log(tmp_path):
            pass
    assert (tmp_path / "log.db").read_bytes() == before


async def test_while_another_program_holds_the_database_appends_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "LOCK_TIMEOUT", 0.01)
    async with open_sqlite_log(tmp_path) as log:
        with closing(sqlite3.connect(tmp_path / "log.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(LogUnavailable, match=r"log\.db: database is locked"):
                await log.append([b"x"])
            other.execute("ROLLBACK")
        assert await log.append([b"y"]) == 0


# Room


async def test_without_room_appends_are_refused_and_trims_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_sqlite_log(tmp_path) as log:
        await fill(log, 12)
        monkeypatch.setattr(engine, "room", lambda _folder: -1)
        with pytest.raises(LogFull, match=f"{tmp_path}/log.db: the disk is full"):
            await log.append([b"x"])
        assert len(await log.read(0)) > 0
        await log.take_snapshot(100, b"state")
        await log.trim(100)
        assert size(tmp_path / "log.db") < 7 * MIB  # every page, for want of room
        assert log.statistics().failed_commits == 1
        monkeypatch.undo()
        assert await log.append([b"y"]) == 12 * 16


async def test_a_record_that_no_engine_takes_is_refused(tmp_path: Path) -> None:
    async with open_sqlite_log(tmp_path) as log:
        with pytest.raises(ValueError, match="at most"):
            await log.append([bytes(256 * MIB + 1)])
        assert log.next == 0


@pytest.mark.parametrize(("total_mib", "reserve_mib"), [(100_000, 16), (256, 16), (64, 4)])
def test_a_reserve_of_the_disk_is_left_alone(
    total_mib: int, reserve_mib: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SimpleNamespace(f_frsize=4096, f_blocks=total_mib * MIB // 4096, f_bavail=50 * MIB // 4096)
    monkeypatch.setattr("os.statvfs", lambda _path: disk)
    assert room(tmp_path) == (50 - reserve_mib) * MIB


async def test_who_looks_at_the_database_holds_up_no_append(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "CHECKPOINT_BYTES", 1)
    async with open_sqlite_log(tmp_path) as log:
        await log.append([b"a"])
        with closing(sqlite3.connect(tmp_path / "log.db", isolation_level=None)) as other:
            other.execute("BEGIN")
            other.execute("SELECT count(*) FROM batches").fetchone()
            with trio.fail_after(3):  # SQLite would wait for five seconds
                await fill(log, 12)
                await log.trim(log.next)
            assert size(tmp_path / "log.db-wal") > 12 * MIB
        await log.append([b"b"])
        await log.append([b"c"])
        assert len(await log.read(0)) == 2


# Damage


async def damaged_log(folder: Path, *indexes: int) -> None:
    """A log of twenty records, a row each, of which these are damaged."""
    async with open_sqlite_log(folder) as log:
        for number in range(20):
            await log.append([b"record %d." % number])
    for index in indexes:
        Damage(folder).flip(b"record %d." % index)


def files_cut(folder: Path) -> list[Path]:
    return list(folder.glob("cut-*"))


async def test_a_damaged_end_is_cut_saved_and_reported(tmp_path: Path) -> None:
    await damaged_log(tmp_path, 18, 19)
    with capture_logs() as logs:
        async with open_sqlite_log(tmp_path) as log:
            assert log.next == 20  # what was at an index never comes again
            assert log.cut is not None
            assert [row.index for row in log.cut.rows] == [18, 19]
            assert (log.cut.lost.index, log.cut.lost.count) == (18, 2)
            assert [record.index for record in await log.read(0)] == list(range(18))
            assert await log.read(18) == []
            assert await log.append([b"after"]) == 20
            assert await log.read(18) == [Record(20, b"after")]
    (saved,) = files_cut(tmp_path)
    assert saved.stat().st_mode & 0o777 == 0o600
    heading, _, rest = saved.read_bytes().partition(b"\n")
    row = json.loads(heading)
    assert (row["index"], row["count"]) == (18, 1)
    assert b"ecord 18." in rest[: row["data"]]  # but for the byte that was damaged
    assert json.loads(rest[row["data"] + 1 :].partition(b"\n")[0])["index"] == 19
    assert logs == [
        {
            "event": "a damaged end was cut away",
            "log_level": "warning",
            "log": str(tmp_path / "log.db"),
            "first": 18,
            "records": 2,
            "saved": str(saved),
        },
        {
            "event": "records that were acknowledged are gone",
            "log_level": "error",
            "log": str(tmp_path / "log.db"),
            "first": 18,
            "records": 2,
            "reason": "the database or its write-ahead file was damaged, emptied, removed or replaced by an older one",
        },
    ]
    async with open_sqlite_log(tmp_path) as log:
        assert log.cut is None
        assert len(await log.read(0)) == 19


async def test_damage_that_is_not_at_the_end_stops_the_start_if_it_is_seen_then(tmp_path: Path) -> None:
    await damaged_log(tmp_path, 10)
    place = f"{tmp_path}/log.db: record 10: the checksum does not fit"
    with pytest.raises(LogDamaged, match=f"{place}; stop Hermes, see `hermes log check`, then `hermes log repair`"):
        async with open_sqlite_log(tmp_path):
            pass
    assert not files_cut(tmp_path)


async def test_damage_far_from_the_end_is_found_when_it_is_read_and_costs_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hermes.store.log.rows.CHECKED_ROWS", 5)
    await damaged_log(tmp_path, 10)
    async with open_sqlite_log(tmp_path) as log:
        assert len(await log.read(0)) == 10  # what is before it is given first
        with pytest.raises(LogDamaged, match=r"log\.db: record 10: the checksum does not fit; stop Hermes"):
            await log.read(10)
        assert len(await log.read(11)) == 9
        assert await log.append([b"after"]) == 20
        await log.trim(11)
        assert len(await log.read(0)) == 10


async def test_a_missing_row_is_found_when_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hermes.store.log.rows.CHECKED_ROWS", 5)
    await damaged_log(tmp_path)
    Damage(tmp_path).execute("DELETE FROM batches WHERE first IN (8, 9)")
    async with open_sqlite_log(tmp_path) as log:
        assert len(await log.read(0)) == 8
        with pytest.raises(LogDamaged, match=r"records 8 to 9: missing"):
            await log.read(8)
        with pytest.raises(LogDamaged, match=r"record 9: missing"):
            await log.read(9)
        assert [record.index for record in await log.read(10, max_records=1)] == [10]


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE trimmed SET first = 5", "where the log begins: the checksum does not fit"),
        ("DELETE FROM trimmed", "where the log begins: the checksum does not fit"),
        ("UPDATE snapshot SET at = 5", "the snapshot: the checksum does not fit"),
    ],
)
async def test_a_log_whose_beginning_or_snapshot_is_damaged_is_not_opened(
    statement: str, words: str, tmp_path: Path
) -> None:
    async with open_sqlite_log(tmp_path) as log:
        await log.append([b"x"] * 9)
        await log.take_snapshot(3, b"state")
    Damage(tmp_path).execute(statement)
    with pytest.raises(LogDamaged, match=rf"log\.db: {words}; stop Hermes, see `hermes log check`"):
        async with open_sqlite_log(tmp_path):
            pass


async def test_what_follows_a_failed_commit_never_gives_it_its_first_frame_back(tmp_path: Path) -> None:
    """A refused record came back when the process died after the first frame of the next commit.

    From one and the same state two commits write the same first frame, and the second would mend the beginning of the
    first, whose other frames are still there; so what follows a failure is marked.
    """

    def first_frame_of_next_commit(folder: Path, failures: int) -> bytes:
        connection = connect(folder / DATABASE, SCHEMA)
        wal = folder / f"{DATABASE}-wal"
        # The end of what is valid: a frame is a header of 24 bytes and a page.
        end = wal.stat().st_size
        connection.renewed = True  # this is the process that failed
        for _ in range(failures):
            connection.differ()
        tables.insert(connection, encode_rows(1, 5, [b"again" * 3000]))
        with wal.open("rb") as file:
            file.seek(end)
            frame = file.read(24 + tables.PAGE_BYTES)
        assert len(frame) == 24 + tables.PAGE_BYTES
        connection.close()
        return frame

    origin = tmp_path / "origin"
    connection = connect(origin / DATABASE, SCHEMA)
    tables.insert(connection, encode_rows(0, 0, [b"first"]))
    frames = []
    for number, failures in enumerate((0, 0, 1, 2)):
        copy = tmp_path / str(number)
        copy.mkdir()
        for name in (DATABASE, f"{DATABASE}-wal"):
            (copy / name).write_bytes((origin / name).read_bytes())
        frames.append(first_frame_of_next_commit(copy, failures))
    connection.close()
    assert frames[0] == frames[1], "which is the danger"
    assert len(set(frames)) == 3


async def test_a_mark_of_failures_is_no_newer_schema(tmp_path: Path) -> None:
    for _ in range(3):
        connection = connect(tmp_path / DATABASE, SCHEMA)
        connection.differ()
        tables.overwrite_failed_frames(connection)
        marked = connection.execute("PRAGMA user_version").fetchone()[0]
        tables.overwrite_failed_frames(connection)
        assert connection.execute("PRAGMA user_version").fetchone()[0] == marked
        connection.close()
    assert (marked >> 16, marked & 0xFFFF) == (3, SCHEMA.version)


# What was acknowledged and is gone


def remove(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    os.truncate(path, 0)


def halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def change_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def chunk_record(count: int, first: int) -> bytes:
    events = make_events(count, payload=b'"%s"' % (b"x" * 5000))
    return encode_chunk(make_chunk(events), first)


@pytest.mark.parametrize("trimmed", [0, 10, 80])
@pytest.mark.parametrize("name", [DATABASE, f"{DATABASE}-wal"])
@pytest.mark.parametrize("harm", [remove, empty, halve, change_a_byte])
async def test_what_was_acknowledged_and_is_gone_is_counted_and_its_indexes_do_not_come_again(
    tmp_path: Path, name: str, harm: Callable[[Path], None], trimmed: int
) -> None:
    killed = tmp_path / "killed"
    counts = [number % 3 + 1 for number in range(80)]
    async with open_sqlite_log(tmp_path / "log") as log:
        for number in range(0, 80, 2):
            await log.append([chunk_record(counts[at], sum(counts[:at])) for at in (number, number + 1)])
        await log.trim(trimmed)
        shutil.copytree(tmp_path / "log", killed)  # as a process that is killed leaves it
    harm(killed / name)
    checked = json.loads(check(killed).stdout or "{}")
    with capture_logs() as lines:
        try:
            async with open_sqlite_log(killed) as log:
                there = {record.index for record in await log.read(0, max_records=100)}
                assert log.next == 80
                lost = log.statistics().lost
                gone = [number for number in range(trimmed, 80) if number not in there]
                assert lost.records == len(gone)
                events = sum(counts[number] for number in gone)
                assert not gone or lost_events(lost) == events
                journal = await open_journal(log, 10 * MIB)
                assert (journal.events, journal.metrics.lost_events) == (sum(counts), events)
                assert await log.append([b"new"]) == 80
        except LogDamaged:  # the database itself: SQLite or a checksum has found it
            assert name == DATABASE
            return
    told = [line for line in lines if line["event"] == "records that were acknowledged are gone"]
    assert [line["records"] for line in told] == ([len(gone)] if gone else [])
    told = [line for line in lines if line["event"] == "events that were acknowledged are gone"]
    assert [line["events"] for line in told] == ([events] if gone else [])
    if (killed / name).name != DATABASE:
        assert checked["gone"] == ({"first": gone[0], "records": len(gone), "events": events} if gone else None)
    assert gone or name == DATABASE or trimmed == 80  # the database had nothing yet that is not in both files
    async with open_sqlite_log(killed) as log:
        assert log.statistics().lost.records == 0  # said once


def check(folder: Path) -> Result:
    """``hermes log check`` on a copy: exit code 0 means that nothing is missing."""
    copy = folder.with_name("checked")
    shutil.copytree(folder, copy)
    return CliRunner().invoke(main, ["log", "check", str(copy), "--json"])


async def test_what_was_trimmed_is_not_missed_and_an_old_folder_has_no_watermark(tmp_path: Path) -> None:
    async with open_sqlite_log(tmp_path) as log:
        await log.append([b"a", b"b"])
        await log.trim(2)
    (tmp_path / DATABASE).unlink()
    async with open_sqlite_log(tmp_path) as log:
        assert (log.statistics().lost.records, log.next) == (0, 2)
        await log.append([b"c"])
    (tmp_path / "lock").write_bytes(b"")
    (tmp_path / DATABASE).unlink()
    async with open_sqlite_log(tmp_path) as log:
        assert (log.statistics().lost.records, log.next) == (0, 0)
