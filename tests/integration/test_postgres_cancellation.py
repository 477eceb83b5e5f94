"""Cancelling what runs on a Postgres connection: it ends soon, at the server too, and the connection stays usable."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import psycopg
import pytest
import trio
from structlog.testing import capture_logs

from hermes.store.postgres import Connection, Cursor, open_connection

Step = Callable[[Connection], Awaitable[object]]


async def is_usable(connection: Connection) -> bool:
    cursor = await connection.execute("SELECT 1")
    return await cursor.fetchall() == [(1,)] and connection.info.transaction_status.name == "IDLE"


async def run_cancelled(connection: Connection, step: Step, *, after: float = 0.1) -> float:
    """Run the step, cancel it `after` some seconds, and return how long that took to take effect."""
    with trio.move_on_after(after) as scope:
        await step(connection)
    assert scope.cancelled_caught
    return trio.current_time() - scope.deadline


async def sleep_long(connection: Connection) -> None:
    await connection.execute("SELECT pg_sleep(30)")


async def sleep_long_in_a_transaction(connection: Connection) -> None:
    async with connection.transaction():
        await sleep_long(connection)


async def sleep_long_in_a_savepoint(connection: Connection) -> None:
    async with connection.transaction(), connection.transaction():
        await sleep_long(connection)


async def commit_long(connection: Connection) -> None:
    async with connection.transaction():
        await connection.execute("INSERT INTO slow_to_commit VALUES (1)")


async def wait_for_the_lock(connection: Connection) -> None:
    await connection.copy_in("COPY locked FROM STDIN", b"1\n" * 5_000_000)


async def pause_while_copying(connection: Connection) -> None:
    async with connection.cursor() as cursor, cursor.copy("COPY t FROM STDIN") as copy:
        await copy.write(b"1\n")
        await trio.sleep_forever()


async def copy_without_end(connection: Connection) -> None:
    async with connection.cursor() as cursor, cursor.copy("COPY t FROM STDIN") as copy:
        while True:
            await copy.write(b"1\n" * 10_000)


async def copy_out_without_end(connection: Connection) -> None:
    endless = "COPY (SELECT generate_series(1, 1000000000)) TO STDOUT"
    async with connection.cursor() as cursor, cursor.copy(endless) as copy:
        async for _ in copy:
            pass


async def stream_without_end(connection: Connection) -> None:
    async for _ in Cursor(connection).stream("SELECT generate_series(1, 1000000000)", size=1000):
        pass


async def receive_a_huge_result(connection: Connection) -> None:
    await connection.execute("SELECT repeat('x', 1000) FROM generate_series(1, 3000000)")


async def send_a_huge_query(connection: Connection) -> None:
    await connection.execute("SELECT length(%s), pg_sleep(30)", ["x" * 10_000_000])


@pytest.mark.parametrize(
    "step",
    [
        sleep_long,
        sleep_long_in_a_transaction,
        sleep_long_in_a_savepoint,
        commit_long,
        wait_for_the_lock,
        pause_while_copying,
        copy_without_end,
        copy_out_without_end,
        stream_without_end,
        receive_a_huge_result,
        send_a_huge_query,
    ],
)
async def test_a_cancelled_step_ends_soon_and_the_connection_is_usable(postgres_dsn: str, step: Step) -> None:
    async with open_connection(postgres_dsn) as connection, open_connection(postgres_dsn) as other:
        await connection.execute(
            """
            CREATE TABLE t (n int);
            CREATE TABLE locked (n int);
            CREATE TABLE slow_to_commit (n int);
            CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN PERFORM pg_sleep(30); RETURN NULL; END $$;
            CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON slow_to_commit
                INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION dawdle();
            """
        )
        with capture_logs() as logs:
            async with other.transaction():
                await other.execute("LOCK TABLE locked")
                # A server that has to wait for a processor is late now and then, and one that is not asked is always.
                for _ in range(3):
                    took = await run_cancelled(connection, step)
                    assert await is_usable(connection)
                    if took < 1:
                        break
                assert took < 1
        assert logs == []
        stored = await connection.execute(
            "SELECT (SELECT count(*) FROM t) + (SELECT count(*) FROM slow_to_commit) + (SELECT count(*) FROM locked)"
        )
        assert await stored.fetchall() == [(0,)]
        running = await other.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND state = 'active'", [connection.backend_pid]
        )
        assert await running.fetchall() == [(0,)]


async def test_a_statement_that_is_cancelled_before_it_starts_is_never_sent(postgres_dsn: str) -> None:
    async with open_connection(postgres_dsn) as connection:
        with trio.CancelScope() as scope:
            scope.cancel()
            await connection.execute("CREATE TABLE t (n int)")
        found = await connection.execute("SELECT to_regclass('t')")
        assert await found.fetchall() == [(None,)]


async def test_a_cancelled_copy_takes_no_more_data(postgres_dsn: str) -> None:
    async with open_connection(postgres_dsn) as connection, connection.cursor() as cursor:
        await connection.execute("CREATE TABLE t (n int)")
        with trio.CancelScope() as scope:
            async with cursor.copy("COPY t FROM STDIN") as copy:
                scope.cancel()
                await copy.write(b"1\n")
                pytest.fail("a block was taken after the cancellation")
        assert scope.cancelled_caught
        assert await is_usable(connection)


async def test_an_implicit_begin_that_is_cancelled_does_not_run_the_statement(postgres_dsn: str) -> None:
    async with open_connection(postgres_dsn, autocommit=False) as connection:
        for delay in range(30):
            with trio.move_on_after(delay / 20_000):
                await sleep_long(connection)
            assert connection.info.transaction_status.name in ("IDLE", "INTRANS", "INERROR")
            await connection.rollback()
            assert not connection.closed


async def test_an_interrupted_pipeline_ends_the_connection_and_says_so(postgres_dsn: str) -> None:
    connection = await Connection.connect(postgres_dsn)

    async def insert_slowly(connection: Connection) -> None:
        async with connection.cursor() as cursor:
            await cursor.executemany("SELECT pg_sleep(%s)", [[30], [30]])

    with capture_logs() as logs:
        assert await run_cancelled(connection, insert_slowly) < 1
    assert connection.closed
    assert [entry["reason"] for entry in logs] == ["a statement was interrupted by Cancelled, in a pipeline"]
    await connection.close()


async def test_another_task_can_cancel_a_statement(postgres_dsn: str) -> None:
    async def expect_cancellation(connection: Connection) -> None:
        with pytest.raises(psycopg.errors.QueryCanceled):
            await sleep_long(connection)

    async with open_connection(postgres_dsn) as connection:
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(expect_cancellation, connection)
                await trio.sleep(0.1)
                await connection.cancel_safe()
        assert await is_usable(connection)


async def test_cancellation_at_any_moment_leaves_the_connection_usable(postgres_dsn: str) -> None:
    chance = random.Random(2)
    async with open_connection(postgres_dsn) as connection:
        await connection.execute("CREATE TABLE t (n int)")

        async def work() -> None:
            async with connection.transaction():
                await connection.execute("INSERT INTO t VALUES (%s)", [1])
                async with connection.transaction():
                    await connection.copy_in("COPY t FROM STDIN", b"1\n" * 50_000)
                await connection.execute("DELETE FROM t")

        cancelled = 0
        for _ in range(100):
            with trio.move_on_after(chance.uniform(0, 0.025)) as scope:
                await work()
            cancelled += scope.cancelled_caught
            assert await is_usable(connection)
        assert cancelled > 20
        left = await connection.execute("SELECT count(*) FROM t")
        assert await left.fetchall() == [(0,)]
