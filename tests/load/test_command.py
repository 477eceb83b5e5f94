"""`hermes load` on the command line, as far as no server is needed."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from hermes.load.command import load


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--url", "https://localhost/events"], 1, "Error: --url: https is not supported"),
        (["--header", "nothing"], 1, "Error: --header 'nothing' is not of the form"),
        (["--connections", "0"], 1, "Error: --connections must be between 1 and 10000, not 0"),
        (["--events", "0"], 1, "Error: a body holds at least 1 event"),
        (["--duration", "soon"], 2, "write it as 500ms, 30s or 1m30s"),
        (["--duration", "0s"], 1, "Error: --duration must be between"),
        (["--rate", "fast"], 2, "'fast' is not a valid float"),
    ],
)
def test_a_wrong_argument_ends_with_one_line_that_says_what_is_wrong(
    arguments: list[str], status: int, message: str
) -> None:
    result = CliRunner().invoke(load, arguments)
    assert result.exit_code == status
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_the_help_says_how_latency_is_counted() -> None:
    text = " ".join(CliRunner().invoke(load, ["--help"]).stdout.split())
    assert "latency counts from the moment a request was due" in text
    assert "coordinated omission" in text
