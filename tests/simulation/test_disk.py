"""The simulated disk forgets what it may forget and nothing else, whether SQLite writes to it or Python does."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
import trio

from tests.simulation.calls import calls_on
from tests.simulation.disk import Disk, open_disk
from tests.simulation.inode import PAGE, SECTOR
from tests.simulation.threads import threads_at_moments
from tests.simulation.trace import Trace
from tests.simulation.vfs import sqlite_on

SEEDS = range(60)


@pytest.fixture
async def disk(autojump_clock: None) -> AsyncIterator[Disk]:
    with open_disk(Random(0), Trace(1000), 0.001) as disk, calls_on(disk), sqlite_on(disk):
        yield disk


def write(path: Path, data: bytes, *, sync: bool = True) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        os.pwrite(descriptor, data, 0)
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(disk: Disk) -> None:
    descriptor = os.open(disk.mount.root, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


async def test_a_loss_of_power_leaves_what_was_synced_and_any_whole_sectors_of_the_rest(disk: Disk) -> None:
    old, new = b"o" * PAGE, b"n" * PAGE
    kept = set()
    for _ in SEEDS:
        write(disk.mount.root / "a", old * 2)
        sync_folder(disk)
        write(disk.mount.root / "a", new, sync=False)
        disk.crash(power=True)
        left = (disk.mount.root / "a").read_bytes()
        assert left[PAGE:] == old
        sectors = [left[place : place + SECTOR] for place in range(0, PAGE, SECTOR)]
        assert set(sectors) <= {old[:SECTOR], new[:SECTOR]}
        kept.add(sectors.count(new[:SECTOR]))
        disk.crash(power=True)
        assert (disk.mount.root / "a").read_bytes() == left, "what is there after one loss of power is durable"
    assert {0, PAGE // SECTOR} < kept


async def test_a_process_that_dies_leaves_the_cache_and_a_loss_of_power_may_still_take_it(disk: Disk) -> None:
    lost = 0
    for _ in SEEDS:
        before = disk.mount
        write(before.root / "a", b"1")
        sync_folder(disk)
        write(before.root / "a", b"2", sync=False)
        disk.crash(power=False)
        with pytest.raises(OSError, match="dead"):
            write(before.root / "a", b"3")
        assert (disk.mount.root / "a").read_bytes() == b"2"
        disk.crash(power=True)
        lost += (disk.mount.root / "a").read_bytes() == b"1"
    assert 0 < lost < len(SEEDS)


async def test_a_name_is_durable_when_its_folder_is_synced(disk: Disk) -> None:
    found = set()
    for number in SEEDS:
        write(disk.mount.root / "a", b"%03d" % number)
        sync_folder(disk)
        write(disk.mount.root / "new", b"new")
        (disk.mount.root / "new").rename(disk.mount.root / "a")
        disk.crash(power=True)
        names = {path.name: path.read_bytes() for path in disk.mount.root.iterdir()}
        assert names["a"] in (b"new", b"%03d" % number)
        found.add((names.pop("a"), *names) if "new" in names else (names["a"] == b"new",))
        (disk.mount.root / "new").unlink(missing_ok=True)
    assert {(True,), (False,)} < found


@pytest.mark.parametrize(
    ("trouble", "code"), [("failing", errno.EIO), ("unwritable", errno.EIO), ("full", errno.ENOSPC)]
)
async def test_a_disk_in_trouble_says_so(disk: Disk, trouble: str, code: int) -> None:
    write(disk.mount.root / "a", b"1")
    setattr(disk.trouble, trouble, True)
    codes = set()
    for _ in SEEDS:
        try:
            write(disk.mount.root / "a", b"1" * PAGE)
        except OSError as error:
            codes.add(error.errno)
    assert codes == {code}
    assert disk.failures


async def test_what_a_failed_sync_has_lost_no_later_sync_writes(disk: Disk) -> None:
    lost = 0
    for _ in SEEDS:
        write(disk.mount.root / "a", b"old")
        sync_folder(disk)
        disk.trouble.failing = True
        with pytest.raises(OSError, match="Input/output"):
            write(disk.mount.root / "a", b"new")
        disk.trouble.failing = False
        assert (disk.mount.root / "a").read_bytes() == b"new"
        write(disk.mount.root / "a", b"")
        disk.crash(power=True)
        lost += (disk.mount.root / "a").read_bytes() == b"old"
    assert 0 < lost < len(SEEDS)


@pytest.mark.parametrize("synchronous", ["FULL", "OFF"])
async def test_sqlite_keeps_each_commit_if_it_syncs_and_only_then(disk: Disk, synchronous: str) -> None:
    lost = 0
    for _ in range(30):
        before = count_rows(disk)
        with closing(sqlite3.connect(disk.mount.root / "db", isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("CREATE TABLE IF NOT EXISTS t (x)")
            connection.execute(f"PRAGMA synchronous = {synchronous}")
            connection.execute("INSERT INTO t VALUES (1)")
            disk.crash(power=True)
            with pytest.raises(sqlite3.OperationalError):
                connection.execute("INSERT INTO t VALUES (1)")
        lost += count_rows(disk) != before + 1
    assert (lost > 0) == (synchronous == "OFF")


def count_rows(disk: Disk) -> int:
    if not (disk.mount.root / "db").exists():
        return 0
    with closing(sqlite3.connect(disk.mount.root / "db")) as connection:
        return int(connection.execute("SELECT count(*) FROM t").fetchone()[0])


async def test_a_call_on_a_thread_is_made_whoever_leaves_it(disk: Disk) -> None:
    made: list[float] = []

    async def pause() -> None:
        await trio.sleep(1)

    with threads_at_moments(pause):
        with trio.move_on_after(0.5):
            await trio.to_thread.run_sync(made.append, 1, abandon_on_cancel=True)
        assert not made
        with trio.move_on_after(0.1):
            await trio.to_thread.run_sync(made.append, 2)
        with pytest.raises(OSError, match="no"):
            await trio.to_thread.run_sync(os.stat, "/no/such/file")
    assert made == [1, 2]
