"""Every screen of the command line at 60, 80 and 120 columns: no line is wider, and no value is cut off."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import pytest
import trio
from click.testing import CliRunner
from rich.cells import cell_len
from rich.console import Console, RenderableType

from hermes.cli import dlq_store, main
from hermes.cli.tap import describe, fill
from hermes.cli.top import draw
from hermes.console.tables import Column, lay_out
from hermes.dead_letters.sqlite import open_sqlite_dead_letters
from hermes.events.engine.status_types import AggregateStatus, JournalStatus
from hermes.events.letters import to_letter
from hermes.load.options import Options
from hermes.load.reactor import Progress
from hermes.load.report import progress_lines, summary_report
from hermes.load.tally import Latency, Summary
from hermes.net.http.rejected_feed import Rejected
from hermes.store.log.sqlite.log import open_sqlite_log
from hermes.testing import make_event
from tests.cli.test_top import make_sink, make_status
from tests.console.test_help import PAGES
from tests.dead_letters.kit import REJECTED_AT, make_letter

WIDTHS = (60, 80, 120)
TYPE = "t" * 64
ID = "i" * 256
UUID = "0189c1f8-7c1e-7a5e-9d5c-4f1d2b3a4c5d"
CHINESE = "日本" * 90
REASON = "22003 value overflows numeric format, in a column of this very long name: " + "n" * 140
BIG = 1_234_567_890


def assert_whole(text: str, width: int, values: Sequence[str]) -> None:
    """No line is wider than the terminal, nothing is replaced by dots, and every value is there in one piece.

    A value that is wider than the terminal may be on several lines, of which no character is missing.
    """
    assert max(map(cell_len, text.splitlines())) <= width, text
    together = "".join(text.split())
    for value in values:
        if len(value) <= width // 2:
            assert value in text, (value, text)
        else:
            assert "".join(value.split()) in together, (value, text)
    assert "…" not in text.replace("Trying again …", ""), text


def run(*arguments: str, width: int, **environ: str) -> str:
    with patch.dict(os.environ, environ | {"COLUMNS": str(width)}, clear=True):
        result = CliRunner().invoke(main, arguments, terminal_width=width)
    assert result.exit_code == 0, result.output
    return result.stdout


def print_for(width: int, drawing: RenderableType) -> str:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(drawing)
    return out.getvalue()


@pytest.mark.parametrize("width", WIDTHS)
def test_top(width: int) -> None:
    numbers = {"delivered": BIG, "in_flight": BIG, "retries": BIG, "dead_lettered": BIG, "rate": 166_667.0}
    sink = make_sink(
        name="a-sink-of-some-other-package",
        breaker="half_open",
        opens_in=29.9,
        lag=90_000.0,
        dropped={"queue_full": BIG},
        refusals={REASON: BIG},
        failure=REASON,
        failed_at=1_700_000_088.0,
        on_disk=BIG,
        **numbers,
    )
    status = make_status(
        sink,
        make_sink(),
        received=BIG,
        rate=166_667.0,
        history=[100_000] * 120,
        rejected=dict.fromkeys(("encoding", "invalid", "malformed", "queue_full", "unauthorized"), BIG),
        journal=JournalStatus(2**40, 2**41, REASON),
        aggregates=AggregateStatus(28_333_273, ["song_played", TYPE], [[9] * 60, [BIG] * 60], BIG),
    )
    text = print_for(width, draw(status, "http://[2001:db8::1234:5678]:8081", REASON))
    words = [
        "half-open, 29.9 s",
        "1,234,567,890",
        "166,667",
        "1 d 1 h",
        TYPE,
        REASON,
        "1,234,567,890 events with a timestamp outside",
    ]
    assert_whole(text, width, [sink.name, "unauthorized", *words])
    assert text.count("1,234,567,890") >= 10


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with dead letters and a journal whose values are as long as they can be."""
    monkeypatch.setattr(dlq_store, "configure_logs", lambda _level, _style: None)
    folder = tmp_path / "a-data-folder-with-a-name-that-is-rather-long" / "and-another-below-it-of-the-same-kind"
    folder.mkdir(parents=True)
    state = {"events": 9, "sinks": {"clickhouse": {"cursor": 3, "settled": 4}, "other": {"cursor": 9, "settled": 9}}}

    async def prepare() -> None:
        first = make_letter(0, sink="postgres", reason="22003 overflow", rejected_at=REJECTED_AT)
        longest = make_event(ID, user_id=ID, type=TYPE)
        times = {"rejected_at": first.rejected_at, "received_at": first.received_at}
        letters = [
            first,
            to_letter(make_event(UUID), "postgres", REASON, 1, **times),
            to_letter(longest, "clickhouse", CHINESE, 1, **times),
        ]
        async with open_sqlite_dead_letters(folder / "dead-letters.db", 1000) as store:
            await store.add(letters)
        async with open_sqlite_log(folder / "journal") as log:
            await log.append([b"x"] * 9)
            await log.take_snapshot(3, json.dumps(state).encode())

    trio.run(prepare)
    return folder


@pytest.mark.parametrize("width", WIDTHS)
def test_dlq(width: int, folder: Path) -> None:
    listed = run("dlq", "list", width=width, HERMES_DATA_DIR=str(folder))
    assert_whole(listed, width, ["event-0", UUID, ID, TYPE, "22003 overflow", REASON, CHINESE, "clickhouse"])
    shown = run("dlq", "show", "3", width=width, HERMES_DATA_DIR=str(folder))
    assert_whole(shown.partition("\n\n")[0], width, [ID, TYPE, CHINESE, "2023-11-14 22:15:00Z"])


@pytest.mark.parametrize("width", WIDTHS)
def test_log_inspect(width: int, folder: Path) -> None:
    text = run("log", "inspect", width=width, HERMES_DATA_DIR=str(folder))
    behind = "has every record before 3; 6 records to go"
    assert_whole(text, width, [str(folder / "journal"), behind, "sink clickhouse", "sink other"])
    assert_whole(run("log", "inspect", "--from", "1", width=width, HERMES_DATA_DIR=str(folder)), width, [])


@pytest.mark.parametrize("width", WIDTHS)
def test_settings(width: int) -> None:
    given = {"SINKS": "postgres,sqlite", "DB_DSN": "postgresql:///x", "SINK_SQLITE_PATH": f"/{'d' * 60}/{'f' * 90}"}
    for options in ([], ["--all"]):
        text = run("config", "check", *options, width=width, **given)
        assert_whole(text, width, [*given, given["SINK_SQLITE_PATH"], "(hidden)", ":8080"])
    types = "trip_started,song_played,ad_clicked,location_update"
    assert_whole(text, width, ["SINK_POSTGRES_BREAKER_FAILURES", types])
    names = [row["name"] for row in json.loads(run("sinks", "--json", width=width))]
    assert_whole(run("sinks", width=width), width, [*names, "SINK_CLICKHOUSE_CONNECT_TIMEOUT", "SINK_<NAME>_RETRIES"])
    assert_whole(run("config", "explain", width=width), width, ["JOURNAL_MAX_BYTES", "CORS_ORIGINS"])


@pytest.mark.parametrize("width", WIDTHS)
def test_tap(width: int) -> None:
    payload = '{"title":"' + "é" * 300 + '"}'
    for event in (make_event(UUID, user_id="user-123"), make_event(ID, user_id=ID, type=TYPE, payload=payload)):
        text = fill(describe(event), width)
        assert_whole(text, width, [event.id, event.user_id, event.type, bytes(event.payload).decode()])
        assert fill(describe(event), None).count("\n") == 0, "where it is no terminal, an event is a line"
    rejected = Rejected(1, 1_700_000_000.0, "/v1/batch", 200, 17, 3, REASON, "r" * 128, "2001:db8::1234:5678")
    assert_whole(fill(describe(rejected), width), width, ["/v1/batch", "index 17 of its request", REASON, "r" * 128])


@pytest.mark.parametrize("width", WIDTHS)
def test_load(width: int) -> None:
    codes = {"200": BIG, "202": BIG, "400": BIG, "429": BIG, "503": BIG}
    summary = Summary(
        elapsed=10.0,
        requests=BIG,
        events=BIG,
        requests_per_second=1e9,
        events_per_second=1e9,
        codes=codes,
        errors={"refused": BIG, "timeout": BIG},
        lost=BIG,
        unsent=BIG,
        latency=Latency(1.0, 2.0, 3.0, 4.0, 5.0),
        bytes_sent=10**12,
        bytes_received=10**12,
        interrupted=True,
    )
    options = Options(url=f"http://{'h' * 80}.example:8080/events")
    text = print_for(width, summary_report(summary, options))
    assert_whole(text, width, [options.url, *codes, "1,234,567,890", "refused", "timeout", "1000 GB", "p99.9"])
    pace = progress_lines(Progress("load", 3.0, 64, summary), None)
    for line in pace:
        assert "".join(line.split()) in "".join(print_for(width, line).split())


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("path", PAGES, ids=" ".join)
def test_help(path: tuple[str, ...], width: int) -> None:
    """Examples are copied, so they are one line however wide; all else fits."""
    text = run(*path, "--help", width=width)
    before, _, rest = text.partition("\nEXAMPLES\n")
    lines = [line for line in rest.splitlines() if not line.startswith(" " * 6)]
    assert max(map(len, [*before.splitlines(), *lines])) <= width


# The layout of tables

COLUMNS = Column("name"), Column("kind"), Column("words", least=20)
GAP = " " * 27
WIDE = f"name  kind {GAP}words"
ROWS = [("one", "short", "some words that may be wrapped"), ("two", "k" * 30, "more words")]


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (
            70,
            [
                WIDE,
                f"one   short{GAP}some words that may be wrapped",
            ],
        ),
        (
            58,
            [
                WIDE,
                f"one   short{GAP}some words that may",
            ],
        ),
        (40, ["name  kind", "one   short", "      words  some words that may be"]),
        (30, ["name", "one", "  kind   short", "  words  some words that may"]),
    ],
)
def test_columns_that_do_not_fit_become_labelled_lines(width: int, expected: list[str]) -> None:
    lines = [line.plain for line in lay_out(COLUMNS, ROWS, width)]
    assert lines[: len(expected)] == expected
    assert max(map(len, lines)) <= width
