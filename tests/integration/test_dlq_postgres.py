"""The store of dead letters in Postgres: the suite of every store, and what a server can do to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import psycopg
import pytest
import trio
from psycopg import sql
from psycopg.conninfo import make_conninfo

from hermes import ConfigError
from hermes.base.errors import LogUnavailable
from hermes.dead_letters import postgres as module
from hermes.dead_letters.postgres import open_postgres_dead_letters
from hermes.dead_letters.tables import TABLE
from hermes.events.letters import to_event
from hermes.testing import awkward_events
from tests.dead_letters.conformance import DurableSuite, StoreSuite
from tests.dead_letters.first_schema import old_letters, write_old_table
from tests.dead_letters.kit import EVERYTHING, OpenStore, everything, ids, make_letter
from tests.servers.postgres import PostgresServer


class TestPostgres(StoreSuite, DurableSuite):
    @pytest.fixture
    def open_store(self, postgres_dsn: str) -> OpenStore:
        return lambda max_letters: open_postgres_dead_letters(postgres_dsn, max_letters)


def execute(dsn: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(sql.SQL(statement))
        return cursor.fetchall() if cursor.description else []


async def test_a_letter_is_committed_when_add_returns_and_readable_in_the_table(postgres_dsn: str) -> None:
    async with open_postgres_dead_letters(postgres_dsn, 10) as store:
        await store.add([make_letter(1, reason="22003 overflow", payload=b'{"n": 1e400}')])
        rows = execute(postgres_dsn, f"SELECT part, source, facts, reason, convert_from(body, 'UTF8') FROM {TABLE}")
    facts = {"id": "event-1", "user_id": "user-1", "type": "song_played", "timestamp": 1_700_000_000}
    assert rows == [("events", "fake", facts, "22003 overflow", '{"n": 1e400}')]
    assert execute(postgres_dsn, f"SELECT obj_description('{TABLE}'::regclass)") == [("Hermes dead letters, schema 2",)]


async def test_instances_that_start_together_make_the_table_once(postgres_dsn: str) -> None:
    async def start(n: int) -> None:
        async with open_postgres_dead_letters(postgres_dsn, 100) as store:
            await store.add([make_letter(n)])

    async with trio.open_nursery() as nursery:
        for n in range(8):
            nursery.start_soon(start, n)
    assert execute(postgres_dsn, f"SELECT count(*) FROM {TABLE}") == [(8,)]


async def test_instances_that_add_together_keep_the_bound_and_count_each_letter_that_left_once(
    postgres_dsn: str,
) -> None:
    evicted = 0

    async def fill(sink: str) -> None:
        nonlocal evicted
        async with open_postgres_dead_letters(postgres_dsn, 50) as store:
            for n in range(0, 60, 3):
                await store.add([make_letter(each, sink=sink) for each in (n, n + 1, n + 2)])
            evicted += store.evictions.total

    async with trio.open_nursery() as nursery:
        for n in range(4):
            nursery.start_soon(fill, f"sink-{n}")
    assert execute(postgres_dsn, f"SELECT count(*) FROM {TABLE}") == [(50,)]
    assert evicted == 4 * 60 - 50


async def test_the_clients_encoding_and_the_isolation_level_of_the_role_change_nothing(postgres_dsn: str) -> None:
    odd = make_conninfo(postgres_dsn, options="-c client_encoding=LATIN1 -c default_transaction_isolation=serializable")
    letters = [make_letter(n, user_id=event.user_id, reason="日本語") for n, event in enumerate(awkward_events())]
    async with open_postgres_dead_letters(odd, 100) as store, open_postgres_dead_letters(odd, 100) as other:
        async with trio.open_nursery() as nursery:
            for part in (letters[:10], letters[5:20], letters[15:]):
                nursery.start_soon(store.add, part)
                nursery.start_soon(other.add, part)
        kept = {to_event(letter).id: letter for letter in await everything(store)}
    assert {name: (to_event(each).user_id, each.reason) for name, each in kept.items()} == {
        to_event(letter).id: (to_event(letter).user_id, letter.reason) for letter in letters
    }


async def test_a_database_that_cannot_hold_every_event_is_refused_in_words(postgres_server: PostgresServer) -> None:
    admin = postgres_server.dsn()
    execute(admin, "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        async with open_postgres_dead_letters(postgres_server.dsn("latin"), 10) as store:
            with pytest.raises(LogUnavailable, match=r"encoding is LATIN1.*ENCODING 'UTF8'"):
                await store.add([make_letter(1)])
    finally:
        execute(admin, "DROP DATABASE latin WITH (FORCE)")


@pytest.mark.parametrize("comment", ["'Hermes dead letters, schema 99'", "NULL"])
async def test_a_table_that_is_not_ours_is_refused_in_words(postgres_dsn: str, comment: str) -> None:
    execute(postgres_dsn, f"CREATE TABLE {TABLE} (n int); COMMENT ON TABLE {TABLE} IS {comment}")
    async with open_postgres_dead_letters(postgres_dsn, 10) as store:
        with pytest.raises(LogUnavailable, match="upgrade, or rename the table"):
            await store.last()


# A table of 0.1.0-dev

_SHAPE = f"""
SELECT attname, atttypid::regtype, attnotnull, attidentity, pg_get_expr(adbin, adrelid) FROM pg_attribute
LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE attrelid = '{TABLE}'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attname
"""
_INDEXES = f"SELECT indexname, indexdef FROM pg_indexes WHERE tablename = '{TABLE}' ORDER BY indexname"


def version(dsn: str) -> str:
    return str(execute(dsn, f"SELECT obj_description('{TABLE}'::regclass)")[0][0])[-1]


async def test_a_table_of_the_first_schema_is_upgraded_once_and_loses_nothing(postgres_dsn: str) -> None:
    letters = old_letters(large=3)
    write_old_table(postgres_dsn, letters)
    expected = [replace(letter, number=n) for n, letter in enumerate(letters, 2)]

    async def read() -> None:
        async with open_postgres_dead_letters(postgres_dsn, 1000) as store:
            assert await everything(store) == expected

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(read)
    async with open_postgres_dead_letters(postgres_dsn, 1000) as store:
        again = replace(letters[3], reason="still no", attempts=9)
        await store.add([again])
        assert (await everything(store))[3] == replace(again, number=expected[3].number), "the same event, one letter"
        await store.add([make_letter(1)])
        assert await store.last() > expected[-1].number + 2, "the numbers of letters that were removed are not used"
    upgraded = execute(postgres_dsn, _SHAPE), execute(postgres_dsn, _INDEXES), version(postgres_dsn)
    execute(postgres_dsn, f"DROP TABLE {TABLE}")
    async with open_postgres_dead_letters(postgres_dsn, 10) as store:
        await store.last()
    assert upgraded == (execute(postgres_dsn, _SHAPE), execute(postgres_dsn, _INDEXES), version(postgres_dsn))


async def test_an_upgrade_that_is_cut_off_leaves_the_old_table_and_the_next_call_begins_again(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters = old_letters()
    write_old_table(postgres_dsn, letters)
    waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%ALTER TABLE%'"

    async def cut_off() -> None:
        while not (found := await trio.to_thread.run_sync(execute, postgres_dsn, waiting)):  # noqa: ASYNC110
            await trio.sleep(0.02)
        await trio.to_thread.run_sync(execute, postgres_dsn, f"SELECT pg_terminate_backend({found[0][0]})")

    async with open_postgres_dead_letters(postgres_dsn, 1000) as store:
        with psycopg.connect(postgres_dsn) as other:
            other.execute(sql.SQL(f"SELECT count(*) FROM {TABLE}"))  # a lock until the end of its transaction
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cut_off)
                with pytest.raises(LogUnavailable, match="Postgres"):
                    await store.last()
            monkeypatch.setattr(module, "UPGRADE_TIMEOUT", 0.2)
            with pytest.raises(LogUnavailable, match=r"could not be upgraded within 0\.2 s"):
                await store.last()
            monkeypatch.undo()
            assert version(postgres_dsn) == "1"
        assert await everything(store) == [replace(letter, number=n) for n, letter in enumerate(letters, 2)]


async def test_a_caller_without_patience_does_not_cut_an_upgrade_off(postgres_dsn: str) -> None:
    write_old_table(postgres_dsn, old_letters())
    async with open_postgres_dead_letters(postgres_dsn, 1000) as store:
        with psycopg.connect(postgres_dsn) as other:
            other.execute(sql.SQL(f"SELECT count(*) FROM {TABLE}"))
            async with trio.open_nursery() as nursery:

                async def release() -> None:
                    await trio.sleep(0.3)
                    other.rollback()

                nursery.start_soon(release)
                with trio.move_on_after(0.1) as impatient:
                    await store.last()
        assert impatient.cancelled_caught
        assert version(postgres_dsn) == "2"


async def test_a_table_that_vanished_is_said_and_made_again(postgres_dsn: str) -> None:
    async with open_postgres_dead_letters(postgres_dsn, 10) as store:
        await store.add([make_letter(1)])
        execute(postgres_dsn, f"DROP TABLE {TABLE}")
        with pytest.raises(LogUnavailable, match="does not exist"):
            await store.add([make_letter(2)])
        await store.add([make_letter(2)])
        assert await ids(store) == ["event-2"]


async def test_a_table_that_somebody_holds_is_waited_for_within_a_bound(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_postgres_dead_letters(postgres_dsn, 10) as store:
        await store.add([make_letter(1)])
        monkeypatch.setattr(module, "CALL_TIMEOUT", 0.3)
        with psycopg.connect(postgres_dsn) as other:
            other.execute(sql.SQL(f"LOCK TABLE {TABLE}"))
            for call in (store.add([make_letter(2)]), store.page(EVERYTHING), store.remove(EVERYTHING)):
                with pytest.raises(LogUnavailable, match=r"no answer within 0\.3 s"):
                    await call
        monkeypatch.setattr(module, "CALL_TIMEOUT", 30.0)
        assert await ids(store) == ["event-1"]


async def test_a_server_that_is_down_is_said_and_found_again(
    own_postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ACQUIRE_TIMEOUT", 0.5)
    dsn = own_postgres_server.dsn()
    async with open_postgres_dead_letters(dsn, 10) as store:
        await store.add([make_letter(1)])
        await trio.to_thread.run_sync(own_postgres_server.stop)
        with pytest.raises(LogUnavailable, match="Postgres"):
            await store.add([make_letter(2)])
        await trio.to_thread.run_sync(own_postgres_server.start)
        with trio.fail_after(20):
            while True:
                try:
                    await store.add([make_letter(2)])
                    break
                except LogUnavailable:
                    await trio.sleep(0.05)
        assert await ids(store) == ["event-1", "event-2"]


@pytest.mark.parametrize("dsn", ["hunter2", "postgresql://me:hunter2@[host/db"])
async def test_a_connection_string_without_sense_is_refused_and_not_shown(dsn: str) -> None:
    with pytest.raises(ConfigError, match="DB_DSN=") as raised:
        async with open_postgres_dead_letters(dsn, 10):
            pass
    assert "hunter2" not in str(raised.value)
