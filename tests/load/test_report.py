"""What a person reads."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from hermes.load.options import Options
from hermes.load.reactor import Progress
from hermes.load.report import ProgressDisplay, format_bytes, format_seconds, progress_lines, summary_report
from hermes.load.schedule import SECOND
from hermes.load.tally import Summary, Tally


def tally_of(answered: int) -> Tally:
    tally = Tally(started_at=0)
    tally.sent = answered + 3
    tally.answered = answered
    tally.codes.update({202: answered - 10, 503: 10})
    tally.count_error("reset")
    tally.lost = 1
    tally.latencies.record([1_000_000] * 99 + [50_000_000])
    return tally


def summary_of(answered: int = 1000, seconds: int = 2, **changes: object) -> Summary:
    summary = tally_of(answered).summary(seconds * SECOND, events_per_request=5)
    return msgspec.structs.replace(summary, **changes)


def rendered(summary: Summary) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(summary_report(summary, Options()))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_tally_adds_up() -> None:
    tally = tally_of(1000)
    assert tally.in_flight == 2
    summary = tally.summary(2 * SECOND, events_per_request=5)
    assert (summary.requests, summary.requests_per_second) == (1000, 500)
    assert (summary.events, summary.events_per_second) == (4950, 2475), "those answered with 2xx"
    assert (summary.codes, summary.errors, summary.lost) == ({"202": 990, "503": 10}, {"reset": 1}, 1)
    assert summary.latency.p50 == pytest.approx(0.001, rel=0.01)
    assert summary.latency.max == 0.05


def test_an_ended_tally_keeps_its_length() -> None:
    tally = tally_of(100)
    tally.ended_at = 4 * SECOND
    assert tally.summary(99 * SECOND, 1).elapsed == 4


def test_the_summary_shows_amounts_latencies_codes_and_errors() -> None:
    text = rendered(summary_of(bytes_sent=1_710_000))
    for expected in ("1,000", "500", "4,950", "1.71 MB", "855 kB", "1.00 ms", "50.0 ms", "202", "99.00%", "reset"):
        assert expected in text


def test_the_summary_says_what_was_not_done() -> None:
    text = rendered(summary_of(interrupted=True, unsent=77))
    assert "Interrupted after 2.0 s." in text
    assert "Requests without an answer: 1." in text
    assert "77 requests of the schedule were never sent: connections were lost. Did the server stop?" in text
    quiet = rendered(summary_of(unsent=77, errors={}))
    assert "77 requests of the schedule were never sent: the rate is more than the server answers" in quiet


def test_the_summary_of_nothing_can_be_shown() -> None:
    assert "requests" in rendered(Tally(0).summary(1, 1))


def test_the_rate_shown_is_the_one_since_the_last_refresh() -> None:
    first = Progress("load", 8.0, 64, summary_of(1000, 2))
    second = Progress("load", 7.0, 64, summary_of(1700, 3))
    pace, outcome = progress_lines(second, first)
    assert pace == "load 7.0 s left · 700 req/s · 64 in flight"
    assert outcome == "p50 1.00 ms · p99 1.00 ms · 202: 1,690 · 503: 10 · reset: 1"


def test_the_first_rate_of_a_phase_is_not_counted_from_the_phase_before() -> None:
    warm_up = Progress("warm-up", 0.1, 64, summary_of(9000, 1))
    load = Progress("load", 9.0, 64, summary_of(1000, 2))
    assert "500 req/s" in progress_lines(load, warm_up)[0]


def test_a_terminal_gets_a_display_that_is_drawn_over_and_goes_away() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80)
    with ProgressDisplay(console, Options(duration=10, total=2000)) as display:
        assert 0.1 <= display.interval <= 0.25
        display.show(Progress("load", 9.0, 64, summary_of()))
        display.show(Progress("load", 8.0, 64, summary_of()))
    assert "load 8.0 s left" in screen.getvalue()
    assert screen.getvalue().count("\x1b[2K") >= 4


def test_anything_else_gets_plain_lines() -> None:
    log = io.StringIO()
    with ProgressDisplay(Console(file=log, width=40), Options()) as display:
        display.show(Progress("load", 9.0, 64, summary_of()))
        display.show(Progress("drain", 0.0, 64, summary_of()))
    first, second = log.getvalue().splitlines()
    assert first.startswith("load 9.0 s left")
    assert second.startswith("drain")
    assert "\x1b" not in log.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.00 µs"),
        (8.7e-4, "870 µs"),
        (9.999e-4, "1.00 ms"),
        (0.0124, "12.4 ms"),
        (0.9999, "1.00 s"),
        (75.0, "75.0 s"),
    ],
)
def test_times_have_three_digits(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (999, "999 B"), (1e3, "1.00 kB"), (2.5e9, "2.50 GB")])
def test_sizes_have_three_digits(size: float, text: str) -> None:
    assert format_bytes(size) == text
