"""The postgres sink on a real server: the contract, duplicates, poison, outages, partitions, tables of all kinds."""

from __future__ import annotations

import json
import time
from contextlib import AbstractAsyncContextManager, suppress
from os import urandom
from typing import Any

import psycopg
import pytest
import trio
from hermes_sinks.postgres import PostgresSettings, PostgresSink, open_postgres
from hermes_sinks.postgres.settings import table_parts
from msgspec import Raw
from psycopg import sql
from psycopg.abc import Buffer, Query
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from hermes import BatchRejected, Event, SinkUnavailable, Storage
from hermes.events.sink import Sink
from hermes.store.postgres import Connection
from hermes.testing import awkward_events, check_sink, make_batch, make_event, make_events
from tests.servers.postgres import PostgresServer

NUL = b'{"v": "\\u0000"}'
TOO_LARGE = b'{"v": 1e400000}'
HALF_A_PAIR = b'{"v": "\\ud800"}'


def opened(dsn: str, **settings: object) -> AbstractAsyncContextManager[PostgresSink]:
    return open_postgres(PostgresSettings(**settings), Storage(db_dsn=dsn))  # type: ignore[arg-type]


def execute(dsn: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(sql.SQL(statement))
        return cursor.fetchall() if cursor.description else []


def stored(dsn: str, table: str = "events") -> list[Event]:
    name = sql.Identifier(*table_parts(table)).as_string()
    columns = "id, user_id, type, extract(epoch FROM ts)::bigint, payload::text"
    rows = execute(dsn, f"SELECT {columns} FROM {name}")
    return [Event(row[0], row[1], row[2], row[3], Raw(row[4].encode())) for row in rows]


def ids(dsn: str, table: str = "events") -> list[str]:
    return sorted(event.id for event in stored(dsn, table))


async def test_a_database_whose_encoding_is_sql_ascii_takes_events_that_are_not(postgres_dsn: str) -> None:
    """What it said of the table came back as bytes, which ended the service."""
    name = f"ascii_{urandom(4).hex()}"
    execute(postgres_dsn, f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0")
    dsn = make_conninfo(postgres_dsn, dbname=name)
    event = make_event(user_id="Bjørn", payload='{"title": "Für Élise"}'.encode())
    try:
        for _ in range(2):
            # The database of the sink itself goes before DB_DSN.
            async with open_postgres(PostgresSettings(dsn=dsn), Storage(db_dsn=postgres_dsn)) as sink:
                await sink.write(make_batch([event]))
        assert [found.user_id for found in stored(make_conninfo(dsn, client_encoding="utf8"))] == ["Bjørn"]
    finally:
        execute(postgres_dsn, f"DROP DATABASE {name} WITH (FORCE)")


async def refused(sink: Sink, events: list[Event]) -> dict[int, str]:
    with pytest.raises(BatchRejected) as raised:
        await sink.write(make_batch(events))
    return raised.value.reasons


async def unavailable(sink: Sink, events: list[Event] | int = 1) -> str:
    with pytest.raises(SinkUnavailable) as raised:
        await sink.write(make_batch(events))
    return str(raised.value)


async def write_as_the_engine_does(sink: Sink, events: list[Event]) -> None:
    """The same batch again and again, until it is taken."""
    with trio.fail_after(30):
        while True:
            try:
                return await sink.write(make_batch(events))
            except SinkUnavailable:
                await trio.sleep(0.1)


@pytest.mark.parametrize(
    "settings",
    [{}, {"dedup": False}, {"partition": "day"}, {"table": '"we ird"."x.""y"'}, {"concurrency": 4, "max_batch": 3}],
    ids=["default", "append-only", "by day", "weird name", "small batches"],
)
async def test_it_conforms(postgres_dsn: str, settings: dict[str, object]) -> None:
    execute(postgres_dsn, 'CREATE SCHEMA "we ird"')
    table = str(settings.get("table", "events"))

    async def read_back() -> list[Event]:
        return await trio.to_thread.run_sync(stored, postgres_dsn, table)

    await check_sink(
        lambda: opened(postgres_dsn, **settings),
        read_back,
        stores_once=settings.get("dedup", True) is True,
        atomic=True,
        exact_payload=False,  # jsonb
    )


async def test_the_columns_hold_what_they_say(postgres_dsn: str) -> None:
    async with opened(postgres_dsn) as sink:
        await sink.write(make_batch([make_event("a", payload=b'{"n": 1.50}'), make_event("b")], chunk=1))
    rows = execute(postgres_dsn, "SELECT id, user_id, type, payload::text FROM events")
    assert rows == [("a", "user-1", "song_played", '{"n": 1.50}'), ("b", "user-1", "song_played", "{}")]
    times = execute(
        postgres_dsn, "SELECT extract(epoch FROM ts)::float, extract(epoch FROM received_at)::float FROM events"
    )
    assert times == [(1_700_000_000.0, 1_700_000_001.25), (1_700_000_000.0, 1_700_000_002.25)]
    (comment,) = execute(postgres_dsn, "SELECT obj_description('events'::regclass)")
    assert comment == ("Hermes events, schema 1",)


@pytest.mark.parametrize("dedup", [True, False])
async def test_the_rows_of_a_batch_are_written_in_the_order_of_their_key(postgres_dsn: str, dedup: bool) -> None:
    """Random ids cost less so, and by their bytes, whatever the database's language."""
    names = ["é", "b", "a", "Z", "z-1", "10", "9"]
    async with opened(postgres_dsn, dedup=dedup) as sink:
        await sink.write(make_batch([make_event(name) for name in names], chunk=2))
    found = execute(postgres_dsn, "SELECT id FROM events ORDER BY ctid")
    assert [name for (name,) in found] == (sorted(names) if dedup else names)
    assert execute(postgres_dsn, "SELECT array_agg(id ORDER BY id) FROM events") == [(sorted(names),)]


async def test_the_server_s_time_zone_and_date_style_change_nothing(postgres_dsn: str) -> None:
    odd = make_conninfo(
        postgres_dsn, options="-c TimeZone=Pacific/Chatham -c DateStyle=German -c client_encoding=LATIN1"
    )
    events = awkward_events()
    async with opened(odd) as sink:
        await sink.write(make_batch(events))
    found = {event.id: event for event in stored(postgres_dsn)}
    assert {event.id: event.timestamp for event in events} == {key: event.timestamp for key, event in found.items()}


async def test_an_id_is_stored_once_and_the_first_one_wins(postgres_dsn: str) -> None:
    first, second = make_event("same", payload=b'{"v": 1}'), make_event("same", payload=b'{"v": 2}')
    async with opened(postgres_dsn) as sink:
        await sink.write(make_batch([make_event("z"), first, second, make_event("a")]))
        await sink.write(make_batch([make_event("new"), second]))
    assert ids(postgres_dsn) == ["a", "new", "same", "z"]
    (value,) = [json.loads(bytes(event.payload)) for event in stored(postgres_dsn) if event.id == "same"]
    assert value == {"v": 1}


async def test_poison_rows_are_named_with_the_servers_reason_and_all_others_stored(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hermes_sinks.postgres.sink.RUN", 3000)
    events = make_events(10_000)
    poison = {0: NUL, 17: TOO_LARGE, 18: NUL, 5000: HALF_A_PAIR, 9999: b'{"\xff": 1}'}
    for index, payload in poison.items():
        events[index].payload = Raw(payload)
    async with opened(postgres_dsn) as sink:
        reasons = await refused(sink, events)
    assert list(reasons) == list(poison)
    assert reasons[0] == "22P05 unsupported Unicode escape sequence (column payload)"
    assert "overflow" in reasons[17]
    assert reasons[5000] == "22P02 invalid input syntax for type json (column payload)"
    assert reasons[9999].startswith("22021 invalid byte sequence")
    assert ids(postgres_dsn) == sorted(event.id for index, event in enumerate(events) if index not in poison)


async def test_poison_and_duplicates_in_one_batch(postgres_dsn: str) -> None:
    events = make_events(100)
    async with opened(postgres_dsn) as sink:
        await sink.write(make_batch(events[:50]))
        events[70].payload = Raw(NUL)
        assert list(await refused(sink, [*events, *events[60:70]])) == [70]
    assert len(ids(postgres_dsn)) == 99


async def test_nothing_but_poison_costs_an_attempt_an_event_and_the_sink_goes_on(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []  # rows of each COPY
    copy_in = Connection.copy_in

    async def counting(connection: Connection, statement: Query, *blocks: Buffer) -> int:
        sent.append(sum(bytes(block).count(b"\n") for block in blocks))
        return await copy_in(connection, statement, *blocks)

    monkeypatch.setattr(Connection, "copy_in", counting)
    async with opened(postgres_dsn) as sink:
        await sink.write(make_batch(make_events(10, prefix="good")))
        sent.clear()
        assert len(await refused(sink, make_events(1000, payload=NUL))) == 1000
        # The server names the row, so each goes alone once; to halve the batch again and again costs twice that.
        assert len(sent) <= 1000 + 20
        assert sum(sent) <= 3 * 1000
        await sink.write(make_batch(make_events(10, prefix="more")))
    assert len(ids(postgres_dsn)) == 20


async def test_poison_in_an_append_only_table(postgres_dsn: str) -> None:
    events = make_events(100)
    events[3].payload = Raw(NUL)
    async with opened(postgres_dsn, dedup=False) as sink:
        assert list(await refused(sink, events)) == [3]
        assert list(await refused(sink, events)) == [3]
    assert len(ids(postgres_dsn)) == 198


async def test_a_constraint_of_the_operators_names_the_row(postgres_dsn: str) -> None:
    async with opened(postgres_dsn) as sink:
        await sink.write(make_batch(make_events(5)))
        execute(postgres_dsn, "ALTER TABLE events ADD CHECK (user_id <> 'mallory')")
        events = make_events(50, prefix="more")
        events[31].user_id = "mallory"
        reasons = await refused(sink, events)
    assert list(reasons) == [31]
    assert "check constraint" in reasons[31]
    assert len(ids(postgres_dsn)) == 54


@pytest.mark.parametrize(
    ("settings", "constraint"),
    [
        ({}, "UNIQUE (user_id, ts)"),
        ({"dedup": False}, "UNIQUE (user_id, ts)"),
        ({"partition": "day"}, "UNIQUE (user_id, ts)"),
        ({}, "UNIQUE (user_id, ts) DEFERRABLE INITIALLY DEFERRED"),
        ({"dedup": False}, "UNIQUE (user_id, ts) DEFERRABLE INITIALLY DEFERRED"),
        ({}, "EXCLUDE USING btree (user_id WITH =, ts WITH =)"),
        ({}, "CHECK (user_id <> 'taken' OR id = 'first')"),
    ],
)
async def test_an_event_that_another_constraint_keeps_out_is_named_and_never_passed_over(
    postgres_dsn: str, settings: dict[str, object], constraint: str
) -> None:
    """ON CONFLICT DO NOTHING without a target passed over it, and it counted as delivered."""
    now = int(time.time())
    first = make_event("first", user_id="taken", timestamp=now)
    async with opened(postgres_dsn, **settings) as sink:
        await sink.write(make_batch([first]))
        execute(postgres_dsn, f"ALTER TABLE events ADD CONSTRAINT theirs {constraint}")
        again = [first] if settings.get("dedup", True) else []
        good = [make_event(f"good-{n}", user_id=f"user-{n}", timestamp=now) for n in range(20)]
        events = [*good[:10], *again, make_event("second", user_id="taken", timestamp=now), *good[10:]]
        reasons = await refused(sink, events)
    assert list(reasons) == [10 + len(again)]
    # In a partition the constraint has a name of the server's own.
    assert any(name in reasons[10 + len(again)] for name in ("theirs", "user_id_ts_key"))
    assert ids(postgres_dsn) == sorted(["first", *(event.id for event in good)])


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE events ALTER user_id TYPE varchar(5)",
        "ALTER TABLE events ADD UNIQUE (type, ts)",
        "ALTER TABLE events ADD CHECK (user_id = '')",
        "ALTER TABLE events ADD theirs int NOT NULL",
        "ALTER TABLE events ADD theirs int GENERATED ALWAYS AS ((payload ->> 'secret')::int) STORED",
        "ALTER TABLE events ADD x bool GENERATED ALWAYS AS ((payload ->> 'secret') ~ (payload ->> 'regex')) STORED",
        "CREATE INDEX ON events ((payload ->> 'long'))",
        """
        CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE 'no % and no % of %', NEW.user_id, NEW.payload->>'secret', NEW.id; END $$;
        CREATE TRIGGER t BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION f()
        """,
    ],
)
async def test_equal_faults_have_equal_reasons_that_hold_nothing_of_the_rows(postgres_dsn: str, change: str) -> None:
    def event(name: str) -> Event:
        long = "".join(urandom(2).hex() for _ in range(3000 + 100 * len(name)))  # nothing that compresses
        return make_event(
            name, user_id=f"person-{name}", payload=json.dumps({"secret": f"card-{name}", "regex": "(", "long": long})
        )

    async with opened(postgres_dsn) as sink:
        await sink.write(make_batch([make_event("first", payload=b'{"secret": "0"}')]))
        execute(postgres_dsn, f"TRUNCATE events; {change}")
        if "UNIQUE" in change:
            await sink.write(make_batch([make_event("one-more")]))
        reasons = await refused(sink, [event("ann"), event("barbara")])
    assert set(reasons) == {0, 1}
    assert len(set(reasons.values())) == 1
    assert not any(value in reasons[0] for value in ("ann", "card", "person", "user-1"))


@pytest.mark.parametrize(
    ("server", "settings", "expected"),
    [
        ("off", {}, "on"),
        ("local", {}, "on"),
        ("remote_apply", {}, "remote_apply"),  # stricter
        ("off", {"synchronous_commit": "server"}, "off"),
        ("on", {"synchronous_commit": "remote_write"}, "remote_write"),
    ],
)
async def test_a_commit_is_synchronous_unless_a_setting_says_otherwise(
    postgres_dsn: str, server: str, settings: dict[str, object], expected: str
) -> None:
    """Whatever the server, the database or the role has: what counts as delivered is on the disk."""
    execute(
        postgres_dsn,
        f"""
        ALTER DATABASE "{conninfo_to_dict(postgres_dsn)["dbname"]}" SET synchronous_commit = {server};
        CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.user_id := current_setting('synchronous_commit'); RETURN NEW; END $$;
        """,
    )
    async with opened(postgres_dsn, **settings) as sink:
        await sink.write(make_batch(1))
        execute(postgres_dsn, "CREATE TRIGGER t BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION f()")
        await sink.write(make_batch([make_event("directly")]))
        await sink.write(make_batch([make_event("directly"), make_event("by staging")]))
    assert {event.user_id for event in stored(postgres_dsn) if event.id.split()[0] in ("directly", "by")} == {expected}


async def test_writers_with_overlapping_ids_in_opposite_order_all_succeed(postgres_dsn: str) -> None:
    events = make_events(2000)
    async with opened(postgres_dsn, concurrency=4) as one, opened(postgres_dsn, concurrency=4) as other:
        with trio.fail_after(50):
            async with trio.open_nursery() as nursery:
                for round_number in range(4):
                    part = events[: 500 * (round_number + 1)]
                    nursery.start_soon(one.write, make_batch(part))
                    nursery.start_soon(other.write, make_batch(part[::-1]))
    assert len(ids(postgres_dsn)) == 2000


async def test_a_cancelled_write_leaves_all_or_nothing_whenever_it_is_cancelled(postgres_dsn: str) -> None:
    async with opened(postgres_dsn, dedup=False) as sink:
        await sink.write(make_batch(make_events(1, prefix="first")))
        for n in range(12):
            events = make_events(4000, prefix=f"try-{n}")
            events[2000].payload = Raw(NUL)  # the long way: several statements in one transaction
            with trio.move_on_after(0.004 * n), suppress(BatchRejected):
                await sink.write(make_batch(events))
            assert len([each for each in ids(postgres_dsn) if each.startswith(f"try-{n}-")]) in (0, 3999)


class TestOutages:
    """A server of its own, to stop and kill."""

    async def test_a_server_killed_in_the_middle_of_a_copy(self, own_postgres_server: PostgresServer) -> None:
        server, dsn = own_postgres_server, own_postgres_server.dsn(own_postgres_server.create_database())
        failures: list[SinkUnavailable] = []
        written, under_way = 0, trio.Event()
        async with opened(dsn) as sink:

            async def write_until_it_fails() -> None:
                nonlocal written
                while True:
                    try:
                        await sink.write(make_batch(make_events(5000, prefix=f"batch-{written}")))
                    except SinkUnavailable as failure:
                        failures.append(failure)
                        return
                    written += 1
                    under_way.set()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(write_until_it_fails)
                await under_way.wait()
                await trio.to_thread.run_sync(server.kill)
            assert str(failures[0]).startswith("Postgres: ")
            await trio.to_thread.run_sync(server.start)
            await write_as_the_engine_does(sink, make_events(5000, prefix=f"batch-{written}"))
        assert len(ids(dsn)) == 5000 * (written + 1)

    async def test_a_server_that_takes_no_writes_any_more_is_left_for_the_one_that_does(
        self, own_postgres_server: PostgresServer, postgres_server: PostgresServer
    ) -> None:
        """After a failover the session was kept, read-only, for as long as a connection lives: an hour."""
        old, new = own_postgres_server, postgres_server
        name = f"failover_{urandom(4).hex()}"
        execute(old.dsn(), f'CREATE DATABASE "{name}"')
        dsn = make_conninfo(old.dsn(name), host="127.0.0.1,127.0.0.1", port=f"{old.port},{new.port}")
        writable = make_conninfo(old.dsn(), options="-c default_transaction_read_only=off")
        execute(new.dsn(), f'CREATE DATABASE "{name}"')
        try:
            async with opened(dsn, concurrency=2) as sink:
                await sink.write(make_batch(make_events(3, prefix="before")))
                execute(writable, "ALTER SYSTEM SET default_transaction_read_only = on")
                execute(writable, "SELECT pg_reload_conf()")
                with trio.fail_after(10):  # until the session has heard of it
                    while execute(new.dsn(name), "SELECT to_regclass('events')") == [(None,)]:
                        await sink.write(make_batch(make_events(3, prefix="after")))
            assert len(ids(new.dsn(name))) == 3
        finally:
            execute(writable, "ALTER SYSTEM RESET default_transaction_read_only")
            execute(writable, "SELECT pg_reload_conf()")
            execute(new.dsn(), f'DROP DATABASE "{name}" WITH (FORCE)')

    async def test_a_server_that_comes_up_after_the_start(
        self, own_postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("hermes_sinks.postgres.sink.ACQUIRE_TIMEOUT", 0.5)
        server, dsn = own_postgres_server, own_postgres_server.dsn(own_postgres_server.create_database())
        await trio.to_thread.run_sync(server.stop)
        async with opened(dsn) as sink:
            try:
                assert "onnection" in await unavailable(sink)
            finally:
                await trio.to_thread.run_sync(server.start)
            await write_as_the_engine_does(sink, make_events(3))
        assert len(ids(dsn)) == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"user": "nobody-here"}, 'role "nobody-here" does not exist'),
        ({"dbname": "nothing-here"}, 'database "nothing-here" does not exist'),
        ({"host": "does-not-exist.invalid"}, "does-not-exist.invalid"),
        ({"port": 1}, "refused"),
    ],
)
async def test_a_dsn_that_leads_nowhere_is_unavailable_and_says_why(
    postgres_dsn: str, change: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hermes_sinks.postgres.sink.ACQUIRE_TIMEOUT", 0.5)
    async with opened(make_conninfo(postgres_dsn, **change)) as sink:
        assert words in await unavailable(sink)


async def test_a_wrong_password_is_unavailable(
    postgres_server: PostgresServer, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hermes_sinks.postgres.sink.ACQUIRE_TIMEOUT", 0.5)
    access = postgres_server.folder / "data" / "pg_hba.conf"
    before = access.read_text()
    execute(postgres_dsn, "CREATE ROLE careful LOGIN PASSWORD 'right'")
    access.write_text("host all careful 127.0.0.1/32 scram-sha-256\n" + before)
    execute(postgres_dsn, "SELECT pg_reload_conf()")
    await trio.sleep(0.2)
    try:
        async with opened(make_conninfo(postgres_dsn, user="careful", password="wrong")) as sink:
            assert "password authentication failed" in await unavailable(sink)
    finally:
        access.write_text(before)
        execute(postgres_dsn, "SELECT pg_reload_conf(); DROP ROLE careful")


async def test_a_table_that_is_dropped_is_made_again(postgres_dsn: str) -> None:
    async with opened(postgres_dsn) as sink:
        await sink.write(make_batch(3))
        execute(postgres_dsn, "DROP TABLE events")
        await sink.write(make_batch(3))
    assert len(ids(postgres_dsn)) == 3


async def test_a_prepared_statement_that_the_session_does_not_know_costs_no_batch(postgres_dsn: str) -> None:
    """As behind a pooler, or after somebody's DISCARD: the session is left, and the batch written on a new one."""
    async with opened(postgres_dsn, concurrency=1) as sink:
        for _ in range(8):
            await sink.write(make_batch(3))  # duplicates: the statements of the long way are prepared by now
        async with sink._pool.connection() as connection:
            # Hidden from psycopg, which would forget its prepared statements too.
            await connection.execute("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$")
        await sink.write(make_batch(4))
        assert sink._pool.statistics().discarded == 1
    assert len(ids(postgres_dsn)) == 4


@pytest.mark.parametrize(
    ("make", "settings", "words"),
    [
        ("CREATE TABLE events (id text PRIMARY KEY)", {}, "has no column user_id"),
        ("CREATE TABLE events (LIKE good); ALTER TABLE events ALTER ts TYPE text", {}, "column ts is text"),
        ("CREATE TABLE events (LIKE good)", {}, "SINK_POSTGRES_DEDUP=false"),
        ("CREATE TABLE events (LIKE good, UNIQUE (id, ts))", {}, "SINK_POSTGRES_DEDUP=false"),
        ("CREATE TABLE events (LIKE good, UNIQUE (id) DEFERRABLE)", {}, "SINK_POSTGRES_DEDUP=false"),
        (
            "CREATE TABLE events (LIKE good); CREATE UNIQUE INDEX ON events (id) WHERE id <> ''",
            {},
            "no unique key on id",
        ),
        ("CREATE TABLE events (LIKE good INCLUDING ALL)", {"partition": "day"}, "is not partitioned"),
        (
            "CREATE TABLE events (LIKE good INCLUDING ALL); COMMENT ON TABLE events IS 'Hermes events, schema 99'",
            {},
            "made by a newer Hermes",
        ),
        ("CREATE VIEW events AS SELECT 1 AS one", {}, "has no column"),
    ],
)
async def test_a_table_that_will_not_do_is_left_alone_and_the_reason_told(
    postgres_dsn: str, make: str, settings: dict[str, object], words: str
) -> None:
    async with opened(postgres_dsn, table="good") as sink:
        await sink.write(make_batch(1))
    execute(postgres_dsn, make)
    async with opened(postgres_dsn, **settings) as sink:
        assert words in await unavailable(sink)


async def test_a_table_of_the_operators_that_will_do_is_used(postgres_dsn: str) -> None:
    execute(
        postgres_dsn,
        "CREATE TABLE events (n bigserial, received_at timestamptz, payload json, ts timestamptz, type varchar(80),"
        " user_id text, id text, UNIQUE (id) INCLUDE (ts))",
    )
    async with opened(postgres_dsn) as sink:
        await sink.write(make_batch(3))
        await sink.write(make_batch(5))
    assert len(ids(postgres_dsn)) == 5


async def test_a_user_who_may_only_insert_is_enough_for_a_table_that_exists(postgres_dsn: str) -> None:
    async with opened(postgres_dsn) as sink:
        await sink.write(make_batch(1))
    execute(
        postgres_dsn,
        "CREATE ROLE inserter LOGIN; GRANT USAGE ON SCHEMA public TO inserter;"
        " GRANT SELECT, INSERT ON events TO inserter",
    )
    try:
        async with opened(make_conninfo(postgres_dsn, user="inserter")) as sink:
            await sink.write(make_batch(3))
            execute(postgres_dsn, "REVOKE INSERT ON events FROM inserter")
            assert "permission denied" in await unavailable(sink)
    finally:
        execute(postgres_dsn, "DROP OWNED BY inserter; DROP ROLE inserter")
    assert len(ids(postgres_dsn)) == 3


async def test_two_that_make_the_table_at_once_do_not_quarrel(postgres_dsn: str) -> None:
    async with trio.open_nursery() as nursery:
        for n in range(6):
            nursery.start_soon(write_alone, postgres_dsn, make_events(3, prefix=f"writer-{n}"))
    assert len(ids(postgres_dsn)) == 18


async def write_alone(dsn: str, events: list[Event]) -> None:
    async with opened(dsn, partition="day") as sink:
        await sink.write(make_batch(events))


class TestPartitions:
    """SINK_POSTGRES_PARTITION=day."""

    def counts(self, dsn: str) -> dict[str, int]:
        return dict(execute(dsn, "SELECT tableoid::regclass::text, count(*)::int FROM events GROUP BY 1"))

    def day(self, days: int) -> tuple[int, str]:
        second = int(time.time()) + 86_400 * days
        return second, time.strftime("events_%Y%m%d", time.gmtime(second))

    async def test_days_within_the_bound_get_their_own_and_the_others_share_one(self, postgres_dsn: str) -> None:
        seconds, names = zip(*map(self.day, (0, -1, 1, -3)), strict=True)
        too_old, too_new = self.day(-5)[0], self.day(3)[0]
        events = [make_event(f"e-{second}", timestamp=second) for second in (*seconds, too_old, too_new, 0)]
        async with opened(postgres_dsn, partition="day", partition_days=4) as sink:
            await sink.write(make_batch(events))
        assert self.counts(postgres_dsn) == {**dict.fromkeys(names, 1), "events_default": 3}

    @pytest.mark.parametrize("days", [0, -1, 1, -20, -9000])
    async def test_an_id_is_stored_once_whatever_its_timestamp(self, postgres_dsn: str, days: int) -> None:
        """A retry whose time is Hermes's own has another one, and was stored again."""
        now = self.day(0)[0]
        first, again = make_event("same", timestamp=now), make_event("same", timestamp=self.day(days)[0] + 1)
        new = [make_event(f"new-{n}", timestamp=now) for n in range(4)]
        async with opened(postgres_dsn, partition="day") as sink:
            await sink.write(make_batch([new[0], first, again, new[1]]))
            await sink.write(make_batch([new[2], again]))
            await sink.write(make_batch([again, new[3], first, new[0]]))
        assert ids(postgres_dsn) == ["new-0", "new-1", "new-2", "new-3", "same"]
        assert [event.timestamp for event in stored(postgres_dsn) if event.id == "same"] == [now]

    async def test_writers_at_once_store_an_id_once_whatever_its_timestamps(self, postgres_dsn: str) -> None:
        async with (
            opened(postgres_dsn, partition="day") as one,
            opened(postgres_dsn, partition="day") as other,
            trio.open_nursery() as nursery,
        ):
            for days, sink in ((0, one), (-1, other), (-2, one), (-3, other)):
                events = [make_event(f"e-{n}", timestamp=self.day(days)[0]) for n in range(500)]
                nursery.start_soon(sink.write, make_batch(events if days % 2 else events[::-1]))
        assert len(ids(postgres_dsn)) == 500

    async def test_poison_leaves_no_id_behind(self, postgres_dsn: str) -> None:
        bad, now = make_event("bad", payload=NUL), self.day(0)[0]
        async with opened(postgres_dsn, partition="day") as sink:
            assert list(await refused(sink, [make_event("a"), bad, make_event("b")])) == [1]
            await sink.write(make_batch([make_event("bad", timestamp=now)]))
        assert ids(postgres_dsn) == ["a", "b", "bad"]

    async def test_a_table_of_an_earlier_version_gets_its_table_of_ids(self, postgres_dsn: str) -> None:
        old = make_event("old", timestamp=self.day(0)[0])
        async with opened(postgres_dsn, partition="day") as sink:
            await sink.write(make_batch([old]))
        execute(postgres_dsn, "DROP TABLE events_ids")
        async with opened(postgres_dsn, partition="day") as sink:
            await sink.write(make_batch([old, make_event("new")]))
            await sink.write(make_batch([make_event("new", timestamp=2)]))
        assert ids(postgres_dsn) == ["new", "old"]

    async def test_a_table_of_ids_that_cannot_be_had_is_asked_for(self, postgres_dsn: str) -> None:
        async with opened(postgres_dsn, partition="day") as sink:
            await sink.write(make_batch(1))
        execute(postgres_dsn, "DROP TABLE events_ids; CREATE TABLE events_ids (n int)")
        async with opened(postgres_dsn, partition="day") as sink:
            assert 'table "events_ids" is there, and is no table of ids' in await unavailable(sink)
        execute(postgres_dsn, "DROP TABLE events_ids; REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        execute(postgres_dsn, "CREATE ROLE inserter LOGIN; GRANT USAGE ON SCHEMA public TO inserter")
        execute(postgres_dsn, "GRANT SELECT, INSERT ON events TO inserter")
        try:
            async with opened(make_conninfo(postgres_dsn, user="inserter"), partition="day") as sink:
                assert 'CREATE TABLE "events_ids" (id text COLLATE "C" PRIMARY KEY' in await unavailable(sink)
        finally:
            execute(postgres_dsn, "DROP OWNED BY inserter; DROP ROLE inserter")

    async def test_a_partitioned_table_of_the_operators_keeps_each_id_once(self, postgres_dsn: str) -> None:
        execute(
            postgres_dsn,
            "CREATE TABLE events (id text, user_id text, type text, ts timestamptz, received_at timestamptz,"
            " payload jsonb, PRIMARY KEY (id, ts)) PARTITION BY RANGE (ts);"
            "CREATE TABLE everything PARTITION OF events DEFAULT",
        )
        async with opened(postgres_dsn) as sink:
            for second in (1, 2, 1):
                await sink.write(make_batch([make_event("same", timestamp=second)]))
        assert ids(postgres_dsn) == ["same"]

    async def test_a_day_whose_events_came_too_early_stays_in_the_default_partition(self, postgres_dsn: str) -> None:
        second, name = self.day(-2)
        async with opened(postgres_dsn, partition="day", partition_days=1) as sink:
            await sink.write(make_batch([make_event("one", timestamp=second)]))
        async with opened(postgres_dsn, partition="day", partition_days=30) as sink:
            await sink.write(make_batch([make_event("two", timestamp=second)]))
        assert self.counts(postgres_dsn) == {"events_default": 2}
        assert name not in self.counts(postgres_dsn)

    async def test_a_partition_that_the_operator_drops_is_not_missed(self, postgres_dsn: str) -> None:
        second, name = self.day(0)
        async with opened(postgres_dsn, partition="day") as sink:
            await sink.write(make_batch([make_event("one", timestamp=second)]))
            execute(postgres_dsn, f"DROP TABLE {name}")
            await sink.write(make_batch([make_event("two", timestamp=second)]))
        assert self.counts(postgres_dsn) == {"events_default": 1}

    @pytest.mark.parametrize("dedup", [True, False])
    async def test_a_default_partition_that_the_operator_detaches_is_made_anew(
        self, postgres_dsn: str, dedup: bool
    ) -> None:
        """Every event outside the known days became a dead letter: no partition of the relation found for the row."""
        async with opened(postgres_dsn, partition="day", dedup=dedup) as sink:
            for n in range(3):
                await sink.write(make_batch([make_event(f"old-{n}", timestamp=n), make_event(f"new-{n}", timestamp=n)]))
                default = "events_default" + (str(n + 1) if n else "")
                assert self.counts(postgres_dsn) == {default: 2}
                execute(postgres_dsn, f"ALTER TABLE events DETACH PARTITION {default}")
                assert execute(postgres_dsn, f"SELECT count(*) FROM {default}") == [(2,)]

    async def test_an_append_only_table_by_day(self, postgres_dsn: str) -> None:
        event = make_event("same", timestamp=self.day(0)[0])
        async with opened(postgres_dsn, partition="day", dedup=False) as sink:
            await sink.write(make_batch([event, event]))
        assert self.counts(postgres_dsn) == {self.day(0)[1]: 2}


async def test_the_loop_is_not_kept_waiting_while_a_large_batch_is_written(postgres_dsn: str) -> None:
    longest = work = 0.0
    async with opened(postgres_dsn) as sink, trio.open_nursery() as nursery:

        async def tick() -> None:
            nonlocal longest, work
            while True:
                before, worked = time.perf_counter(), time.thread_time()
                await trio.sleep(0.001)
                longest = max(longest, time.perf_counter() - before)
                work = max(work, time.thread_time() - worked)

        nursery.start_soon(tick)
        for n in range(5):
            await sink.write(make_batch(make_events(10_000, prefix=f"batch-{n}")))
        nursery.cancel_scope.cancel()
    assert work < 0.1  # a few milliseconds; other programs of the machine do not count
    assert longest < 5
