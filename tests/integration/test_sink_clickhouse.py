"""The clickhouse sink on the real engine: the contract, each id once, rows that are refused, errors that may pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio
from hermes_sinks.clickhouse import ClickHouseSettings, ClickHouseSink, open_clickhouse
from hermes_sinks.clickhouse.table import create_statement
from msgspec import Raw

from hermes import BatchRejected, Event, SinkUnavailable, Storage
from hermes.events.event import MAX_TIMESTAMP
from hermes.events.sink import Sink
from hermes.testing import check_sink, make_batch, make_event, make_events
from hermes.testing.events import RECEIVED_AT
from tests.integration.faults import few_descriptors
from tests.needs import lacks
from tests.servers.clickhouse import NEWEST, PASSWORD, RELEASES, ClickHouseServer, ServerUnavailableError
from tests.servers.receiver import Receiver, Reply, open_receiver

END_OF_2299 = 10_413_791_999
"""Unix seconds: the last that a DateTime64 of ClickHouse holds before release 26.9."""
FIELDS = (
    "id, user_id, type, intDiv(toUnixTimestamp64Milli(toDateTime64(ts, 3)), 1000) AS seconds, toString(payload) AS text"
)


@pytest.fixture(scope="module", params=RELEASES)
def server(request: pytest.FixtureRequest) -> Iterator[ClickHouseServer]:
    """A running server of each release; the test is skipped where none can be had, or fails under CI=true."""
    try:
        server = ClickHouseServer(request.param)
    except ServerUnavailableError as error:
        lacks(str(error))
    yield server
    server.remove()


@pytest.fixture
def table(server: ClickHouseServer) -> str:
    return server.new_table()


def opened(
    server: ClickHouseServer | Receiver, table: str, query: str = "", **settings: Any
) -> AbstractAsyncContextManager[ClickHouseSink]:
    chosen = {"url": server.url + query, "password": PASSWORD, "table": table, **settings}
    return open_clickhouse(ClickHouseSettings(**chosen), Storage())


def ids(server: ClickHouseServer, table: str, final: str = "") -> list[str]:
    return [row["id"] for row in server.execute(f"SELECT id FROM {table} {final} ORDER BY id")]


async def refused(sink: Sink, events: Sequence[Event]) -> dict[int, str]:
    with pytest.raises(BatchRejected) as raised:
        await sink.write(make_batch(events))
    return raised.value.reasons


async def unavailable(sink: Sink, events: Sequence[Event] | int = 1) -> SinkUnavailable:
    with pytest.raises(SinkUnavailable) as raised:
        await sink.write(make_batch(events))
    return raised.value


@pytest.mark.parametrize(
    "settings",
    [{}, {"payload": "json", "partition": "month", "compress": "gzip", "max_bytes": 9000}],
    ids=["default", "payload as JSON, by month, small inserts"],
)
async def test_it_conforms(server: ClickHouseServer, table: str, settings: dict[str, Any]) -> None:
    if server.release != NEWEST:  # their type JSON refuses whole numbers of more than 64 bits, or is an experiment
        settings = {name: value for name, value in settings.items() if name != "payload"}

    async def read_back() -> list[Event]:
        rows = await trio.to_thread.run_sync(server.execute, f"SELECT {FIELDS} FROM {table} FINAL")
        return [
            Event(row["id"], row["user_id"], row["type"], row["seconds"], Raw(row["text"].encode())) for row in rows
        ]

    reading = read_back if "payload" not in settings else None  # the type JSON writes numbers its own way
    await check_sink(
        lambda: opened(server, table, max_batch=500, **settings),
        reading,
        stores_once=True,
        largest_payload=2**18,
        latest_timestamp=MAX_TIMESTAMP if server.release == NEWEST else END_OF_2299,
    )


@pytest.mark.parametrize(
    ("column", "last"),
    [
        ("DateTime", 2**32 - 1),
        ("DateTime('Europe/Berlin')", 2**32 - 1),
        ("Nullable(DateTime64(9, 'UTC'))", 9_223_372_035),
        ("DateTime64(3, 'America/New_York')", END_OF_2299),
    ],
)
async def test_a_time_is_stored_as_it_is_or_its_event_refused(
    server: ClickHouseServer, table: str, column: str, last: int
) -> None:
    server.execute(
        f"CREATE TABLE {table} (id String, user_id String, type String, ts {column}, payload String,"
        " received_at DateTime) ENGINE = MergeTree ORDER BY id"
    )
    if server.release == NEWEST and "64(3" in column:
        last = MAX_TIMESTAMP
    times = [0, 1, 1_000_000, 2**31, last]
    events = [make_event(f"{time:012}", timestamp=time) for time in times]
    later = make_event("later", timestamp=min(last + 1, MAX_TIMESTAMP))
    async with opened(server, table) as sink:
        if later.timestamp > last:
            assert "the column ts holds times up to" in (await refused(sink, [*events, later]))[5]
        else:
            await sink.write(make_batch(events))
    stored = server.execute(f"SELECT {FIELDS} FROM {table} ORDER BY id")
    assert [row["seconds"] for row in stored] == times


async def test_a_column_that_holds_no_time_costs_no_event(server: ClickHouseServer, table: str) -> None:
    server.execute(f"CREATE TABLE {table} (id String, ts Int64) ENGINE = MergeTree ORDER BY id")
    async with opened(server, table) as sink:
        assert "the column ts is Int64: it has to be DateTime64" in str(await unavailable(sink))


async def test_a_server_that_is_too_old_is_refused_with_the_least_release() -> None:
    async with open_receiver("/") as receiver, opened(receiver, "events") as sink:
        receiver.reply(200, b"23.8.16.40\t\n")
        assert "ClickHouse 23.8 is older than 24.8" in str(await unavailable(sink))


async def test_the_columns_hold_what_they_say(server: ClickHouseServer, table: str) -> None:
    async with opened(server, table) as sink:
        await sink.write(make_batch([make_event("a"), make_event("b", payload='{ "é": "\\n" }')], chunk=1))
    assert server.execute(f"SELECT * FROM {table} ORDER BY id") == [
        {
            "id": name,
            "user_id": "user-1",
            "type": "song_played",
            "ts": "2023-11-14 22:13:20",
            "payload": payload,
            "received_at": f"2023-11-14 22:13:{21 + second}.250",
        }
        for second, (name, payload) in enumerate([("a", "{}"), ("b", '{ "é": "\\n" }')])
    ]
    assert RECEIVED_AT == 1_700_000_001.25


async def test_a_batch_that_comes_again_is_not_even_inserted(server: ClickHouseServer, table: str) -> None:
    async with opened(server, table) as sink:
        for _ in range(3):
            await sink.write(make_batch(10))
        assert len(ids(server, table)) == 10
        await sink.write(make_batch(11))
        assert len(ids(server, table)) == 21  # until they are merged
        assert len(ids(server, table, "FINAL")) == 11
    server.execute(f"OPTIMIZE TABLE {table} FINAL")
    assert len(ids(server, table)) == 11


async def test_payloads_as_json_can_be_asked_for_their_fields(server: ClickHouseServer, table: str) -> None:
    async with opened(server, table, payload="json") as sink:
        if server.release == "24.8":
            assert "the type JSON needs ClickHouse 25.3" in str(await unavailable(sink))
            return
        await sink.write(make_batch([make_event("a", payload='{"song":\n {"title": "x"}}')]))
        deep = make_event("deep", payload='{"v":' + "[" * 2000 + "]" * 2000 + "}")
        assert (await refused(sink, [make_event("b"), deep, make_event("c")])).keys() == {1}
    assert server.execute(f"SELECT payload.song.title AS title FROM {table} WHERE id = 'a'") == [{"title": "x"}]
    assert ids(server, table) == ["a", "b", "c"]


async def test_rows_that_break_a_constraint_are_refused_and_the_others_stored(
    server: ClickHouseServer, table: str
) -> None:
    events = make_events(200)
    for n in (0, 77, 199):
        events[n] = make_event(f"bad-{n}", payload='{"trap": "violated at row 3"}')
    async with opened(server, table) as sink:
        await sink.write(make_batch([]))
        server.execute(create_statement(ClickHouseSettings(url="", table=table)))
        server.execute(f"ALTER TABLE {table} ADD CONSTRAINT good CHECK NOT startsWith(id, 'bad')")
        reasons = await refused(sink, events)
    assert reasons.keys() == {0, 77, 199}
    assert all("VIOLATED_CONSTRAINT" in reason for reason in reasons.values())
    assert len(ids(server, table, "FINAL")) == 197


async def test_a_table_of_the_operators_own_is_used_as_it_is(server: ClickHouseServer, table: str) -> None:
    server.execute(
        f"CREATE TABLE {table} (id UUID, user_id String, type String, ts DateTime, payload String,"
        " received_at DateTime, more String DEFAULT 'x') ENGINE = MergeTree ORDER BY (type, ts)"
    )
    good = make_event("6f1e7bb0-1111-4222-8333-123456789abc")
    async with opened(server, table) as sink:
        reasons = await refused(sink, [make_event("no UUID"), good, make_event("nor this")])
    assert reasons.keys() == {0, 2}
    assert ids(server, table) == [good.id]


async def test_a_table_that_lacks_a_column_costs_no_event(server: ClickHouseServer, table: str) -> None:
    server.execute(f"CREATE TABLE {table} (id String) ENGINE = MergeTree ORDER BY id")
    async with opened(server, table) as sink:
        assert "the table lacks a column: it needs id, user_id" in str(await unavailable(sink))


async def test_a_table_that_was_dropped_is_made_again(server: ClickHouseServer, table: str) -> None:
    async with opened(server, table) as sink:
        await sink.write(make_batch(1))
        server.execute(f"DROP TABLE {table}")
        await sink.write(make_batch(2))
    assert len(ids(server, table)) == 2


async def test_timestamps_of_many_years_do_not_stop_a_table_by_month(server: ClickHouseServer, table: str) -> None:
    events = [make_event(f"e{n}", timestamp=n * 40 * 86400) for n in range(120)]
    async with opened(server, table, partition="month") as sink:
        await sink.write(make_batch(events))
    assert len(ids(server, table)) == 120


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"password": "wrong"}, "check SINK_CLICKHOUSE_USER and SINK_CLICKHOUSE_PASSWORD"),
        ({"database": "nowhere"}, "make the database, or set SINK_CLICKHOUSE_DATABASE"),
        ({"query": "?max_memory_usage=1"}, "MEMORY_LIMIT_EXCEEDED"),
        ({"query": "?no_such_setting=1"}, "look after the \\? of SINK_CLICKHOUSE_URL"),
    ],
)
async def test_what_the_operator_mends_is_unavailable_with_words(
    server: ClickHouseServer, table: str, settings: dict[str, str], words: str
) -> None:
    async with opened(server, table) as sink:
        await sink.write(make_batch(1))
    async with opened(server, table, **settings) as sink:
        error = await unavailable(sink, make_events(50, prefix="more"))
    assert error.args[0].startswith(server.url + ": ")
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(str(error))
    assert ids(server, table) == ["event-0"]


async def test_too_many_parts_ask_for_a_pause(server: ClickHouseServer, table: str) -> None:
    async with opened(server, table) as sink:
        await sink.write(make_batch(1))
        server.execute(f"SYSTEM STOP MERGES {table}")
        server.execute(f"ALTER TABLE {table} MODIFY SETTING parts_to_delay_insert = 1, parts_to_throw_insert = 1")
        error = await unavailable(sink, 2)
    assert "TOO_MANY_PARTS" in str(error)
    assert error.retry_after == 2.0


async def test_weird_names_are_quoted(server: ClickHouseServer) -> None:
    server.execute("CREATE DATABASE IF NOT EXISTS `we ``ird`")
    async with opened(server, "a.b\\ `' -- x", database="we `ird") as sink:
        await sink.write(make_batch(3))
    assert server.execute("SELECT count() AS n FROM `we ``ird`.`a.b\\\\ \\`' -- x`") == [{"n": 3}]


async def test_a_server_that_is_down_is_unavailable() -> None:
    settings = ClickHouseSettings(url="http://127.0.0.1:1")
    async with open_clickhouse(settings, Storage()) as sink:
        assert "no connection: connection refused" in str(await unavailable(sink))


async def test_an_error_that_comes_after_the_status_is_seen() -> None:
    async with open_receiver("/") as receiver, opened(receiver, "events") as sink:
        receiver.reply(200, b"__exception__ Code: 241. DB::Exception: Memory limit (total) exceeded")
        assert "Memory limit" in str(await unavailable(sink))
        receiver.reply(200, b"")
        await sink.write(make_batch(1))


async def test_what_is_too_large_for_a_proxy_goes_in_halves() -> None:
    async with open_receiver("/") as receiver, opened(receiver, "events", compress="none") as sink:
        receiver.answer = lambda request: Reply(413 if len(request.raw) > 1000 else 200)
        await sink.write(make_batch(20))
        receiver.reply(503, b"<html>\n<h1>no upstream</h1>", retry_after="7")
        error = await unavailable(sink)
    assert (error.retry_after, str(error).endswith(": <html> <h1>no upstream</h1>")) == (7.0, True)


async def test_want_of_descriptors_is_unavailable_and_passes(server: ClickHouseServer, table: str) -> None:
    written = 0
    for spare in range(4):
        async with opened(server, table) as sink:
            with few_descriptors(spare):
                try:
                    await sink.write(make_batch([make_event(f"few-{spare}")]))
                except SinkUnavailable:
                    assert not written
                else:
                    written += 1
            await sink.write(make_batch([make_event(f"later-{spare}")]))
    assert written
    assert {f"later-{spare}" for spare in range(4)} <= set(ids(server, table))
