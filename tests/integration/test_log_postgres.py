"""The log in a real Postgres: outages, cut connections, second writers and claims, beside the conformance suite."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow

from hermes.errors import ConfigError, LogDamaged, LogFull, LogUnavailable, StaleWriter
from hermes.log import Record, Snapshot
from hermes.log.postgres import PostgresLog, open_claimed_postgres_log, open_postgres_log, opening, session, writer
from hermes.log.postgres import log as log_module
from hermes.postgres import Cursor, open_connection
from tests.servers.postgres import PostgresServer

QUICKLY = 3.0  # seconds; a machine that is loaded included


async def execute(dsn: str, statement: str, *parameters: object) -> list[TupleRow]:
    async with open_connection(dsn) as connection:
        cursor = await connection.execute(statement.encode(), parameters or None)
        return await cursor.fetchall() if cursor.description else []


async def rows(dsn: str) -> int:
    ((count,),) = await execute(dsn, "SELECT count(*) FROM hermes_log")
    return int(count)


def datas(records: list[Record]) -> list[bytes]:
    return [record.data for record in records]


async def everything(log: PostgresLog) -> list[Record]:
    records: list[Record] = []
    while more := await log.read(records[-1].index + 1 if records else log.first):
        records += more
    return records


def backend(log: PostgresLog) -> int:
    """The process at the server that commits for this log."""
    connection = log._writer._session._connection
    assert connection is not None
    return connection.backend_pid


async def terminate(dsn: str, pid: int) -> None:
    await execute(dsn, "SELECT pg_terminate_backend(%s)", pid)
    with trio.fail_after(5):
        while await execute(dsn, "SELECT 1 FROM pg_stat_activity WHERE pid = %s", pid):  # noqa: ASYNC110
            await trio.sleep(0.01)


class Cutter:
    """A TCP proxy before the server that can cut connections in the middle of a conversation."""

    def __init__(self) -> None:
        self.dsn = ""
        self.open = True
        self.cut_at: str | None = None
        self.hides_goodbyes = False

    def cut(self, what: str, *, and_close: bool = False) -> None:
        """The next ``question`` does not arrive, or the next ``answer``; then nobody gets through to the server."""
        self.cut_at = what
        self.open = not and_close

    async def serve(self, client: trio.SocketStream, host: str, port: int) -> None:
        if not self.open and self.cut_at is None:
            return
        async with await trio.open_tcp_stream(host, port) as server, trio.open_nursery() as nursery:

            async def forward(what: str, source: trio.SocketStream, sink: trio.SocketStream) -> None:
                try:
                    async for data in source:
                        if self.cut_at == what:
                            self.cut_at = None
                            break
                        await sink.send_all(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass
                if what == "question" and self.hides_goodbyes:
                    return  # the server takes the client for alive
                nursery.cancel_scope.cancel()

            nursery.start_soon(forward, "question", client, server)
            nursery.start_soon(forward, "answer", server, client)


@pytest.fixture
async def cutter(postgres_dsn: str) -> AsyncIterator[Cutter]:
    there = conninfo_to_dict(postgres_dsn)
    cutter = Cutter()
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        cutter.dsn = make_conninfo(postgres_dsn, port=listener.socket.getsockname()[1])

        async def serve(client: trio.SocketStream) -> None:
            async with client:
                await cutter.serve(client, str(there["host"]), int(there["port"] or 0))

        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield cutter
        nursery.cancel_scope.cancel()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "COMMIT_TIMEOUT", 0.5)
    monkeypatch.setattr(session, "DIAL_TIMEOUT", 0.5)
    monkeypatch.setattr(session, "CLEANUP_TIMEOUT", 0.2)
    monkeypatch.setattr(opening, "CLOSE_TIMEOUT", 1.0)


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the driver is asked to execute, each by its first word."""
    seen: list[str] = []
    execute = Cursor.execute

    async def watched(cursor: Cursor[Any], query: str, *arguments: Any, **options: Any) -> Any:
        seen.append(query.split()[0])
        return await execute(cursor, query, *arguments, **options)

    monkeypatch.setattr(Cursor, "execute", watched)
    return seen


# Commits


async def test_appends_that_come_together_share_one_statement(postgres_dsn: str, statements: list[str]) -> None:
    async with open_postgres_log(postgres_dsn, "a") as log:
        statements.clear()
        indexes: list[int] = []

        async def append(number: int) -> None:
            indexes.append(await log.append([b"%d" % number] * 3))

        async with trio.open_nursery() as nursery:
            for number in range(64):
                nursery.start_soon(append, number)
        assert statements == ["INSERT"]
        assert sorted(indexes) == list(range(0, 192, 3))
        assert log.statistics().commits == 1
        assert len(await everything(log)) == 192


async def test_a_large_append_is_several_rows_and_one_statement(postgres_dsn: str, statements: list[str]) -> None:
    records = [bytes([n]) * 100_000 for n in range(30)]
    async with open_postgres_log(postgres_dsn, "a") as log:
        statements.clear()
        await log.append(records)
        assert statements == ["INSERT"]
        assert await rows(postgres_dsn) > 10
        assert datas(await log.read(0)) == records
        assert datas(await log.read(3, max_bytes=250_000)) == records[3:5]
        assert datas(await log.read(29)) == records[29:]
        assert len(await log.read(0, max_records=7)) == 7


async def test_a_read_fetches_no_more_than_its_limits_allow(postgres_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[int] = []
    fetch = PostgresLog._fetch

    async def watched(log: PostgresLog, *arguments: Any) -> Any:
        rows = await fetch(log, *arguments)
        fetched.append(sum(len(row.data) for row in rows))
        return rows

    monkeypatch.setattr(PostgresLog, "_fetch", watched)
    async with open_postgres_log(postgres_dsn, "a") as log:
        for _ in range(20):
            await log.append([b"x" * 1000] * 10)
        assert len(await log.read(0, max_records=15)) == 15
        assert len(await log.read(0, max_bytes=15_000)) == 15
        assert len(await log.read(95, max_records=1, max_bytes=1)) == 1
    assert [size // 10_000 for size in fetched] == [2, 2, 1]


@pytest.mark.parametrize("chosen", ["commits", "others"])
async def test_commits_are_synchronous_whatever_the_database_says(postgres_dsn: str, chosen: str) -> None:
    name = conninfo_to_dict(postgres_dsn)["dbname"]
    await execute(postgres_dsn, f"ALTER DATABASE {name} SET synchronous_commit = off")
    async with open_postgres_log(postgres_dsn, "a") as log:
        connection = await (log._others if chosen == "others" else log._writer._session).connected()
        assert await (await connection.execute("SHOW synchronous_commit")).fetchone() == ("on",)


# Opening


async def test_many_instances_may_make_the_tables_at_once(postgres_dsn: str) -> None:
    async def use(number: int) -> None:
        async with open_postgres_log(postgres_dsn, f"log {number}'s") as log:
            await log.append([b"%d" % number])
            assert datas(await log.read(0)) == [b"%d" % number]

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(use, number)


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("COMMENT ON TABLE hermes_log IS 'Hermes log, schema 2'", "newer Hermes"),
        ("COMMENT ON TABLE hermes_log_state IS NULL", "not Hermes's"),
    ],
)
async def test_tables_of_others_are_left_alone(postgres_dsn: str, statement: str, says: str) -> None:
    async with open_postgres_log(postgres_dsn, "a"):
        pass
    await execute(postgres_dsn, statement)
    with pytest.raises(LogUnavailable, match=says):
        async with open_postgres_log(postgres_dsn, "a"):
            pass


async def test_a_dsn_that_makes_no_sense_is_said_without_quoting_it() -> None:
    with pytest.raises(ConfigError, match="expected a Postgres URL") as raised:
        async with open_postgres_log("password=secret nonsense", "a"):
            pass
    assert "secret" not in str(raised.value)


async def test_a_snapshot_that_changed_is_damage(postgres_dsn: str) -> None:
    async with open_postgres_log(postgres_dsn, "a") as log:
        await log.take_snapshot(0, b"state")
    async with open_postgres_log(postgres_dsn, "a") as log:
        assert log.snapshot == Snapshot(0, b"state")
    await execute(postgres_dsn, "UPDATE hermes_log_state SET snapshot = 'stale'")
    with pytest.raises(LogDamaged, match="snapshot"):
        async with open_postgres_log(postgres_dsn, "a"):
            pass


# Fencing


async def test_of_two_writers_the_first_to_append_deposes_the_other_for_good(postgres_dsn: str) -> None:
    async with open_postgres_log(postgres_dsn, "a") as old, open_postgres_log(postgres_dsn, "a") as new:
        assert await new.append([b"new", b"newer"]) == 0
        for _ in range(2):
            with pytest.raises(StaleWriter) as raised:
                await old.append([b"old"])
            assert raised.value.next_index == 2
        assert await new.append([b"newest"], expected_index=2) == 2
        assert datas(await everything(new)) == [b"new", b"newer", b"newest"]


async def test_a_deposed_writer_is_fenced_where_the_log_was_trimmed_beyond_it(postgres_dsn: str) -> None:
    async with open_postgres_log(postgres_dsn, "a") as old:
        await old.append([b"0"])
        async with open_postgres_log(postgres_dsn, "a") as new:
            await new.append([b"1"])
            await new.append([b"2"])
            await new.trim(3)
            with pytest.raises(StaleWriter) as raised:
                await old.append([b"old"])
            assert raised.value.next_index == 3
            assert await new.append([b"3"]) == 3
            assert [tuple(row) for row in await execute(postgres_dsn, "SELECT index FROM hermes_log")] == [(3,)]


async def test_appends_that_wait_together_are_all_refused(postgres_dsn: str) -> None:
    refused = []
    async with open_postgres_log(postgres_dsn, "a") as old, open_postgres_log(postgres_dsn, "a") as new:
        await new.append([b"new"])

        async def append() -> None:
            with pytest.raises(StaleWriter) as raised:
                await old.append([b"old"])
            refused.append(raised.value.next_index)

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(append)
    assert refused == [1] * 8


# Connections that are cut


@pytest.mark.parametrize("what", ["question", "answer"])
async def test_a_commit_whose_connection_is_cut_is_in_the_log_once(cutter: Cutter, what: str) -> None:
    async with open_postgres_log(cutter.dsn, "a") as log:
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
    async with open_postgres_log(cutter.dsn, "a") as log:
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


async def until_it_works(log: PostgresLog, data: bytes) -> int:
    with trio.fail_after(20):
        while True:
            try:
                return await log.append([data])
            except LogUnavailable:
                await trio.sleep(0.02)


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
    async with open_postgres_log(cutter.dsn, "a") as log:
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


# Damage and trimming


@pytest.mark.parametrize(
    ("change", "says", "left"),
    [
        ("UPDATE hermes_log SET data = set_byte(data, 9, 0) WHERE index = 1", "records 1 to 2: the checksum", b"034"),
        ("DELETE FROM hermes_log WHERE index = 1", "records 1 to 2: missing", b"034"),
        ("DELETE FROM hermes_log WHERE index = 0", "records 0 to 0: missing", b"1234"),
        ("DELETE FROM hermes_log WHERE index IN (1, 3)", "records 1 to 3: missing", b"04"),
        ("UPDATE hermes_log SET count = 1 WHERE index = 1", "records 1 to 2: the checksum", b"034"),
    ],
)
async def test_damage_is_named_with_the_statement_that_gives_it_up(
    postgres_dsn: str, change: str, says: str, left: bytes
) -> None:
    async with open_postgres_log(postgres_dsn, "it's") as log:
        for records in ([b"0"], [b"1", b"2"], [b"3"], [b"4"]):
            await log.append(records)
        await execute(postgres_dsn, change)
        with pytest.raises(LogDamaged, match=says) as raised:
            await everything(log)
        await execute(postgres_dsn, str(raised.value).partition("go on after them: ")[2])
        assert b"".join(datas(await log.read(0))) == left
        assert await log.append([b"5"]) == 5


async def test_trimming_gives_the_space_of_large_rows_back_to_the_table(postgres_dsn: str) -> None:
    sizes = []
    async with open_postgres_log(postgres_dsn, "a") as log:
        for _ in range(4):
            for _ in range(8):
                await log.append([os.urandom(50_000)] * 20)
            await log.trim(log.next)
            assert await rows(postgres_dsn) == 0
            await execute(postgres_dsn, "VACUUM hermes_log")
            ((size,),) = await execute(postgres_dsn, "SELECT pg_total_relation_size('hermes_log')")
            sizes.append(size)
    assert max(sizes) < 20_000_000


async def test_a_trim_in_the_middle_of_a_row_counts_by_record(postgres_dsn: str) -> None:
    async with open_postgres_log(postgres_dsn, "a") as log:
        await log.append([b"1", b"22", b"333", b"4444"])
        await log.append([b"55555"])
        await log.trim(2)
        assert (log.first, log.statistics().bytes) == (2, 12)
        assert await log.read(0, max_records=1) == [Record(2, b"333")]
        await log.trim(1)
        assert log.first == 2
    async with open_postgres_log(postgres_dsn, "a") as log:
        assert (log.first, log.next, log.statistics().bytes) == (2, 5, 12)
        await log.trim(99)
        assert (log.first, log.next, log.statistics().bytes) == (5, 5, 0)
    async with open_postgres_log(postgres_dsn, "a") as log:
        assert (log.first, log.next) == (5, 5)


async def test_a_trim_that_was_interrupted_is_finished_by_the_next(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "TRIM_ROWS", 3)
    async with open_postgres_log(postgres_dsn, "a") as log:
        for _ in range(10):
            await log.append([b"x"])
        await execute(postgres_dsn, "UPDATE hermes_log_state SET first_index = 9, first_offset = 9")
    async with open_postgres_log(postgres_dsn, "a") as log:
        assert (log.first, await rows(postgres_dsn)) == (9, 10)
        assert await log.read(0) == [Record(9, b"x")]
        await log.trim(9)
        assert await rows(postgres_dsn) == 1


# Claims


async def test_instances_that_start_at_once_own_a_journal_each(postgres_dsn: str) -> None:
    names = []
    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:

        async def claim() -> None:
            log = await stack.enter_async_context(open_claimed_postgres_log(postgres_dsn))
            await log.append([log.name.encode()])
            names.append(log.name)

        for _ in range(6):
            nursery.start_soon(claim)
    assert sorted(names) == [f"events-{n}" for n in range(6)]


async def test_the_lowest_number_without_an_owner_is_taken_first(postgres_dsn: str) -> None:
    for name in ("events-2", "events-10", "events-007", "events-", "other-0"):
        async with open_postgres_log(postgres_dsn, name):
            pass
    async with (
        open_claimed_postgres_log(postgres_dsn) as first,
        open_claimed_postgres_log(postgres_dsn) as second,
        open_claimed_postgres_log(postgres_dsn) as third,
        open_claimed_postgres_log(postgres_dsn, "other") as other,
    ):
        assert [log.name for log in (first, second, third, other)] == ["events-2", "events-10", "events-11", "other-0"]


async def test_a_dead_instance_s_journal_is_adopted_and_it_is_refused_from_then_on(postgres_dsn: str) -> None:
    async with open_claimed_postgres_log(postgres_dsn) as first, open_claimed_postgres_log(postgres_dsn) as second:
        assert (first.name, second.name) == ("events-0", "events-1")
        await first.append([b"0", b"1"])
        await first.take_snapshot(1, b"cursors")
        await first.trim(1)
        await terminate(postgres_dsn, backend(first))
        async with open_claimed_postgres_log(postgres_dsn) as third:
            assert (third.name, third.snapshot) == ("events-0", Snapshot(1, b"cursors"))
            assert await everything(third) == [Record(1, b"1")]
            for _ in range(2):
                with pytest.raises(StaleWriter) as raised:
                    await first.append([b"no"])
                assert raised.value.next_index == 2
            with pytest.raises(StaleWriter):
                await first.trim(2)
            with pytest.raises(StaleWriter):
                await first.take_snapshot(2, b"mine")
            assert await third.append([b"2"]) == 2
        with pytest.raises(StaleWriter):
            await first.append([b"no, though nobody has it"])
    async with open_claimed_postgres_log(postgres_dsn) as fourth:
        assert (fourth.name, fourth.snapshot) == ("events-0", Snapshot(1, b"cursors"))
        assert await everything(fourth) == [Record(1, b"1"), Record(2, b"2")]


async def test_an_adopted_journal_is_not_trimmed_by_an_owner_that_has_not_noticed(postgres_dsn: str) -> None:
    async with open_claimed_postgres_log(postgres_dsn) as first:
        await first.append([b"0", b"1"])
        await terminate(postgres_dsn, backend(first))
        async with open_claimed_postgres_log(postgres_dsn) as second:
            with pytest.raises(StaleWriter):
                await first.trim(2)
            with pytest.raises(StaleWriter):
                await first.append([b"no"])
            assert len(await everything(second)) == 2


async def test_an_owner_whose_session_was_ended_takes_its_lock_again(postgres_dsn: str) -> None:
    async with open_claimed_postgres_log(postgres_dsn) as first:
        await first.append([b"0"])
        await terminate(postgres_dsn, backend(first))
        assert await first.append([b"1"]) == 1
        async with open_claimed_postgres_log(postgres_dsn) as second:
            assert second.name == "events-1"
        assert await first.append([b"2"]) == 2


async def test_an_owner_whose_connection_was_cut_ends_its_own_old_session_to_have_the_lock(cutter: Cutter) -> None:
    async with open_claimed_postgres_log(cutter.dsn) as log:
        await log.append([b"0"])
        old = backend(log)
        cutter.hides_goodbyes = True
        await log._writer._session.drop()
        assert await log.append([b"1"]) == 1
        assert backend(log) != old


async def test_claims_survive_a_restart_of_the_server(own_postgres_server: PostgresServer) -> None:
    dsn = own_postgres_server.dsn()
    async with open_claimed_postgres_log(dsn) as first, open_claimed_postgres_log(dsn) as second:
        await trio.to_thread.run_sync(own_postgres_server.restart)
        for log in (second, first):
            assert await log.append([log.name.encode()]) == 0
        async with open_claimed_postgres_log(dsn) as third:
            assert third.name == "events-2"
