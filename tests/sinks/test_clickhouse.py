"""What needs no server of the clickhouse sink: rows, names, settings, and what an answer means."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hermes_sinks.clickhouse import ClickHouseSettings, check_clickhouse
from hermes_sinks.clickhouse.faults import blames_data, error_code, reason, suspect
from hermes_sinks.clickhouse.rows import encode_rows
from hermes_sinks.clickhouse.settings import table_name
from hermes_sinks.clickhouse.table import Unfit, create_statement, read_answer
from msgspec import Raw, json

from hermes import ConfigError, Event, Storage
from hermes.config import read
from hermes.events.event import MAX_TIMESTAMP
from hermes.net.outgoing import Answer
from hermes.testing import awkward_events, make_batch, make_event, make_events

ALL = range(MAX_TIMESTAMP + 1)


def check(**variables: str) -> ClickHouseSettings:
    environ = {f"SINK_CLICKHOUSE_{name.upper()}": text for name, text in {"url": "http://host", **variables}.items()}
    settings = read(ClickHouseSettings, environ, "SINK_CLICKHOUSE_")
    check_clickhouse(settings, Storage())
    return settings


async def test_a_row_has_every_column_and_the_payload_as_the_clients_text() -> None:
    events = awkward_events()
    rows, refused = await encode_rows(make_batch(events, chunk=4), as_json=False, times=ALL)
    assert not refused
    for number, (row, event) in enumerate(zip(rows, events, strict=True)):
        assert json.decode(row) == {
            "id": event.id,
            "user_id": event.user_id,
            "type": event.type,
            "ts": datetime.fromtimestamp(event.timestamp, UTC).isoformat().replace("+00:00", "Z"),
            "payload": bytes(event.payload).decode(),
            "received_at": f"2023-11-14T22:13:{21 + number // 4}.250000Z",
        }


async def test_a_payload_for_a_column_of_json_is_in_the_row_as_it_is() -> None:
    rows, _ = await encode_rows(make_batch([make_event("a", payload='{"n": 1.50}')]), as_json=True, times=ALL)
    assert b'"payload":{"n": 1.50},' in rows[0]


@pytest.mark.parametrize("as_json", [False, True])
async def test_what_is_no_text_has_an_empty_row_and_a_reason(as_json: bool) -> None:
    events = make_events(2100)
    events[3] = make_event("half \ud800")
    events[1500] = Event("utf8", "user", "song_played", 1, Raw(b'{"v": "\xff"}'))
    events[2000] = make_event("late", timestamp=2**32)
    rows, refused = await encode_rows(make_batch(events, chunk=1200), as_json=as_json, times=range(2**32))
    assert refused.keys() == {3, 1500, 2000}
    assert refused[2000] == "the column ts holds times up to 2106-02-07T06:28:15Z"
    assert [index for index, row in enumerate(rows) if not row] == [3, 1500, 2000]
    assert len(rows) == 2100


@pytest.mark.parametrize(
    ("answer", "end"),
    [
        ("24.8.4.1\tDateTime64(0, \\'UTC\\')\n", 10_413_792_000),
        ("26.9.2.1\tDateTime64(0, \\'UTC\\')\n", 253_402_300_800),
        ("26.10.1.1\tLowCardinality(Nullable(DateTime))\n", 2**32),
        ("25.8.2.1\tNullable(DateTime64(9))\n", 9_223_372_036),
        ("25.8.2.1\tString\n", 253_402_300_800),
        ("25.8.2.1\t\n", 10_413_792_000),  # no table yet
        ("25.8.2.1\t\\N\n", 10_413_792_000),
        ("<html>a proxy</html>", 10_413_792_000),
        ("", 10_413_792_000),
    ],
)
def test_a_column_holds_what_its_type_and_the_release_allow(answer: str, end: int) -> None:
    assert read_answer(answer, as_json=False) == range(end)


@pytest.mark.parametrize(
    ("answer", "as_json", "words"),
    [
        ("24.7.9.1\t\n", False, "ClickHouse 24.7 is older than 24.8"),
        ("9.12.1.1\t\n", False, "ClickHouse 9.12 is older than 24.8"),
        ("24.8.4.1\tDateTime64(0)\n", True, "the type JSON needs ClickHouse 25.3"),
        ("25.8.2.1\tUInt64\n", False, "the column ts is UInt64: it has to be DateTime64, DateTime or String"),
    ],
)
def test_a_server_or_a_table_that_does_not_fit_is_named(answer: str, as_json: bool, words: str) -> None:
    with pytest.raises(Unfit, match=words):
        read_answer(answer, as_json=as_json)


def test_names_are_quoted_and_nothing_in_them_ends_the_quotes() -> None:
    assert table_name(ClickHouseSettings(url="", database="a`b", table="c\\`; DROP")) == "`a\\`b`.`c\\\\\\`; DROP`"


def test_the_table_is_merged_by_id_and_parted_only_if_told() -> None:
    assert "ENGINE = ReplacingMergeTree(received_at) ORDER BY id" in create_statement(ClickHouseSettings(url=""))
    by_month = create_statement(ClickHouseSettings(url="", partition="month", payload="json"))
    assert "PARTITION BY toYYYYMM(ts) ORDER BY id" in by_month
    assert "payload JSON" in by_month


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"table": "a\nb"}, "SINK_CLICKHOUSE_TABLE='a\\\\nb': expected a name of 1 to 200 printable bytes"),
        ({"database": "x" * 201}, "SINK_CLICKHOUSE_DATABASE="),
        ({"user": "s3crét"}, r"SINK_CLICKHOUSE_USER=\(hidden\)"),
        ({"password": "s3cret\nX: y"}, r"SINK_CLICKHOUSE_PASSWORD=\(hidden\): expected printable ASCII"),
        ({"url": "http://a:s3cret@host"}, "leave out its user and password; set SINK_CLICKHOUSE_USER"),
        ({"url": "tcp://s3cret:9000"}, r"SINK_CLICKHOUSE_URL=\(hidden\): expected a URL"),
        ({"ca_file": "/nowhere"}, "SINK_CLICKHOUSE_CA_FILE='/nowhere'"),
        ({"max_bytes": "0"}, "at least 1"),
    ],
)
def test_what_makes_no_sense_stops_the_start(variables: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as raised:
        check(**variables)
    assert "s3cr" not in str(raised.value)


def test_the_defaults_are_fine() -> None:
    assert check(url="https://host:8443/?insert_quorum=2").table == "events"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Answer(200, {}, b""), None),
        (Answer(400, {"x-clickhouse-exception-code": "41"}, b"what?"), 41),
        (Answer(500, {}, b"Code: 252. DB::Exception: Too many parts"), 252),
        (Answer(200, {}, b"\n__exception__\nCode: 241. DB::Exception: Memory"), 241),
        (Answer(502, {}, b"<html>"), 0),
        (Answer(200, {"x-clickhouse-exception-code": "many"}, b""), None),
        (Answer(500, {"x-clickhouse-exception-code": "9" * 5000}, b"Code: 99999. DB::"), 0),
    ],
)
def test_an_error_is_known_by_its_code_wherever_it_is_told(answer: Answer, code: int | None) -> None:
    assert error_code(answer) == code


@pytest.mark.parametrize(
    ("body", "row"),
    [
        (b"Cannot read DateTime: (while reading the value of key ts): (at row 2)", 1),
        (b"Constraint `c` for table d.e is violated at row 17. Expression: x", 16),
        (b"Too many parts", None),
        (b"at row 99999999999", None),
    ],
)
def test_the_row_that_an_error_points_at_is_read(body: bytes, row: int | None) -> None:
    assert suspect(Answer(400, {}, body)) == row


def test_only_what_the_data_causes_costs_events() -> None:
    assert all(blames_data(code) for code in (6, 27, 41, 72, 117, 376, 469))
    assert not any(blames_data(code) for code in (0, 16, 60, 81, 159, 241, 243, 252, 497, 516, 999))


def test_the_words_say_what_to_do_and_hold_no_controls() -> None:
    answer = Answer(403, {}, b"Code: 497. DB::Exception: hermes:\x1b[0m Not enough\nprivileges")
    assert reason(answer, 497) == (
        "Code: 497. DB::Exception: hermes: [0m Not enough privileges "
        "(the user needs INSERT on the table, and CREATE TABLE where there is none)"
    )
    assert reason(Answer(502, {}, b""), 0) == "it answered 502"


@pytest.mark.parametrize(
    ("code", "body", "words"),
    [
        (
            41,
            """Code: 41. DB::Exception: Cannot read DateTime: 'SECRET (NOT_A_NAME)': (while reading the value of key ts)
            : (at row 2)\n: While executing. (CANNOT_PARSE_DATETIME) (version 24.8.1.1)""",
            "Code: 41 CANNOT_PARSE_DATETIME (column ts)",
        ),
        (
            469,
            """Code: 469. DB::Exception: Constraint `good` for table d.e is violated at row 17. Expression: (NOT
            startsWith(id, 'bad')). Column values: id = 'SECRET'. (VIOLATED_CONSTRAINT) (version 25.8)""",
            "Code: 469 VIOLATED_CONSTRAINT (constraint good)",
        ),
        (27, "Code: 27. DB::Exception: Cannot parse input before: 'SECRET name: SECRET'", "Code: 27"),
    ],
)
def test_the_reason_for_a_refused_row_holds_names_and_nothing_of_the_row(code: int, body: str, words: str) -> None:
    assert reason(Answer(400, {}, body.encode()), code) == words
