"""Several instances on one database: each owns a journal of the postgres log, and the dead one's is adopted."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
import trio
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from hermes.base.errors import ConfigError, StaleWriter
from hermes.store.log import Record, Snapshot
from hermes.store.log.postgres import PostgresLog, open_claimed_postgres_log, open_postgres_log
from hermes.store.postgres import Connection
from tests.integration.postgres_log import backend, everything, execute, terminate, until_it_works
from tests.servers.cutter import open_cutter
from tests.servers.pgbouncer import pgbouncer
from tests.servers.postgres import PostgresServer


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


async def test_a_log_that_is_closed_is_free_at_once(postgres_dsn: str) -> None:
    """Not some time later, when the server notices that the session has gone: a restart would claim another log."""
    async with open_postgres_log(postgres_dsn, "events-0") as log:
        await log.append([b"owed"])
    async with await Connection.connect(postgres_dsn) as other:
        for _ in range(10):
            async with open_claimed_postgres_log(postgres_dsn) as claimed:
                assert claimed.name == "events-0"
            # The locks of other databases belong to sessions of tests before this one, which may take a while to end.
            held = await other.execute(
                "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database"
                " WHERE locktype = 'advisory' AND datname = current_database()"
            )
            assert await held.fetchone() == (0,)


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


async def test_an_owner_whose_connection_was_cut_ends_its_own_old_session_to_have_the_lock(postgres_dsn: str) -> None:
    async with (
        open_cutter(int(conninfo_to_dict(postgres_dsn)["port"] or 0)) as cutter,
        open_claimed_postgres_log(make_conninfo(postgres_dsn, port=cutter.port)) as log,
    ):
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


# What stands between the instance and the server


@pytest.mark.parametrize("mode", ["transaction", "statement"])
async def test_a_pooler_that_shares_sessions_is_refused_with_words_that_say_what_to_do(
    postgres_dsn: str, mode: str
) -> None:
    with pgbouncer(postgres_dsn, mode) as dsn:
        for opened in (open_claimed_postgres_log(dsn), open_postgres_log(dsn, "one")):
            with pytest.raises(ConfigError, match=r"leads to a pooler of transactions.*pool_mode = session"):
                async with opened:
                    pass


async def test_behind_a_pooler_of_sessions_each_instance_has_a_journal_and_ends_the_backend_that_it_lost(
    postgres_dsn: str,
) -> None:
    with pgbouncer(postgres_dsn, "session") as dsn:
        async with open_claimed_postgres_log(dsn) as first, open_claimed_postgres_log(dsn) as second:
            assert (first.name, second.name) == ("events-0", "events-1")
            await first.append([b"0"])
            connection = first._writer._session._connection
            assert connection is not None
            lost = first._writer._session._backend
            await connection.close()
            assert await until_it_works(first, b"1") == 1
            assert lost is not None
            assert not await execute(postgres_dsn, "SELECT FROM pg_stat_activity WHERE pid = %s", lost[0])


async def until_unowned(log: PostgresLog, count: int) -> None:
    """The server frees a lock a moment after its client has closed the connection."""
    with trio.fail_after(10):
        while await log.count_unowned() != count:  # noqa: ASYNC110 - another session of the server does it
            await trio.sleep(0.02)


async def test_journals_of_instances_that_are_gone_are_counted_while_they_keep_records(postgres_dsn: str) -> None:
    async with open_claimed_postgres_log(postgres_dsn) as stays:
        assert await stays.count_unowned() == 0
        async with open_claimed_postgres_log(postgres_dsn) as goes, open_claimed_postgres_log(postgres_dsn) as empty:
            for log in (goes, empty):
                await log.append([b"0", b"1"])
            await empty.trim(2)
            assert await stays.count_unowned() == 0
        await until_unowned(stays, 1)
        async with open_postgres_log(postgres_dsn, "of another kind") as named:
            await named.append([b"0"])
            assert await named.count_unowned() == 0
        await until_unowned(stays, 1)
        async with open_claimed_postgres_log(postgres_dsn) as heir:
            assert heir.name == goes.name
            assert await stays.count_unowned() == 0


async def test_a_restart_takes_over_what_nobody_delivers_instead_of_what_it_had_itself(postgres_dsn: str) -> None:
    async with open_claimed_postgres_log(postgres_dsn) as first:
        await first.append([b"0"])
        async with open_claimed_postgres_log(postgres_dsn) as second:
            await second.append([b"0"])
    names = []
    for _ in range(4):
        async with open_claimed_postgres_log(postgres_dsn) as log:
            names.append(log.name)
    assert sorted(names) == ["events-0", "events-0", "events-1", "events-1"]
