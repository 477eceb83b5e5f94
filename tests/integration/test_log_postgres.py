"""The log in a real Postgres: the conformance suite, commits, opening, fencing, damage and trimming."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest
import trio
from psycopg.conninfo import conninfo_to_dict

from hermes.base.errors import ConfigError, LogDamaged, LogUnavailable, StaleWriter
from hermes.store.log import Record, Snapshot
from hermes.store.log.postgres import PostgresLog, open_claimed_postgres_log, open_postgres_log
from hermes.store.log.postgres import log as log_module
from hermes.store.postgres import Cursor
from hermes.testing import check_log
from tests.integration.postgres_log import datas, everything, execute, rows


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


async def test_it_conforms(postgres_dsn: str) -> None:
    await check_log(lambda: open_postgres_log(postgres_dsn, "journal"))


async def test_a_claimed_log_conforms(postgres_dsn: str) -> None:
    await check_log(lambda: open_claimed_postgres_log(postgres_dsn))
    assert await execute(postgres_dsn, "SELECT log FROM hermes_log_state") == [("events-0",)]


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
        assert len(await log.read(0, max_records=sys.maxsize, max_bytes=sys.maxsize)) == 30


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
@pytest.mark.parametrize(
    ("setting", "theirs", "ours"),
    [
        ("synchronous_commit", "off", "on"),
        ("synchronous_commit", "remote_apply", "remote_apply"),
        ("default_transaction_isolation", "serializable", "read committed"),
        ("idle_session_timeout", "1h", "0"),
        ("tcp_keepalives_idle", "7200", "15"),
    ],
)
async def test_a_session_is_as_the_log_needs_it_whatever_the_database_says(
    postgres_dsn: str, chosen: str, setting: str, theirs: str, ours: str
) -> None:
    name = conninfo_to_dict(postgres_dsn)["dbname"]
    await execute(postgres_dsn, f"ALTER DATABASE {name} SET {setting} = '{theirs}'")
    async with open_postgres_log(postgres_dsn, "a") as log:
        connection = await (log._others if chosen == "others" else log._writer._session).connected()
        assert await (await connection.execute(f"SHOW {setting}".encode())).fetchone() == (ours,)
        assert await log.append([b"0"]) == 0


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
