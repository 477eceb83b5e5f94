"""``hermes top`` and ``hermes tap``: what they draw, what they ask, and that nothing reaches the terminal raw."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import msgspec
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from hermes.cli import main
from hermes.cli.tap import describe, escape_json, fill
from hermes.cli.top import KINDS, draw, short_duration, short_size, spark
from hermes.console import client as client_module
from hermes.console.client import AdminClient, Lost
from hermes.dead_letters.desk import DeadLettersStatus
from hermes.events.engine.status_types import AggregateStatus, EventsStatus, JournalStatus, QueueStatus, SinkStatus
from hermes.observe.service_status import RequestStatus, ServiceStatus
from hermes.testing import make_event

EVIL = "\x1b]0;owned\x07 [red]x[/red] \x9b31m"


def make_sink(**values: Any) -> SinkStatus:
    plain: dict[str, Any] = {
        "name": "postgres",
        "required": True,
        "delivered": 1234,
        "rate": 12.0,
        "in_flight": 5,
        "on_disk": 0,
        "lag": 0.25,
        "breaker": "closed",
        "opens_in": 0.0,
        "failure": "",
        "failed_at": None,
        "retries": 0,
        "dead_lettered": 0,
        "evicted": 0,
        "held": 0,
        "refusals": {},
        "dropped": {},
    }
    return SinkStatus(**(plain | values))


def make_status(*sinks: SinkStatus, others: dict[str, Any] | None = None, **values: Any) -> ServiceStatus:
    """A status; ``values`` are members of its facts or of the events, ``others`` are further parts."""
    events: dict[str, Any] = {
        "received": 1239,
        "by_type": {"song_played": 1239},
        "rate": 12.0,
        "history": [0, 1, 12],
        "rejected": {},
        "queue": QueueStatus(50, 100, 10, 1000),
        "journal": JournalStatus(2048, 4096, None),
        "sinks": list(sinks or [make_sink()]),
        "aggregates": AggregateStatus(28_333_273, ["song_played"], [[0] * 58 + [39, 1200]], 0),
    }
    facts: dict[str, Any] = {
        "version": "1.2.3",
        "now": 1_700_000_100.0,
        "started": 1_700_000_000.0,
        "durability": "disk",
        "draining": False,
        "requests": RequestStatus(60, 0.001, 0.02),
        "connections": 3,
        "loop_lag": 0.001,
        "memory": 64 * 2**20,
    }
    events |= {name: value for name, value in values.items() if name in events}
    facts |= {name: value for name, value in values.items() if name not in events}
    letters = sum(sink.dead_lettered for sink in events["sinks"])
    parts = {"events": EventsStatus(**events), "dead_letters": DeadLettersStatus(letters, 0), **(others or {})}
    return ServiceStatus(**facts, parts=parts)


def drawn(status: ServiceStatus, trouble: str = "") -> str:
    out = io.StringIO()
    Console(file=out, width=100, highlight=False).print(draw(status, "http://127.0.0.1:8081", trouble))
    return out.getvalue()


# The drawing


def test_the_screen_tells_what_the_status_does() -> None:
    text = drawn(make_status())
    for words in (
        "Hermes 1.2.3 · http://127.0.0.1:8081 · up 1 min 40 s · disk",
        "12/s",
        "1,239",
        "0 rejected",
        "██████████░░░░░░░░░░ of 100",
        "2.0 KiB",
        "median 1.0 ms, 99th 20 ms",
        "3 conn.",
        "64.0 MiB of memory",
        "● closed",
        "1,234",
        "250 ms",
        "song_played",
    ):
        assert words in text, words


def test_the_screen_fits_a_terminal_of_80_columns() -> None:
    out = io.StringIO()
    sink = make_sink(breaker="open", opens_in=12.0, lag=3725.0, in_flight=1_234_567, dead_lettered=12_345)
    Console(file=out, width=80, highlight=False).print(draw(make_status(sink), "http://127.0.0.1:8081"))
    assert max(map(len, out.getvalue().splitlines())) <= 80
    assert "■ open, 12.0" in out.getvalue()
    assert "1 h 2 min" in out.getvalue()


def test_trouble_is_told_in_words() -> None:
    sink = make_sink(
        breaker="half_open",
        failure="no route",
        failed_at=1_700_000_088.0,
        on_disk=70,
        held=60,
        evicted=50,
        dropped={"queue_full": 3},
        refusals={"22003 overflow": 2, "23514 check": 9},
        lag=None,
    )
    text = drawn(make_status(sink, draining=True, journal=JournalStatus(1, 2, "disk full")), "the connection is lost")
    for words in (
        "◐ half-open",
        "postgres: last error 12.0 s ago: no route",
        "postgres: behind: 70 events are only in the journal",
        "postgres: held: 60 events, because the sink refuses every event for one reason",
        "postgres: lost: 50 dead letters had to make room for newer ones",
        "postgres: dropped: queue_full 3",
        "postgres: refused for good: 23514 check (9) · 22003 overflow (2)",
        "cannot be written: disk full",
        "stopping",
        "Not of now: the connection is lost. Trying again …",
    ):
        assert words in text, words
    assert " ? " in text


def test_no_word_of_others_is_obeyed_by_the_terminal_or_taken_as_markup() -> None:
    sink = make_sink(name=EVIL, failure=EVIL, failed_at=0.0, refusals={EVIL: 1}, dropped={EVIL: 1}, breaker=EVIL)
    status = make_status(
        sink,
        version=EVIL,
        durability=EVIL,
        rejected={EVIL: 1},
        journal=JournalStatus(1, 2, EVIL),
        aggregates=AggregateStatus(0, [EVIL], [[1] * 60], 0),
    )
    text = drawn(status, EVIL)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\x9b" not in text
    assert "[red]x[/red]" in text
    assert "\\x1b]0;owned\\x07" in text


def test_a_service_without_journal_and_without_events_is_drawn() -> None:
    status = make_status(
        journal=None,
        aggregates=AggregateStatus(0, [], [], 1),
        requests=RequestStatus(0, None, None),
        history=[],
        memory=None,
    )
    text = drawn(status)
    assert "journal" not in text
    assert "1 event with a timestamp outside the last hour" in text


def test_a_spark_is_as_high_as_its_values_and_shows_the_smallest() -> None:
    assert spark([0, 1, 100, 200], 6) == "   ▁▄█"
    assert spark([1, 2, 3], 2) == "▅█"
    assert spark([], 3) == "   "


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.0000021, "2 µs"),
        (0.0021, "2.1 ms"),
        (0.25, "250 ms"),
        (12.34, "12.3 s"),
        (90, "1 min 30 s"),
        (3725, "1 h 2 min"),
        (200_000, "2 d 7 h"),
    ],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert short_duration(seconds) == text


def test_sizes_are_short() -> None:
    assert [short_size(size) for size in (0, 1023, 1024, 200 * 2**20, 2**50)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "200 MiB",
        "1024 TiB",
    ]


def test_a_service_that_is_gone_is_waited_for_with_its_last_numbers_on_the_screen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    status = msgspec.json.encode(make_status(received=4711))
    feeds = iter([b"event: status\ndata: %b\n\n" % status, None, b"event: end\ndata: {}\n\n"])
    pauses: list[float] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/status":
            return httpx.Response(200, content=status)
        if request.url.path == "/dead-letters":
            return refuse(request)
        feed = next(feeds)
        return refuse(request) if feed is None else httpx.Response(200, content=feed)

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Console, "is_terminal", True)
    monkeypatch.setattr("hermes.cli.top.time.sleep", sleep)
    done = run(monkeypatch, answer, "top")
    assert done.exit_code == 0
    assert pauses == [1.0, 1.0, 1.0]
    assert done.stdout.count("4,711") >= 4
    assert "Not of now: no Hermes answers at http://127.0.0.1:8081" in " ".join(done.stdout.split())
    assert "Not of now: the service has been stopped. Trying again" in done.stdout


# The tap


def test_an_event_is_a_line() -> None:
    event = make_event("1", user_id="me", payload='{"title": "Alive"}')
    assert fill(describe(event), None) == '2023-11-14 22:13:20Z  song_played  me  1  {"title": "Alive"}'


def test_no_id_and_no_payload_reaches_the_terminal_raw() -> None:
    payload = '{"a":\t"\x9b31m\x7f",\n "b": "\u202e\U000e0001é"}'
    line = fill(describe(make_event("1\x1b[2J\r\n2", user_id="\x9b0m", type="\u2028", payload=payload)), None)
    assert line.isprintable()
    assert "1\\x1b[2J\\r\\n2" in line
    assert json.loads(escape_json(payload)) == json.loads(payload)
    assert "é" in escape_json(payload)


# Talking to a service


@contextmanager
def answering(handler: Callable[[httpx.Request], httpx.Response]) -> Iterator[AdminClient]:
    transport = httpx.MockTransport(handler)
    with httpx.Client(base_url="http://hermes.test", transport=transport) as client:
        yield AdminClient(client)


def run(monkeypatch: pytest.MonkeyPatch, handler: Callable[[httpx.Request], httpx.Response], *arguments: str) -> Result:
    """A command whose requests ``handler`` answers."""
    made = httpx.Client

    def make(**options: Any) -> httpx.Client:
        return made(transport=httpx.MockTransport(handler), **options)

    monkeypatch.setattr(httpx, "Client", make)
    return CliRunner().invoke(main, list(arguments), env={"ADMIN_ADDR": None, "ADMIN_KEYS": None})


def stream(*blocks: bytes, kind: str) -> httpx.Response:
    return httpx.Response(200, content=iter(blocks), headers={"Content-Type": kind})


def test_json_is_what_the_service_says_byte_for_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    data = msgspec.json.encode(make_status())
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append((str(request.url), request.headers.get("Authorization")))
        return httpx.Response(200, content=data)

    done = run(monkeypatch, answer, "top", "--json", "--url", "http://there:1", "--key", "secret")
    assert (done.exit_code, done.stdout_bytes) == (0, data + b"\n")
    assert asked == [("http://there:1/status", "Bearer secret")]


def test_where_there_is_no_terminal_it_is_shown_once(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(monkeypatch, lambda _: httpx.Response(200, content=msgspec.json.encode(make_status())), "top")
    assert done.exit_code == 0
    assert done.output.startswith("Hermes 1.2.3 · http://127.0.0.1:8081")


@pytest.mark.parametrize("once", [True, False])
def test_the_dead_letters_of_the_store_are_shown_though_this_run_made_none(
    monkeypatch: pytest.MonkeyPatch, once: bool
) -> None:
    status = msgspec.json.encode(make_status(make_sink(dead_lettered=0)))
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        if request.url.path == "/dead-letters":
            return httpx.Response(200, json={"letters": [], "next": None, "total": 4321})
        feed = b"event: status\ndata: %b\n\n" % status * 3 + b"event: end\ndata: {}\n\n"
        return httpx.Response(200, content=status if request.url.path == "/status" else feed)

    def sleep(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Console, "is_terminal", not once)
    monkeypatch.setattr("hermes.cli.top.time.sleep", sleep)
    done = run(monkeypatch, answer, "top")
    assert "dead letters: 4,321 kept, see `hermes dlq list`" in done.stdout
    assert asked.count("/dead-letters") == 1


@pytest.mark.parametrize(
    ("environ", "url", "key"),
    [
        ({}, "http://127.0.0.1:8081", None),
        ({"ADMIN_ADDR": ":9000", "ADMIN_KEYS": "one,two"}, "http://127.0.0.1:9000", "one"),
        ({"ADMIN_ADDR": "[::]:9000", "ADMIN_KEYS": "one", "HERMES_ADMIN_KEY": "mine"}, "http://127.0.0.1:9000", "mine"),
        ({"ADMIN_ADDR": "[::1]:9000"}, "http://[::1]:9000", None),
    ],
)
def test_the_environment_says_where_and_with_which_key(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], url: str, key: str | None
) -> None:
    for name in ("ADMIN_ADDR", "ADMIN_KEYS", "HERMES_ADMIN_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with client_module.open_client(None, None) as client:
        assert client.url == url
        given = client._client.headers.get("Authorization")
    assert given == (f"Bearer {key}" if key else None)


def refuse(_request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("[Errno 111] Connection refused")


PROBLEM = {"detail": "32 watch already\x1b[2J"}


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (refuse, "start one, or name another with --url"),
        (lambda _: httpx.Response(401, json={"detail": "no"}), "set HERMES_ADMIN_KEY, or give --key"),
        (lambda _: httpx.Response(404), "is not the admin address of a Hermes: see ADMIN_ADDR"),
        (lambda _: httpx.Response(503, json=PROBLEM), "says: 32 watch already [2J"),
        (lambda _: httpx.Response(500, content=b"<html>"), "says: status 500"),
        (lambda _: httpx.Response(200, content=b"<html>"), "that is not "),
    ],
)
@pytest.mark.parametrize("command", [["top", "--once"], ["top", "--json"], ["tap"]])
def test_what_goes_wrong_is_one_line_with_the_mend(
    monkeypatch: pytest.MonkeyPatch, command: list[str], handler: Callable[[httpx.Request], httpx.Response], words: str
) -> None:
    done = run(monkeypatch, handler, *command)
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr.startswith("hermes: ")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_wrong_key_is_not_called_a_missing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(monkeypatch, lambda _: httpx.Response(401), "top", "--once", "--key", "bad")
    assert "the key is not in the ADMIN_KEYS of" in done.stderr


def test_an_address_that_is_off_or_none_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "name the admin address" in CliRunner().invoke(main, ["top"], env={"ADMIN_ADDR": "off"}).stderr
    for url in ("foo", "ftp://foo", "foo:bar", "me@foo:1"):
        assert "expected one such as http://" in CliRunner().invoke(main, ["tap", "--url", url]).stderr


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("127.0.0.1:8081", "http://127.0.0.1:8081"),
        ("there:1/", "http://there:1"),
        (":8081", "http://127.0.0.1:8081"),
        ("[::1]:8081", "http://[::1]:8081"),
        ("https://there:1", "https://there:1"),
    ],
)
def test_a_url_may_be_written_as_admin_addr_is(given: str, url: str) -> None:
    with client_module.open_client(given, "key") as client:
        assert client.url == url


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("[Errno 111] Connection refused", "(nothing listens there)"),
        ("[Errno -2] Name or service not known", "(no host has this name)"),
        ("[Errno 113] No route to host", "(no route to host)"),
    ],
)
def test_an_address_without_a_hermes_is_told_in_plain_words(
    monkeypatch: pytest.MonkeyPatch, error: str, words: str
) -> None:
    def fail(_request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError(error)

    assert words in run(monkeypatch, fail, "top", "--once").stderr


def test_a_setting_that_is_wrong_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    done = CliRunner().invoke(main, ["top"], env={"MAX_CONNECTIONS": "many"})
    assert done.exit_code == 2
    assert done.stderr.startswith("hermes: MAX_CONNECTIONS='many'")


def test_the_live_feed_is_read_in_whatever_pieces_it_comes() -> None:
    status = msgspec.json.encode(make_status(received=7))
    whole = b"retry: 1000\nevent: status\ndata: %b\n\nevent: status\ndata: %b\n\nevent: end\ndata: {}\n\n" % (
        status,
        status,
    )
    pieces = [whole[start : start + 7] for start in range(0, len(whole), 7)]
    with answering(lambda _: stream(*pieces, kind="text/event-stream")) as client:
        assert [found.parts["events"].received for found in client.watch(KINDS)] == [7, 7]


def test_a_feed_that_breaks_is_lost_and_not_a_stop() -> None:
    def broken() -> Iterator[bytes]:
        yield b"event: status\ndata: %b\n\n" % msgspec.json.encode(make_status())
        raise httpx.ReadError("gone")

    with answering(lambda _: httpx.Response(200, content=broken())) as client:
        feed = client.watch(KINDS)
        assert next(feed).parts["events"].received == 1239
        with pytest.raises(Lost, match="is lost"):
            next(feed)


def test_a_tap_shows_events_until_its_limit_and_tells_what_was_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    lines = [msgspec.json.encode(make_event(f"event-{n}\u2028")) + b"\n" for n in range(5)]

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(dict(request.url.params))
        return stream(
            b"\n", lines[0], lines[1] + b'{"skipped":12}\n' + lines[2][:9], lines[2][9:], *lines[3:], kind="x"
        )

    options = ["--type", "a", "--type", "b", "--user", "me", "--sample", "0.5", "--limit", "3", "--json"]
    done = run(monkeypatch, answer, "tap", *options)
    assert done.exit_code == 0
    assert asked == [{"type": "a,b", "user": "me", "sample": "0.5"}]
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [f"event-{n}\u2028" for n in range(3)]
    assert done.stderr == "hermes: 12 events were too many to show; see --type, --user and --sample\n"


def test_a_tap_whose_service_stops_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(monkeypatch, lambda _: stream(b"\n", kind="x"), "tap")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "hermes: the service has been stopped\n")


@pytest.mark.parametrize("sample", ["0", "-1", "1.5", "nan"])
def test_a_sample_that_is_none_is_refused(sample: str) -> None:
    done = CliRunner().invoke(main, ["tap", f"--sample={sample}"])
    assert done.exit_code == 2
    assert "expected a part of the events" in done.stderr


@pytest.mark.parametrize("command", ["top", "tap"])
def test_ctrl_c_ends_it_without_a_word(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    def interrupt(_request: httpx.Request) -> httpx.Response:
        raise KeyboardInterrupt

    monkeypatch.setattr(Console, "is_terminal", True)
    done = run(monkeypatch, interrupt, command)
    assert done.exit_code == 0
    assert done.stderr == ""
