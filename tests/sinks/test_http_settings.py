"""What an operator may write for the http sink, and that nothing secret of it is shown when it is wrong."""

from __future__ import annotations

import pytest
from hermes_sinks.http import HttpSettings, check_http
from hermes_sinks.http.settings import parse_headers

from hermes import ConfigError, Storage
from hermes.config import read
from hermes.net.outgoing import parse_target


def check(**variables: str) -> HttpSettings:
    environ = {f"SINK_HTTP_{name.upper()}": value for name, value in {"url": "http://host", **variables}.items()}
    settings = read(HttpSettings, environ, "SINK_HTTP_")
    check_http(settings, Storage())
    return settings


@pytest.mark.parametrize(
    ("text", "headers"),
    [
        ("", {}),
        ("X-API-Key: k", {"x-api-key": "k"}),
        ("A: 1, B:2 ,", {"a": "1", "b": "2"}),
        ("Accept: a, b\r\nB: x:y\n\n", {"accept": "a, b", "b": "x:y"}),
    ],
)
def test_headers_come_in_a_comma_list_or_one_a_line(text: str, headers: dict[str, str]) -> None:
    assert parse_headers(text) == headers


@pytest.mark.parametrize(
    "text",
    [
        "s3cret",
        "A: s3cret, s3cret",
        "A: s3cret, Authorization:",
        "A: s3\rcret",
        "A: s3cret\nB: s3\rEvil: x\n",
        "A b: s3cret",
        ": s3cret",
        "A: s3crét",
        "A: s3\0cret",
        "Host: s3cret",
        "Content-Length: 3",
        "webhook-id: s3cret",
        "A: s3cret, a: s3cret",
    ],
)
def test_what_is_no_header_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(ConfigError, match=r"SINK_HTTP_HEADERS=\(hidden\)") as raised:
        check(headers=text)
    assert "s3" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "host/s3cret",
        "ftp://host/s3cret",
        "http:///s3cret",
        "http://user:s3cret@/",
        "http://host/#s3cret",
        "http://host:port/s3cret",
        "http://ho st/s3cret",
        "http://a..s3cret/",
        f"http://{'a' * 64}.s3cret/",
    ],
)
def test_a_url_that_is_none_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigError, match=r"SINK_HTTP_URL=\(hidden\): expected a URL such as") as raised:
        check(url=url)
    assert "s3cret" not in str(raised.value)


def test_the_words_for_a_target_show_neither_credentials_nor_path() -> None:
    target = parse_target("https://user:p%40ss@host.example:8443/hooks/T0/token?key=1", "URL")
    assert target.words == "https://host.example:8443"
    assert target.auth == ("user", "p@ss")
    assert str(target.url) == "https://host.example:8443/hooks/T0/token?key=1"


def test_a_ca_file_that_is_none_stops_the_start(tmp_path: object) -> None:
    with pytest.raises(ConfigError, match="SINK_HTTP_CA_FILE='/nowhere': cannot be used as certificates"):
        check(ca_file="/nowhere")


def test_the_defaults_are_fine_and_the_url_has_none() -> None:
    assert check() == HttpSettings(url="http://host")
    with pytest.raises(ConfigError, match="SINK_HTTP_URL is not set"):
        read(HttpSettings, {}, "SINK_HTTP_")
