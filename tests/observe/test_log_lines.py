"""Log lines: one line each whatever they quote, in both formats; ids of the request; no key, wherever it was sent."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from hermes.observe.log_lines import configure_logs

FORGED = '2026-01-01T00:00:00Z [info     ] serving url="http://evil.example"'
NASTY = [
    f"first\n{FORGED}",
    f"first\r{FORGED}",
    f"first\r\n{FORGED}",
    "\x1b[2J\x1b]0;owned\x07",
    "a\x00b",
    "a\x9b31mb",
    "a\u2028b",
    "a\u202eb",
    "a\x85b",
]


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """The process's own configuration comes back after each test."""
    root, hypercorn = logging.getLogger(), logging.getLogger("hypercorn.error")
    handlers, levels = root.handlers[:], (root.level, hypercorn.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    hypercorn.setLevel(levels[1])
    structlog.reset_defaults()


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    text = capsys.readouterr().err
    assert text.endswith("\n")
    return text[:-1].split("\n")


@pytest.mark.parametrize("text", NASTY)
@pytest.mark.parametrize("style", ["console", "json"])
@pytest.mark.parametrize("foreign", [False, True])
def test_what_a_line_quotes_stays_in_it(
    style: str, text: str, foreign: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logs("info", style)
    if foreign:
        logging.getLogger("quart.app").warning("bad request: %s", text)
    else:
        structlog.get_logger("hermes").warning(f"about {text}", reason=text, many=[text])
    (line,) = lines_of(capsys)
    assert line.isprintable()
    if style == "json":
        told = json.loads(line)
        assert text in told["event"]
        assert foreign or (told["reason"] == text and told["many"] == [text])


@pytest.mark.parametrize("style", ["console", "json"])
def test_an_error_cannot_forge_a_line_and_shows_no_values(style: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info", style)
    try:
        api_key = "s3cret"
        raise ValueError(f"\x1b[31mbad\n{FORGED}")
    except ValueError:
        structlog.get_logger("hermes").exception("it failed", length=len(api_key))
    first, *rest = lines_of(capsys)
    assert "it failed" in first
    assert all(line.startswith("    ") for line in rest)
    assert all(line.isprintable() for line in [first, *rest])
    whole = "\n".join([first, *rest])
    assert "ValueError" in whole
    assert "s3cret" not in whole
    assert rest or style == "json"


def test_ids_that_are_bound_are_in_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info", "json")
    with structlog.contextvars.bound_contextvars(request_id="r-1", trace_id="ab"):
        structlog.get_logger("hermes").info("ours")
        logging.getLogger("quart.app").warning("theirs")
    structlog.get_logger("hermes").info("after")
    ours, theirs, after = map(json.loads, lines_of(capsys))
    assert ours["request_id"] == theirs["request_id"] == "r-1"
    assert ours["trace_id"] == "ab"
    assert "request_id" not in after


def test_lines_below_the_level_are_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("warning", "json")
    structlog.get_logger("hermes").info("no")
    logging.getLogger("quart.app").info("no")
    structlog.get_logger("hermes").warning("yes")
    (line,) = lines_of(capsys)
    assert json.loads(line)["event"] == "yes"
