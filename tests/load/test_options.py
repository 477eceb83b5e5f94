"""What can be asked of the generator, and the words in which it declines."""

from __future__ import annotations

from itertools import islice

import pytest

from hermes.load.options import LoadError, Options, Target, parse_header, parse_url


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://127.0.0.1:8080/events", Target("127.0.0.1", 8080, "/events", "127.0.0.1:8080")),
        ("http://Localhost", Target("localhost", 80, "/", "Localhost")),
        ("http://[::1]:9/a?b=%20c", Target("::1", 9, "/a?b=%20c", "[::1]:9")),
    ],
)
def test_a_url_names_a_target(url: str, target: Target) -> None:
    assert parse_url(url) == target


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://example.com/events", "https is not supported"),
        ("localhost:8080", "not of the form http://host:port/events"),
        ("/events", "not of the form"),
        ("http://host:port/", "is no URL"),
        ("http://host:99999/", "is no URL"),
        ("http://me:secret@host/", "send credentials with --header"),
        ("http://host/a b", "percent-encoded"),
        ("http://host/\u00fc", "percent-encoded"),
    ],
)
def test_a_url_that_cannot_be_used_is_declined_in_one_clear_line(url: str, message: str) -> None:
    with pytest.raises(LoadError, match=message) as caught:
        Options(url=url)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no colon", "'Name: value'"),
        ("bad name: x", "no name of a header field"),
        (": x", "no name of a header field"),
        ("X: a\r\nY: b", "control characters"),
        ("content-Length: 3", "set by the generator"),
        ("Transfer-Encoding: chunked", "set by the generator"),
    ],
)
def test_a_header_that_would_break_a_request_is_declined(text: str, message: str) -> None:
    with pytest.raises(LoadError, match=message):
        parse_header(text)


@pytest.mark.parametrize(
    "field",
    [
        {"connections": 0},
        {"connections": 10_001},
        {"duration": 0},
        {"duration": float("nan")},
        {"duration": float("inf")},
        {"warmup": -1},
        {"timeout": 0},
        {"total": 0},
        {"rate": 0},
        {"rate": 1e7},
    ],
)
def test_a_number_out_of_range_is_declined_by_name(field: dict[str, float]) -> None:
    (name,) = field
    with pytest.raises(LoadError, match=f"--{name} must be between"):
        Options(**field)  # type: ignore[arg-type]


def test_a_body_that_cannot_be_built_is_declined() -> None:
    with pytest.raises(LoadError, match="at least 1 event"):
        Options(events=0).requests()


def test_a_request_is_a_head_and_a_body_of_the_length_that_it_says() -> None:
    options = Options(
        url="http://h:1/e?x=%41",
        events=2,
        headers=(("X-API-Key", "100%d"), ("user-agent", "mine"), ("content-type", "application/jsonl")),
    )
    for request in islice(options.requests(), 20):
        head, _, body = request.partition(b"\r\n\r\n")
        assert head.decode().split("\r\n") == [
            "POST /e?x=%41 HTTP/1.1",
            "Host: h:1",
            "User-Agent: mine",
            "Content-Type: application/jsonl",
            "X-API-Key: 100%d",
            f"Content-Length: {len(body)}",
        ]


def test_a_compressed_request_says_so() -> None:
    assert b"\r\nContent-Encoding: gzip\r\n" in next(Options(gzip=True).requests())
