"""The postgres log when the server goes away, stops answering or is cut off in the middle of a commit."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator

import pytest
import trio
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from hermes.base.errors import LogDamaged, LogFull, LogUnavailable, StaleWriter
from hermes.store.log.postgres import PostgresLog, open_postgres_log, opening, session, writer
from tests.integration.postgres_log import QUICKLY, backend, datas, everything, execute, rows, terminate, until_it_works
from tests.servers.cutter import Cutter, open_cutter
from tests.servers.postgres import PostgresServer


@pytest.fixture
async def cutter(postgres_dsn: str) -> AsyncIterator[Cutter]:
    async with open_cutter(int(conninfo_to_dict(postgres_dsn)["port"] or 0)) as cutter:
        yield cutter


def through(cutter: Cutter, dsn: str) -> str:
    return make_conninfo(dsn, port=cutter.port)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "COMMIT_TIMEOUT", 0.5)
    monkeypatch.setattr(session, "DIAL_TIMEOUT", 0.5)
    monkeypatch.setattr(session, "CLEANUP_TIMEOUT", 0.2)
    monkeypatch.setattr(opening, "CLOSE_TIMEOUT", 1.0)


# Connections that are cut


@pytest.mark.parametrize("what", ["question", "answer"])
async def test_a_commit_whose_connection_is_cut_is_in_the_log_once(
    cutter: Cutter, postgres_dsn: str, what: str
) -> None:
    async with open_postgres_log(through(cutter, postgres_dsn), "a") as log:
        await log.append([b"0"])
        cutter.cut(what)
        with trio.fail_after(QUICKLY):
            assert await log.append([b"1", b"2"]) == 1
            assert await log.append([b"3"]) == 3
        assert datas(await everything(log)) == [b"0", b"1", b"2", b"3"]
        assert log.statistics().failed_commits == 0


@pytest.mark.parametrize("what", ["question", "answer"])
@pytest.mark.parametrize("again", ["append", "reopen"])
async def test_what_was_reported_as_failed_is_gone_before_anything_else_happens(
    cutter: Cutter, postgres_dsn: str, impatient: None, what: str, again: str
) -> None:
    async with open_postgres_log(through(cutter, postgres_dsn), "a") as log:
        await log.append([b"0"])
        cutter.cut(what, and_close=True)
        with trio.fail_after(QUICKLY), pytest.raises(LogUnavailable):
            await log.append([b"lost", b"lost too"])
        assert await rows(postgres_dsn) == (2 if what == "answer" else 1)
        cutter.open = True
        if again == "append":
            await until_it_works(log, b"1")
            assert datas(await everything(log)) == [b"0", b"1"]
            assert log.statistics().failed_commits >= 1
    async with open_postgres_log(postgres_dsn, "a") as log:
        assert datas(await everything(log)) == ([b"0", b"1"] if again == "append" else [b"0"])
        assert log.statistics().bytes == log.next


async def test_a_commit_that_is_stuck_at_the_server_does_not_come_later(postgres_dsn: str, impatient: None) -> None:
    async with open_postgres_log(postgres_dsn, "a") as log:
        await log.append([b"0"])
        pid = backend(log)
        os.kill(pid, signal.SIGSTOP)
        try:
            with trio.fail_after(QUICKLY + 2), pytest.raises(LogUnavailable):
                await log.append([b"stuck"])
            with trio.fail_after(QUICKLY + 2), pytest.raises(LogUnavailable):
                await log.append([b"behind it"])
        finally:
            os.kill(pid, signal.SIGCONT)
        assert await until_it_works(log, b"1") == 1
        await trio.sleep(0.1)
        assert datas(await everything(log)) == [b"0", b"1"]


async def test_who_has_opened_the_log_meanwhile_keeps_what_it_may_have_read(
    cutter: Cutter, postgres_dsn: str, impatient: None
) -> None:
    async with open_postgres_log(through(cutter, postgres_dsn), "a") as log:
        await log.append([b"0"])
        cutter.cut("answer", and_close=True)
        with pytest.raises(LogUnavailable):
            await log.append([b"in doubt"])
        async with open_postgres_log(postgres_dsn, "a") as other:
            assert datas(await everything(other)) == [b"0", b"in doubt"]
            cutter.open = True
            with pytest.raises(StaleWriter):
                await until_it_works(log, b"1")
            assert await other.append([b"other"]) == 2
            assert datas(await everything(other)) == [b"0", b"in doubt", b"other"]


async def test_a_connection_that_was_ended_while_nothing_happened_costs_no_append(postgres_dsn: str) -> None:
    async with open_postgres_log(postgres_dsn, "a") as log:
        await log.append([b"0"])
        assert datas(await log.read(0)) == [b"0"]
        reader = log._others._connection
        assert reader is not None
        for pid in (backend(log), reader.backend_pid):
            await terminate(postgres_dsn, pid)
        assert await log.append([b"1"]) == 1
        assert datas(await log.read(0)) == [b"0", b"1"]
        assert log.statistics().failed_commits == 0


async def test_committed_records_that_are_gone_after_a_failover_are_reported(postgres_dsn: str) -> None:
    async with open_postgres_log(postgres_dsn, "a") as log:
        await log.append([b"0"])
        await log.append([b"1", b"2"])
        await execute(postgres_dsn, "DELETE FROM hermes_log WHERE index = 1")
        await terminate(postgres_dsn, backend(log))
        with pytest.raises(LogDamaged, match="records 1 to 2 were committed and are gone"):
            await log.append([b"3"])


# Outages


class Load:
    """Tasks that append until they are stopped, each record once; what became of each is noted."""

    def __init__(self, log: PostgresLog) -> None:
        self.log = log
        self.acknowledged: dict[int, bytes] = {}
        self.failed: set[bytes] = set()
        self.stopped = False

    async def append_on(self, task: int) -> None:
        number = 0
        while not self.stopped:
            number += 1
            records = [b"%d-%d-%d" % (task, number, n) for n in range(3)]
            try:
                index = await self.log.append(records)
            except LogUnavailable:
                self.failed.update(records)
                await trio.sleep(0.02)
            else:
                self.acknowledged.update(enumerate(records, index))

    async def wait_for_more(self, count: int) -> None:
        goal = len(self.acknowledged) + count
        with trio.fail_after(30):
            while len(self.acknowledged) < goal:  # noqa: ASYNC110
                await trio.sleep(0.01)


@pytest.mark.parametrize("immediate", [False, True], ids=["fast", "immediate"])
async def test_a_server_that_is_stopped_and_started_under_load_loses_nothing_that_was_acknowledged(
    own_postgres_server: PostgresServer, immediate: bool
) -> None:
    dsn, name = own_postgres_server.dsn(), f"load {immediate}"
    async with open_postgres_log(dsn, name) as log:
        load = Load(log)
        async with trio.open_nursery() as nursery:
            for task in range(16):
                nursery.start_soon(load.append_on, task)
            for _ in range(3):
                await load.wait_for_more(300)
                await trio.to_thread.run_sync(lambda: own_postgres_server.stop(immediate=immediate))
                await trio.sleep(0.1)
                await trio.to_thread.run_sync(own_postgres_server.start)
            await load.wait_for_more(300)
            load.stopped = True
    async with open_postgres_log(dsn, name) as log:
        found = {record.index: record.data for record in await everything(log)}
    assert found == load.acknowledged
    assert not load.failed & set(found.values())


async def test_a_server_that_is_down_refuses_quickly_and_one_that_is_back_is_noticed(
    own_postgres_server: PostgresServer,
) -> None:
    dsn = own_postgres_server.dsn()
    async with open_postgres_log(dsn, "outage") as log:
        await log.append([b"0"])
        await trio.to_thread.run_sync(own_postgres_server.stop)
        try:
            for _ in range(3):
                began = trio.current_time()
                with pytest.raises(LogUnavailable, match="refused"):
                    await log.append([b"no"])
                for call in (log.read(0), log.trim(1), log.take_snapshot(1, b"")):
                    with pytest.raises(LogUnavailable):
                        await call
                assert trio.current_time() - began < QUICKLY
            with pytest.raises(LogUnavailable):
                async with open_postgres_log(dsn, "outage"):
                    pass
        finally:
            await trio.to_thread.run_sync(own_postgres_server.start)
        assert await until_it_works(log, b"1") == 1
        assert log.first == 0


async def test_a_server_that_does_not_answer_holds_an_append_no_longer_than_its_bound(
    own_postgres_server: PostgresServer, impatient: None
) -> None:
    async with open_postgres_log(own_postgres_server.dsn(), "frozen") as log:
        await log.append([b"0"])
        await trio.to_thread.run_sync(own_postgres_server.pause)
        try:
            for _ in range(2):
                with trio.fail_after(QUICKLY), pytest.raises(LogUnavailable):
                    await log.append([b"no"])
        finally:
            await trio.to_thread.run_sync(own_postgres_server.resume)
        assert await until_it_works(log, b"1") == 1
        assert datas(await everything(log)) == [b"0", b"1"]


async def test_a_full_disk_is_said_so_and_appends_succeed_again_when_there_is_room(postgres_dsn: str) -> None:
    async with open_postgres_log(postgres_dsn, "a") as log:
        await log.append([b"0"])
        await execute(
            postgres_dsn,
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS"
            " $$BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END$$;"
            "CREATE TRIGGER full_disk BEFORE INSERT ON hermes_log EXECUTE FUNCTION full_disk()",
        )
        for _ in range(2):
            with pytest.raises(LogFull, match="53100 could not extend file"):
                await log.append([b"no"])
        await execute(postgres_dsn, "DROP TRIGGER full_disk ON hermes_log")
        assert await log.append([b"1"]) == 1
        assert datas(await everything(log)) == [b"0", b"1"]
