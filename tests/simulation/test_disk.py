"""The simulated disk forgets what it may forget and nothing else; what lives on it keeps the contracts of Hermes."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest
import trio

from hermes.dead_letters import DeadLetters
from hermes.errors import LogFull, LogUnavailable
from hermes.log import Log
from hermes.testing import check_log
from tests.dead_letters.conformance import StoreSuite
from tests.dead_letters.kit import EVERYTHING, OpenStore, make_letter
from tests.simulation.dead_letters import SimulatedDeadLetters
from tests.simulation.disk import Disk, Mount
from tests.simulation.log import SimulatedLog
from tests.simulation.trace import Trace

SEEDS = range(200)


def make_disk(seed: int = 0) -> Disk:
    return Disk(Random(seed), Trace(1000), 0.001)


async def open_log(mount: Mount) -> SimulatedLog:
    log = SimulatedLog(mount)
    await log.open()
    return log


async def test_what_was_synced_survives_a_loss_of_power_and_what_was_not_survives_from_the_oldest_on(
    autojump_clock: None,
) -> None:
    kept, torn = set(), 0
    for seed in SEEDS:
        disk = make_disk(seed)
        mount = disk.mount()
        mount.write("a", 0, b"synced")
        await mount.sync("a")
        for key in range(1, 4):
            mount.write("a", key, b"unsynced")
        disk.crash(power=True)
        rows = disk.mount().rows("a")
        assert rows[0] == b"synced"
        whole = [key for key, data in rows.items() if data == b"unsynced"]
        assert whole == list(range(1, len(whole) + 1))
        kept.add(len(whole))
        torn += len(rows) - 1 - len(whole)
    assert kept == {0, 1, 2, 3}
    assert torn == pytest.approx(len(SEEDS) * 3 / 8, rel=0.5)


async def test_a_process_that_dies_leaves_all_it_has_written_and_writes_no_more(autojump_clock: None) -> None:
    disk = make_disk()
    mount = disk.mount()
    mount.write("a", 1, b"1")
    mount.dead = True
    disk.crash(power=False)
    mount.write("a", 2, b"2")
    with pytest.raises(OSError, match="dead"):
        await mount.sync("a")
    assert disk.mount().rows("a") == {1: b"1"}


@pytest.mark.parametrize(("trouble", "code"), [("failing", errno.EIO), ("full", errno.ENOSPC)])
async def test_a_sync_that_fails_has_written_nothing(autojump_clock: None, trouble: str, code: int) -> None:
    disk = make_disk()
    mount = disk.mount()
    mount.write("a", 1, b"1")
    await mount.sync("a")
    setattr(disk.trouble, trouble, True)
    mount.write("a", 1, b"2")
    mount.write("a", 2, b"2")
    with pytest.raises(OSError) as caught:
        await mount.sync("a")
    assert caught.value.errno == code
    assert mount.rows("a") == {1: b"1"}


async def test_the_simulated_log_conforms(autojump_clock: None) -> None:
    disk = make_disk()

    @asynccontextmanager
    async def opened() -> AsyncIterator[Log]:
        yield await open_log(disk.mount())

    await check_log(opened)


async def test_the_log_keeps_what_it_acknowledged_whatever_a_loss_of_power_leaves_of_the_rest(
    autojump_clock: None,
) -> None:
    cut = 0
    for seed in SEEDS:
        disk = make_disk(seed)
        mount = disk.mount()
        log = await open_log(mount)
        await log.append([b"a", b"b"])
        with trio.move_on_after(0.0001):
            await log.append([b"unknown" * 10])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_append_in_vain, log)
            await trio.sleep(0.0001)
            mount.dead = True
            disk.crash(power=True)
        log = await open_log(disk.mount())
        data = [record.data for record in await log.read(0)]
        assert data[:2] == [b"a", b"b"]
        cut += log.cut
        index = await log.append([b"next"])
        assert [(record.index, record.data) for record in await log.read(index)] == [(index, b"next")]
    assert cut


async def _append_in_vain(log: SimulatedLog) -> None:
    with pytest.raises(LogUnavailable):
        await log.append([b"lost" * 10])


@pytest.mark.parametrize(("trouble", "error"), [("failing", LogUnavailable), ("full", LogFull)])
async def test_the_log_refuses_while_the_disk_does_and_goes_on_after_it(
    autojump_clock: None, trouble: str, error: type[Exception]
) -> None:
    disk = make_disk()
    log = await open_log(disk.mount())
    setattr(disk.trouble, trouble, True)
    with pytest.raises(error):
        await log.append([b"a"])
    setattr(disk.trouble, trouble, False)
    assert await log.append([b"b"]) == 0


class TestSimulatedDeadLetters(StoreSuite):
    @pytest.fixture
    def open_store(self) -> OpenStore:
        disk = make_disk()

        @asynccontextmanager
        async def open_store(max_letters: int) -> AsyncIterator[DeadLetters]:
            yield SimulatedDeadLetters(disk.mount(), max_letters)

        return open_store


async def test_dead_letters_are_there_after_a_loss_of_power(autojump_clock: None) -> None:
    disk = make_disk()
    await SimulatedDeadLetters(disk.mount(), 10).add([make_letter(1), make_letter(2)])
    disk.crash(power=True)
    assert await SimulatedDeadLetters(disk.mount(), 10).count(EVERYTHING) == {make_letter(1).sink: 2}
