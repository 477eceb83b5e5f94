"""`hermes load` on the command line, as far as no server is needed."""

from __future__ import annotations

import pytest
from click.testing import CliRunner, Result

from hermes.cli import main
from hermes.cli.load import find_failure
from hermes.load.tally import Latency, Summary


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["load", *arguments])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--url", "https://localhost/events"], "load: --url: https is not supported"),
        (["--header", "nothing"], "load: --header 'nothing' is not of the form"),
        (["--connections", "0"], "load: --connections: '0': expected a whole number, at least 1"),
        (["--connections", "10001"], "load: --connections must be between 1 and 10000, not 10001"),
        (["--events", "0"], "load: --events: '0': expected a whole number, at least 1"),
        (["--payload-bytes", "1"], "load: a payload is a JSON object of at least 2 bytes, not 1"),
        (["--type", 'a"b'], "load: event type 'a\"b' is not plain ASCII"),
        (["--duration", "soon"], "load: --duration: 'soon': expected a duration such as 500ms, 30s or 1m30s"),
        (["--duration", "0s"], "load: --duration must be between"),
        (["--rate", "fast"], "load: --rate: 'fast': expected a number of requests a second"),
    ],
)
def test_a_wrong_argument_is_exit_code_2_and_one_line(arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"hermes: {message}")
    assert result.stderr.count("\n") == 1


def test_the_help_says_how_latency_is_counted() -> None:
    text = " ".join(run("--help").stdout.split())
    assert "latency counts from the moment a request was due" in text
    assert "coordinated omission" in text


def summary(codes: dict[str, int], errors: dict[str, int] | None = None) -> Summary:
    taken = sum(count for code, count in codes.items() if code.startswith("2"))
    answered = sum(codes.values())
    return Summary(
        elapsed=1.0,
        requests=answered,
        events=taken,
        requests_per_second=answered,
        events_per_second=taken,
        codes=codes,
        errors=errors or {},
        lost=sum(count for kind, count in (errors or {}).items() if kind != "refused"),
        unsent=0,
        latency=Latency(0, 0, 0, 0, 0),
        bytes_sent=0,
        bytes_received=0,
    )


@pytest.mark.parametrize(
    ("codes", "errors", "words"),
    [
        ({"202": 9}, {}, None),
        ({"202": 9, "503": 1}, {}, None),
        ({"202": 1, "429": 9}, {}, None),
        ({"202": 9}, {"reset": 1}, "1 request got no answer (1 reset), and 9 did: did the server stop, or lose conn"),
        ({"202": 9, "503": 1}, {"refused": 8}, "0 requests got no answer (8 refused), and 10 did: did the server stop"),
        ({"503": 9}, {}, "no event was taken: all 9 answers say that the server is full"),
        ({"202": 9, "400": 1}, {}, "1 of 10 requests were refused: 1 with 400; are these --type in its EVENT_TYPES?"),
        ({"401": 1, "500": 2}, {}, "3 of 3 requests were refused: 1 with 401, 2 with 500; give one of its API_KEYS"),
        ({"202": 9, "500": 1}, {}, "1 of 10 requests were refused: 1 with 500"),
        ({"404": 1}, {}, "1 of 1 requests were refused: 1 with 404; is that the path of --url?"),
        ({}, {"timeout": 4}, "no request was answered (4 timeout): is a Hermes at this --url"),
        ({}, {}, "no request was answered: "),
    ],
    ids=repr,
)
def test_a_run_is_a_failure_where_nothing_was_taken_or_some_was_refused_or_left_without_an_answer(
    codes: dict[str, int], errors: dict[str, int], words: str | None
) -> None:
    failure = find_failure(summary(codes, errors))
    assert failure is None if words is None else failure is not None and failure.startswith(words)
