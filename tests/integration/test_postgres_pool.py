"""The Postgres pool against real servers: its bound, what it takes back, and how it survives its server."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import psycopg
import pytest
import trio

from hermes.store.postgres import Connection, Pool, PoolTimeout, open_connection, open_pool
from tests.servers.postgres import PostgresServer


async def backend_pid(pool: Pool) -> int:
    async with pool.connection() as connection:
        return connection.backend_pid


async def answer(pool: Pool) -> tuple[object, ...] | None:
    async with pool.connection() as connection:
        return await (await connection.execute("SELECT 1")).fetchone()


async def count_backends(observer: Connection) -> int:
    """Return how many others are connected to the observer's database."""
    cursor = await observer.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


def count_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def wait_for_backends(observer: Connection, count: int) -> None:
    # A backend ends a moment after its connection was closed.
    with trio.fail_after(5):
        while await count_backends(observer) != count:  # noqa: ASYNC110  # nothing announces it
            await trio.sleep(0.02)


async def test_many_tasks_share_a_few_connections(postgres_dsn: str) -> None:
    most = 0

    async def work(pool: Pool, observer: Connection) -> None:
        nonlocal most
        async with pool.connection() as connection:
            await connection.execute("SELECT pg_sleep(0.005)")
            most = max(most, await count_backends(observer))

    async with open_connection(postgres_dsn) as observer:
        async with open_pool(postgres_dsn, max_size=3) as pool:
            async with trio.open_nursery() as nursery:
                for _ in range(30):
                    nursery.start_soon(work, pool, observer)
            assert most == 3
            statistics = pool.statistics()
            assert (statistics.opened, statistics.idle, statistics.in_use) == (3, 3, 0)
        await wait_for_backends(observer, 0)


async def test_an_open_transaction_is_rolled_back_before_the_next_borrower(postgres_dsn: str) -> None:
    async with open_pool(postgres_dsn, max_size=1) as pool:
        async with pool.connection() as connection:
            first = connection.backend_pid
            await connection.execute("BEGIN")
            await connection.execute("CREATE TABLE t (n int)")
        async with pool.connection() as connection:
            assert connection.backend_pid == first
            found = await connection.execute("SELECT to_regclass('t')")
            assert await found.fetchone() == (None,)
        assert pool.statistics().rolled_back == 1


async def test_a_failed_transaction_is_rolled_back_too(postgres_dsn: str) -> None:
    async with open_pool(postgres_dsn, max_size=1) as pool:
        async with pool.connection() as connection:
            await connection.execute("BEGIN")
            with pytest.raises(psycopg.errors.DivisionByZero):
                await connection.execute("SELECT 1 / 0")
        assert await answer(pool) == (1,)


async def test_a_connection_that_comes_back_with_a_statement_running_is_discarded(postgres_dsn: str) -> None:
    async with open_pool(postgres_dsn, max_size=1) as pool:
        async with pool.connection() as connection:
            connection.pgconn.send_query(b"SELECT pg_sleep(30)")
        assert await answer(pool) == (1,)
        statistics = pool.statistics()
        assert (statistics.discarded, statistics.opened) == (1, 2)


async def test_a_connection_that_comes_back_without_autocommit_is_discarded(postgres_dsn: str) -> None:
    async with open_pool(postgres_dsn, max_size=1) as pool:
        async with pool.connection() as connection:
            await connection.set_autocommit(False)
        async with pool.connection() as connection:
            assert connection.autocommit
        assert pool.statistics().discarded == 1


async def test_a_borrower_never_notices_that_an_idle_connection_was_killed(postgres_dsn: str) -> None:
    async with open_pool(postgres_dsn, max_size=1) as pool:
        killed = await backend_pid(pool)
        async with open_connection(postgres_dsn) as observer:
            await observer.execute("SELECT pg_terminate_backend(%s)", [killed])
            await wait_for_backends(observer, 0)
        assert await backend_pid(pool) != killed


async def test_an_idle_connection_is_asked_before_it_is_lent_again(postgres_dsn: str) -> None:
    async with open_pool(postgres_dsn, max_size=1, check_after=0) as pool:
        assert await backend_pid(pool) == await backend_pid(pool)
        statistics = pool.statistics()
        assert (statistics.checks, statistics.failed_checks) == (1, 0)


async def test_a_frozen_idle_connection_is_replaced_after_check_timeout(postgres_dsn: str) -> None:
    async with open_pool(postgres_dsn, max_size=1, check_after=0, check_timeout=0.2) as pool:
        frozen = await backend_pid(pool)
        os.kill(frozen, signal.SIGSTOP)
        try:
            with trio.fail_after(2):
                assert await backend_pid(pool) != frozen
        finally:
            os.kill(frozen, signal.SIGCONT)
        assert pool.statistics().failed_checks == 1


async def test_connections_are_replaced_at_the_end_of_their_life(postgres_dsn: str) -> None:
    async with open_connection(postgres_dsn) as observer, open_pool(postgres_dsn, max_lifetime=0.02) as pool:
        first = await backend_pid(pool)
        await trio.sleep(0.03)
        assert await backend_pid(pool) != first
        assert pool.statistics().retired == 1
        await wait_for_backends(observer, 1)


async def test_unused_connections_are_closed_when_others_come_back(postgres_dsn: str) -> None:
    async with open_connection(postgres_dsn) as observer, open_pool(postgres_dsn, max_idle=0.1) as pool:
        async with pool.connection(), pool.connection(), pool.connection():
            assert await count_backends(observer) == 3
        assert pool.statistics().idle == 3
        await trio.sleep(0.12)
        await answer(pool)
        assert (pool.statistics().idle, pool.statistics().retired) == (1, 2)
        await wait_for_backends(observer, 1)


async def test_a_connection_that_outlives_its_pool_is_closed_on_return(postgres_dsn: str) -> None:
    async with open_connection(postgres_dsn) as observer:
        pool = open_pool(postgres_dsn)
        async with pool:
            lent = pool.connection()
            connection = await lent.__aenter__()
        closed = [connection.closed]
        await lent.__aexit__(None, None, None)
        assert [*closed, connection.closed] == [False, True]
        await wait_for_backends(observer, 0)


async def test_random_cancellation_leaks_neither_slots_nor_connections(postgres_dsn: str) -> None:
    chance = random.Random(4)
    descriptors_before = count_descriptors()
    finished = 0

    async def work(pool: Pool) -> None:
        nonlocal finished
        for _ in range(40):
            with trio.move_on_after(chance.uniform(0, 0.04)):
                async with pool.connection() as connection, connection.transaction():
                    await connection.execute("SELECT pg_sleep(%s)", [chance.uniform(0, 0.005)])
                    await connection.copy_in("COPY t FROM STDIN", b"1\n" * 1000)
                    finished += 1

    async with open_connection(postgres_dsn) as observer:
        await observer.execute("CREATE TABLE t (n int)")
        async with open_pool(postgres_dsn, max_size=4, max_lifetime=0.2, check_after=0) as pool:
            async with trio.open_nursery() as nursery:
                for _ in range(12):
                    nursery.start_soon(work, pool)
            statistics = pool.statistics()
            assert (statistics.in_use, statistics.waiting) == (0, 0)
            assert statistics.idle <= 4
            await wait_for_backends(observer, statistics.idle)
            # Every slot can still be had, all at once.
            async with pool.connection(), pool.connection(), pool.connection(), pool.connection():
                assert pool.statistics().in_use == 4
        await wait_for_backends(observer, 0)
    assert 0 < finished < 480
    assert count_descriptors() == descriptors_before


async def test_a_restarted_server_is_used_again_without_an_error(own_postgres_server: PostgresServer) -> None:
    async with open_pool(own_postgres_server.dsn(), max_size=2) as pool:
        async with pool.connection(), pool.connection():
            pass
        await trio.to_thread.run_sync(own_postgres_server.restart)
        assert await answer(pool) == (1,)


async def test_borrowers_under_way_see_a_crash_once_and_then_go_on(own_postgres_server: PostgresServer) -> None:
    failures = 0
    after_the_crash = trio.Event()

    async def work(pool: Pool) -> None:
        nonlocal failures
        while not after_the_crash.is_set():
            try:
                async with pool.connection() as connection:
                    await connection.execute("SELECT pg_sleep(0.01)")
            except PoolTimeout:
                raise
            except psycopg.OperationalError:
                failures += 1

    async with open_pool(own_postgres_server.dsn(), max_size=3) as pool:
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                for _ in range(6):
                    nursery.start_soon(work, pool)
                await trio.sleep(0.1)
                await trio.to_thread.run_sync(lambda: own_postgres_server.restart(immediate=True))
                assert await answer(pool) == (1,)
                after_the_crash.set()
        assert 1 <= failures <= 6
        assert pool.statistics().in_use == 0


async def test_a_server_that_is_down_at_first_is_found_when_it_comes_up(own_postgres_server: PostgresServer) -> None:
    await trio.to_thread.run_sync(own_postgres_server.stop)
    try:
        async with open_pool(own_postgres_server.dsn(), max_size=2, backoff_max=0.1) as pool:
            with pytest.raises(PoolTimeout, match="refused") as refusal:
                async with pool.connection(timeout=0.3):
                    pass
            assert isinstance(refusal.value.last_error, psycopg.OperationalError)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, own_postgres_server.start)
                assert await answer(pool) == (1,)
            assert pool.statistics().failed_dials >= 2
    finally:
        await trio.to_thread.run_sync(own_postgres_server.stop)
        await trio.to_thread.run_sync(own_postgres_server.start)


async def test_a_server_that_is_down_meets_one_dialer(own_postgres_server: PostgresServer) -> None:
    async def expect_timeout(pool: Pool) -> None:
        with pytest.raises(PoolTimeout):
            async with pool.connection(timeout=0.6):
                pass

    await trio.to_thread.run_sync(own_postgres_server.stop)
    try:
        async with open_pool(own_postgres_server.dsn(), max_size=20, backoff_min=0.1) as pool:
            await expect_timeout(pool)
            dialed_by_one = pool.statistics().failed_dials
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(expect_timeout, pool)
            assert pool.statistics().failed_dials - dialed_by_one <= dialed_by_one
            assert pool.statistics().timeouts == 21
    finally:
        await trio.to_thread.run_sync(own_postgres_server.start)


async def test_a_frozen_server_costs_a_borrower_its_own_timeout_only(own_postgres_server: PostgresServer) -> None:
    async with open_pool(own_postgres_server.dsn(), max_size=1, check_after=0, check_timeout=0.1) as pool:
        await answer(pool)
        own_postgres_server.pause()
        try:
            began = trio.current_time()
            with pytest.raises(PoolTimeout):
                async with pool.connection(timeout=0.4):
                    pass
            assert trio.current_time() - began < 5
            assert pool.statistics().failed_checks == 1
        finally:
            own_postgres_server.resume()
        assert await answer(pool) == (1,)
