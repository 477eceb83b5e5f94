"""The Postgres connection against a real server: queries, COPY, transactions, notifications, and connecting itself."""

from __future__ import annotations

from contextlib import aclosing

import psycopg
import pytest
import trio
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from hermes.store.postgres import Connection, Cursor, open_connection
from tests.integration.faults import few_descriptors


async def rows(connection: Connection, query: str) -> list[tuple[object, ...]]:
    return await (await connection.execute(query)).fetchall()


async def test_parameters_and_types_travel_both_ways(postgres_dsn: str) -> None:
    async with open_connection(postgres_dsn) as connection:
        cursor = await connection.execute("SELECT %s::text, %s::int[], %s::jsonb", ["ä", [1, 2], '{"a": 1}'])
        assert await cursor.fetchone() == ("ä", [1, 2], {"a": 1})


async def test_a_cursor_makes_rows_as_its_factory_says(postgres_dsn: str) -> None:
    async with open_connection(postgres_dsn) as connection, connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute("SELECT 1 AS one")
        assert await cursor.fetchall() == [{"one": 1}]


async def test_a_statement_commits_by_itself(postgres_dsn: str) -> None:
    async with open_connection(postgres_dsn) as writer, open_connection(postgres_dsn) as reader:
        await writer.execute("CREATE TABLE t (n int)")
        await writer.execute("INSERT INTO t VALUES (1)")
        assert await rows(reader, "SELECT n FROM t") == [(1,)]


async def test_without_autocommit_what_is_not_committed_is_lost(postgres_dsn: str) -> None:
    async with open_connection(postgres_dsn, autocommit=False) as connection:
        await connection.execute("CREATE TABLE kept (n int)")
        await connection.commit()
        await connection.execute("CREATE TABLE lost (n int)")
    async with open_connection(postgres_dsn) as connection:
        assert await rows(connection, "SELECT to_regclass('kept')::text, to_regclass('lost')::text") == [("kept", None)]


async def test_executemany_inserts_every_row(postgres_dsn: str) -> None:
    async with open_connection(postgres_dsn) as connection, connection.cursor() as cursor:
        await connection.execute("CREATE TABLE t (n int)")
        await cursor.executemany("INSERT INTO t VALUES (%s)", [[n] for n in range(1000)])
        assert await rows(connection, "SELECT count(*), sum(n) FROM t") == [(1000, 499500)]


async def test_tasks_take_turns_on_one_connection(postgres_dsn: str) -> None:
    answers: set[object] = set()

    async def ask(connection: Connection, n: int) -> None:
        answers.update(await rows(connection, f"SELECT {n}"))

    async with open_connection(postgres_dsn) as connection, trio.open_nursery() as nursery:
        for n in range(20):
            nursery.start_soon(ask, connection, n)
    assert answers == {(n,) for n in range(20)}


async def test_a_block_of_several_megabytes_is_copied_whole(postgres_dsn: str) -> None:
    block = b"".join(b"%d\t%s\n" % (n, b"x" * 100) for n in range(50_000))
    async with open_connection(postgres_dsn) as connection:
        await connection.execute("CREATE TABLE t (n int, filler text)")
        assert await connection.copy_in("COPY t FROM STDIN", block) == 50_000
        assert await rows(connection, "SELECT count(*), sum(n), min(length(filler)) FROM t") == [
            (50_000, sum(range(50_000)), 100)
        ]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_copy_takes_any_buffer(postgres_dsn: str, kind: type[bytes]) -> None:
    async with open_connection(postgres_dsn) as connection:
        await connection.execute("CREATE TABLE t (n int)")
        assert await connection.copy_in("COPY t FROM STDIN", kind(b"1\n2\n")) == 2


async def test_copy_of_nothing_is_no_rows(postgres_dsn: str) -> None:
    async with open_connection(postgres_dsn) as connection:
        await connection.execute("CREATE TABLE t (n int)")
        assert await connection.copy_in("COPY t FROM STDIN", b"") == 0


async def test_copy_takes_rows_and_text_and_gives_rows_back(postgres_dsn: str) -> None:
    async with open_connection(postgres_dsn) as connection, connection.cursor() as cursor:
        await connection.execute("CREATE TABLE t (n int, word text)")
        async with cursor.copy("COPY t FROM STDIN") as copy:
            await copy.write_row((1, "tab\there"))
        async with cursor.copy("COPY t FROM STDIN") as copy:
            await copy.write("2\tplain\n")
            await copy.write("3\t\\N\n")
        assert cursor.rowcount == 2
        async with cursor.copy("COPY t TO STDOUT") as copy:
            copy.set_types(["int4", "text"])
            assert [row async for row in copy.rows()] == [(1, "tab\there"), (2, "plain"), (3, None)]


async def test_a_refused_copy_says_why_and_leaves_the_connection_usable(postgres_dsn: str) -> None:
    async with open_connection(postgres_dsn) as connection:
        await connection.execute("CREATE TABLE t (n int PRIMARY KEY)")
        with pytest.raises(psycopg.errors.UniqueViolation):
            await connection.copy_in("COPY t FROM STDIN", b"1\n1\n")
        with pytest.raises(psycopg.errors.InvalidTextRepresentation):
            await connection.copy_in("COPY t FROM STDIN", b"one\n" * 1_000_000)
        assert await rows(connection, "SELECT count(*) FROM t") == [(0,)]


async def test_an_error_inside_a_copy_block_drops_the_copy(postgres_dsn: str) -> None:
    async with open_connection(postgres_dsn) as connection, connection.cursor() as cursor:
        await connection.execute("CREATE TABLE t (n int)")

        async def copy_and_fail() -> None:
            async with cursor.copy("COPY t FROM STDIN") as copy:
                await copy.write(b"1\n")
                raise LookupError

        with pytest.raises(LookupError):
            await copy_and_fail()
        assert await rows(connection, "SELECT count(*) FROM t") == [(0,)]


async def test_a_copy_hidden_behind_another_statement_is_refused(postgres_dsn: str) -> None:
    async with open_connection(postgres_dsn) as connection, connection.cursor() as cursor:
        await connection.execute("CREATE TABLE t (n int)")
        with pytest.raises(psycopg.ProgrammingError):
            async with cursor.copy("SELECT 1; COPY t FROM STDIN"):
                pass
        assert await rows(connection, "SELECT 1") == [(1,)]


async def test_leaving_a_copy_out_early_leaves_the_connection_usable(postgres_dsn: str) -> None:
    async with open_connection(postgres_dsn) as connection, connection.cursor() as cursor:
        async with cursor.copy("COPY (SELECT generate_series(1, 1000000)) TO STDOUT") as copy:
            assert bytes(await copy.read()) == b"1\n"
        assert await rows(connection, "SELECT 1") == [(1,)]


async def test_leaving_a_stream_early_leaves_the_connection_usable(postgres_dsn: str) -> None:
    async with open_connection(postgres_dsn) as connection, Cursor(connection) as cursor:
        async with aclosing(cursor.stream("SELECT generate_series(1, 10000000)", size=100)) as stream:
            async for row in stream:
                assert row == (1,)
                break
        assert await rows(connection, "SELECT 1") == [(1,)]


async def test_a_flood_of_notices_does_not_block_a_copy(postgres_dsn: str) -> None:
    # The server stops reading while it cannot write: who only waits to write, waits for ever.
    async with open_connection(postgres_dsn) as connection:
        await connection.execute(
            """
            CREATE TABLE t (filler text);
            CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN RAISE NOTICE '%', repeat('x', 8000); RETURN NEW; END $$;
            CREATE TRIGGER shout BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION shout();
            """
        )
        with trio.fail_after(20):
            assert await connection.copy_in("COPY t FROM STDIN", (b"y" * 1999 + b"\n") * 5_000) == 5_000


async def test_a_transaction_is_committed_or_rolled_back(postgres_dsn: str) -> None:
    async with open_connection(postgres_dsn) as connection:
        await connection.execute("CREATE TABLE t (n int)")

        async def insert(n: int, error: type[Exception] | None = None) -> None:
            async with connection.transaction():
                await connection.execute("INSERT INTO t VALUES (%s)", [n])
                if error is not None:
                    raise error

        await insert(1)
        with pytest.raises(LookupError):
            await insert(2, LookupError)
        async with connection.transaction(force_rollback=True):
            await connection.execute("INSERT INTO t VALUES (3)")
        async with connection.transaction():
            await connection.execute("INSERT INTO t VALUES (4)")
            await insert(5, psycopg.Rollback)
            await insert(6)
        assert await rows(connection, "SELECT n FROM t ORDER BY n") == [(1,), (4,), (6,)]


async def test_an_error_at_commit_reaches_the_caller(postgres_dsn: str) -> None:
    async with open_connection(postgres_dsn) as connection:
        await connection.execute("CREATE TABLE t (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        with pytest.raises(psycopg.errors.UniqueViolation):
            async with connection.transaction():
                await connection.execute("INSERT INTO t VALUES (1), (1)")
        assert await rows(connection, "SELECT count(*) FROM t") == [(0,)]


async def test_notifications_arrive_and_the_backlog_is_bounded(postgres_dsn: str) -> None:
    async with open_connection(postgres_dsn) as listener, open_connection(postgres_dsn) as speaker:
        await listener.execute("LISTEN news")
        with trio.move_on_after(0.05) as scope:
            await listener.wait_notifications()
        assert scope.cancelled_caught
        await speaker.execute("NOTIFY news, 'first'")
        with trio.fail_after(5):
            assert [notification.payload for notification in await listener.wait_notifications()] == ["first"]
        await speaker.execute("SELECT pg_notify('news', n::text) FROM generate_series(1, 1500) n")
        await listener.execute("SELECT 1")
        arrived = await listener.wait_notifications()
        assert len(arrived) + listener.notifications.dropped == 1500
        assert arrived[-1].payload == "1500"
        assert len(arrived) <= 1000


@pytest.mark.parametrize("method", ["notifies", "pipeline"])
async def test_what_cannot_be_left_safely_is_refused(postgres_dsn: str, method: str) -> None:
    async with open_connection(postgres_dsn) as connection:
        with pytest.raises(psycopg.NotSupportedError):
            getattr(connection, method)()


async def test_other_tasks_run_during_a_large_copy(postgres_dsn: str) -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    block = b"x" * 99 + b"\n"
    async with open_connection(postgres_dsn) as connection:
        await connection.execute("CREATE UNLOGGED TABLE t (filler text)")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(count_turns)
            await connection.copy_in("COPY t FROM STDIN", block * 50_000)
            nursery.cancel_scope.cancel()
    assert turns > 10


async def test_the_next_host_is_tried_when_one_refuses(postgres_dsn: str) -> None:
    port = psycopg.conninfo.conninfo_to_dict(postgres_dsn)["port"]
    dsn = make_conninfo(postgres_dsn, host="127.0.0.1,127.0.0.1", port=f"1,{port}")
    async with open_connection(dsn) as connection:
        assert await rows(connection, "SELECT 1") == [(1,)]


async def test_every_refusal_is_named_when_no_host_answers() -> None:
    with pytest.raises(psycopg.OperationalError, match=r"port 1 failed(.|\n)*port 2 failed"):
        await Connection.connect("host=127.0.0.1,127.0.0.1 port=1,2 user=nobody")


async def test_a_missing_database_is_named(postgres_dsn: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="no_such_database"):
        await Connection.connect(make_conninfo(postgres_dsn, dbname="no_such_database"))


async def test_a_closed_connection_refuses_and_closes_again(postgres_dsn: str) -> None:
    connection = await Connection.connect(postgres_dsn)
    await connection.close()
    with pytest.raises(psycopg.OperationalError, match="closed"):
        await connection.execute("SELECT 1")
    await connection.close()
    assert connection.closed


async def test_closing_wakes_up_the_task_that_waits(postgres_dsn: str) -> None:
    connection = await Connection.connect(postgres_dsn)

    async def wait_long() -> None:
        with pytest.raises(psycopg.OperationalError, match="closed"):
            await connection.execute("SELECT pg_sleep(30)")

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_long)
            await trio.sleep(0.1)
            await connection.close()


async def test_a_connection_that_gets_the_last_descriptors_is_an_error_of_the_connection(postgres_dsn: str) -> None:
    """Its socket took the last one, the wait for it found none, and the service ended."""
    connected = 0
    async with open_connection(postgres_dsn):
        pass  # what is opened once, for the first
    for spare in range(8):
        with few_descriptors(spare):
            try:
                connection = await Connection.connect(postgres_dsn)
            except psycopg.OperationalError:
                assert not connected
            else:
                connected += 1
                await connection.close()
    assert connected
