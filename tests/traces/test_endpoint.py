"""Where traces go: TRACES_* before the variables of OpenTelemetry, the path, the headers, and what is refused."""

from __future__ import annotations

import pytest

from hermes.base.errors import ConfigError
from hermes.config import Mistakes
from hermes.traces.endpoint import parse_headers, traces_url
from hermes.traces.settings import TraceSettings, collect_trace_settings

BASE = "OTEL_EXPORTER_OTLP_ENDPOINT"
OWN = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
HERE, THERE = "http://localhost:4318", "https://collector.example/otlp"


def read_traces(environ: dict[str, str]) -> TraceSettings:
    mistakes = Mistakes()
    settings = collect_trace_settings(environ, mistakes)
    mistakes.raise_any()
    return settings


@pytest.mark.parametrize(
    ("environ", "endpoint"),
    [
        ({}, ""),
        ({"TRACES_ENDPOINT": HERE}, HERE),
        ({BASE: HERE}, HERE),
        ({OWN: THERE, BASE: HERE}, THERE),
        ({"TRACES_ENDPOINT": HERE, OWN: THERE, BASE: THERE}, HERE),
        ({BASE: HERE, "OTEL_TRACES_EXPORTER": "none"}, ""),
        ({BASE: HERE, "OTEL_TRACES_EXPORTER": "otlp"}, HERE),
        ({BASE: HERE, "OTEL_SDK_DISABLED": "true"}, ""),
        ({BASE: HERE, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, HERE),
        ({"TRACES_ENDPOINT": HERE, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, HERE),
    ],
)
def test_the_endpoint_is_ours_or_that_of_opentelemetry(environ: dict[str, str], endpoint: str) -> None:
    assert read_traces(environ).traces_endpoint == endpoint


def test_headers_are_ours_or_those_of_opentelemetry_and_only_where_traces_are_sent() -> None:
    theirs = {"OTEL_EXPORTER_OTLP_HEADERS": "a=1"}
    assert read_traces({"TRACES_ENDPOINT": HERE, **theirs}).traces_headers == "a=1"
    assert read_traces({"TRACES_ENDPOINT": HERE, "TRACES_HEADERS": "b=2", **theirs}).traces_headers == "b=2"
    assert read_traces(theirs).traces_headers == ""


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        (HERE, f"{HERE}/v1/traces"),
        (f"{HERE}/", f"{HERE}/v1/traces"),
        (THERE, f"{THERE}/v1/traces"),
        (f"{THERE}/v1/traces", f"{THERE}/v1/traces"),
        (f"{THERE}?tenant=a", f"{THERE}/v1/traces?tenant=a"),
    ],
)
def test_the_path_of_the_protocol_is_there_once(endpoint: str, url: str) -> None:
    assert traces_url(endpoint) == url


def test_headers_are_decoded() -> None:
    text = " Authorization=Basic%20YTpi , x-team = a%2Cb ,,"
    assert parse_headers(text) == {"authorization": "Basic YTpi", "x-team": "a,b"}
    assert parse_headers("") == {}


@pytest.mark.parametrize(
    "text", ["s3cret", "=s3cret", "a b=s3cret", "a=s3cret%0d%0ax:y", "a=s3cret%00", "a=", "a=s3crét"]
)
def test_headers_that_cannot_be_sent_are_refused_without_showing_them(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^TRACES_HEADERS=\(hidden\): expected name=value") as refusal:
        read_traces({"TRACES_ENDPOINT": HERE, "TRACES_HEADERS": text})
    assert "s3cr" not in str(refusal.value)


@pytest.mark.parametrize(
    "text", ["localhost:4318", "ftp://host", "http://", "http://host:port", "http://[::1", "http://h/#part"]
)
@pytest.mark.parametrize("name", ["TRACES_ENDPOINT", BASE])
def test_an_endpoint_that_is_no_url_is_refused_by_its_variable(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}='.*': expected a URL such as http://localhost:4318$"):
        read_traces({name: text})


def test_a_password_in_the_url_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigError, match="TRACES_HEADERS") as refusal:
        read_traces({"TRACES_ENDPOINT": "http://me:s3cret@host"})
    assert "s3cret" not in str(refusal.value)


def test_another_protocol_than_ours_is_refused_with_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"^OTEL_EXPORTER_OTLP_PROTOCOL='grpc': Hermes sends traces as http/protobuf"):
        read_traces({BASE: HERE, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
