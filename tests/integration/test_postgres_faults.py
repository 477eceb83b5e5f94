"""A Postgres connection whose server dies or stops answering: its caller gets an error, or its own deadline."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import psycopg
import pytest
import trio
import trio.testing
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from structlog.testing import capture_logs

from hermes.store.postgres import Connection, Cursor, open_connection
from tests.servers.postgres import PostgresServer
from tests.servers.proxy import Proxy, open_proxy

DEADLINE = 0.3
CLEANUP = 0.4
# What a loaded machine may add to the two; a hang would be seconds.
SLACK = 0.5

Step = Callable[[Connection], Awaitable[object]]


@asynccontextmanager
async def connection_through_a_proxy(dsn: str) -> AsyncIterator[tuple[Connection, Proxy]]:
    async with open_proxy(int(conninfo_to_dict(dsn)["port"] or 0)) as proxy:
        through_proxy = make_conninfo(dsn, port=proxy.port)
        async with open_connection(through_proxy, cleanup_timeout=CLEANUP) as connection:
            yield connection, proxy


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def query(connection: Connection) -> None:
    await connection.execute("SELECT 1")


async def query_in_nested_transactions(connection: Connection) -> None:
    async with connection.transaction(), connection.transaction():
        await connection.execute("SELECT 1")


async def send_a_huge_query(connection: Connection) -> None:
    await connection.execute("SELECT length(%s), pg_sleep(30)", ["x" * 20_000_000])


async def copy_a_large_block(connection: Connection) -> None:
    # More than all the socket buffers and the proxy on the way can hold.
    await connection.copy_in("COPY t FROM STDIN", b"1\n" * 10_000_000)


async def copy_without_end(connection: Connection) -> None:
    async with connection.cursor() as cursor, cursor.copy("COPY t FROM STDIN") as copy:
        while True:
            await copy.write(b"1\n" * 1000)


async def stream_without_end(connection: Connection) -> None:
    async for _ in Cursor(connection).stream("SELECT generate_series(1, 1000000000)", size=1000):
        pass


async def sleep_long(connection: Connection) -> None:
    await connection.execute("SELECT pg_sleep(30)")


async def sleep_long_in_a_transaction(connection: Connection) -> None:
    async with connection.transaction():
        await sleep_long(connection)


async def pause_in_a_transaction(connection: Connection) -> None:
    async with connection.transaction():
        await connection.execute("SELECT 1")
        await trio.sleep(0.3)


async def terminate(dsn: str, pid: int) -> None:
    async with open_connection(dsn) as connection:
        await connection.execute("SELECT pg_terminate_backend(%s)", [pid])


@pytest.mark.parametrize(
    "step",
    [sleep_long, sleep_long_in_a_transaction, pause_in_a_transaction, copy_without_end, stream_without_end],
)
async def test_a_killed_backend_is_an_operational_error_at_once(postgres_dsn: str, step: Step) -> None:
    async with open_connection(postgres_dsn) as connection:
        await connection.execute("CREATE TABLE t (n int)")
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:

                async def expect_the_error() -> None:
                    with pytest.raises(psycopg.OperationalError):
                        await step(connection)

                nursery.start_soon(expect_the_error)
                await trio.sleep(0.1)
                await terminate(postgres_dsn, connection.backend_pid)
        assert connection.closed


async def test_a_killed_server_is_an_operational_error_at_once(own_postgres_server: PostgresServer) -> None:
    async with open_connection(own_postgres_server.dsn()) as connection:
        try:
            with trio.fail_after(5):
                async with trio.open_nursery() as nursery:

                    async def expect_the_error() -> None:
                        with pytest.raises(psycopg.OperationalError):
                            await sleep_long(connection)

                    nursery.start_soon(expect_the_error)
                    await trio.sleep(0.1)
                    await trio.to_thread.run_sync(own_postgres_server.kill)
        finally:
            await trio.to_thread.run_sync(own_postgres_server.start)


@pytest.mark.parametrize("step", [query, query_in_nested_transactions, copy_a_large_block])
async def test_a_stalled_peer_holds_a_caller_for_its_deadline_and_the_clean_up_only(
    postgres_dsn: str, step: Step
) -> None:
    async with connection_through_a_proxy(postgres_dsn) as (connection, proxy):
        await connection.execute("CREATE TABLE t (n int)")
        proxy.stall()
        began = trio.current_time()
        with capture_logs() as logs, trio.move_on_after(DEADLINE) as scope:
            await step(connection)
        assert scope.cancelled_caught
        assert DEADLINE + CLEANUP <= trio.current_time() - began < DEADLINE + CLEANUP + SLACK
        assert connection.closed
        assert [entry["reason"] for entry in logs] == [
            "a statement was interrupted by Cancelled; cleaning up did not end in time"
        ]


@pytest.mark.parametrize("step", [pause_in_a_transaction, copy_without_end, stream_without_end])
async def test_a_peer_that_stalls_under_way_holds_a_caller_no_longer(postgres_dsn: str, step: Step) -> None:
    async with connection_through_a_proxy(postgres_dsn) as (connection, proxy):
        await connection.execute("CREATE TABLE t (n int)")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stall_after, proxy, 0.1)
            with trio.move_on_after(DEADLINE) as scope:
                await step(connection)
            assert trio.current_time() - scope.deadline < CLEANUP + SLACK
        assert scope.cancelled_caught
        assert connection.closed


async def stall_after(proxy: Proxy, delay: float) -> None:
    await trio.sleep(delay)
    proxy.stall()


async def test_a_frozen_backend_holds_a_caller_for_its_deadline_and_the_clean_up_only(postgres_dsn: str) -> None:
    async with open_connection(postgres_dsn, cleanup_timeout=CLEANUP) as connection:
        with frozen(connection.backend_pid), trio.move_on_after(DEADLINE) as scope:
            await query(connection)
        assert scope.cancelled_caught
        assert trio.current_time() - scope.deadline < CLEANUP + SLACK
        assert connection.closed


@pytest.mark.parametrize("step", [query, send_a_huge_query, query_in_nested_transactions])
async def test_a_peer_that_is_back_during_the_clean_up_keeps_its_connection(postgres_dsn: str, step: Step) -> None:
    async with connection_through_a_proxy(postgres_dsn) as (connection, proxy):
        connection.cleanup_timeout = 10
        proxy.stall()
        async with trio.open_nursery() as nursery:

            async def resume_during_the_clean_up() -> None:
                await trio.sleep(0.2)
                proxy.resume()

            nursery.start_soon(resume_during_the_clean_up)
            with trio.move_on_after(0.1) as scope:
                await step(connection)
        assert scope.cancelled_caught
        assert connection.info.transaction_status == pq.TransactionStatus.IDLE
        await query_in_nested_transactions(connection)


async def test_a_cancel_request_that_overtakes_its_statement_is_repeated(postgres_dsn: str) -> None:
    # A frozen backend finds both when it thaws: first the request, with nothing to cancel, and then the statement.
    async with open_connection(postgres_dsn) as connection, trio.open_nursery() as nursery:
        thawed = trio.Event()

        async def freeze_for_a_moment() -> None:
            with frozen(connection.backend_pid):
                await trio.sleep(0.2)
            thawed.set()

        nursery.start_soon(freeze_for_a_moment)
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0.1):
            await sleep_long(connection)
        assert thawed.is_set()
        assert connection.info.transaction_status == pq.TransactionStatus.IDLE


async def test_closing_never_waits_for_a_stalled_peer(postgres_dsn: str) -> None:
    async with connection_through_a_proxy(postgres_dsn) as (connection, proxy):
        await connection.execute("CREATE TABLE t (n int)")
        proxy.stall()
        async with trio.open_nursery() as nursery:

            async def expect_the_error() -> None:
                with pytest.raises(psycopg.OperationalError, match="closed"):
                    await copy_a_large_block(connection)

            nursery.start_soon(expect_the_error)
            await trio.sleep(0.2)
            began = trio.current_time()
            await connection.close()
            assert trio.current_time() - began < SLACK


async def test_connecting_to_a_peer_that_never_answers_can_be_cancelled(postgres_dsn: str) -> None:
    async with open_proxy(int(conninfo_to_dict(postgres_dsn)["port"] or 0)) as proxy:
        proxy.stall()
        before = open_descriptors()
        with trio.move_on_after(0.1) as scope:
            await Connection.connect(make_conninfo(postgres_dsn, port=proxy.port))
        assert scope.cancelled_caught
        # The proxy's two ends of the dead connection may linger; the driver's must not.
        assert open_descriptors() <= before + 2


async def test_connecting_to_a_peer_that_never_answers_ends_at_connect_timeout(postgres_dsn: str) -> None:
    async with open_proxy(int(conninfo_to_dict(postgres_dsn)["port"] or 0)) as proxy:
        proxy.stall()
        with trio.fail_after(4), pytest.raises(psycopg.errors.ConnectionTimeout, match="timed out after 2 s"):
            await Connection.connect(make_conninfo(postgres_dsn, port=proxy.port, connect_timeout=2))
