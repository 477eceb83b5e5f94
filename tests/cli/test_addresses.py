"""What the operator is told of an address, a URL or a DSN that cannot be: which variable it is, and what to do."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from unittest.mock import patch

import pytest
from click.testing import CliRunner, Result

from hermes.cli import main
from hermes.config import describe
from hermes.configuration import describe_service
from hermes.events.sink import installed_sinks, load_plugin, variable_prefix

HTTP = {"SINKS": "http"}
CLICKHOUSE = {"SINKS": "clickhouse"}
PARQUET = {
    "SINKS": "parquet",
    "SINK_PARQUET_URL": "s3://bucket",
    "SINK_PARQUET_ACCESS_KEY": "a",
    "SINK_PARQUET_SECRET_KEY": "b",
}
KAFKA = {"SINKS": "kafka"}
URLS = ("", "here", "host:8080", "http://", "http://host:port", "http://host:99999", "ftp://host/x", "http://[::1")
JOURNAL = {"DURABILITY": "postgres", "SINKS": "null"}

WRONG: list[tuple[str, Mapping[str, str], tuple[str, ...]]] = [
    ("HTTP_ADDR", {}, ("8080", "host", "http://host:8080", "host:port", "host:99999", "[::1]", "::1:8080")),
    ("ADMIN_ADDR", {}, ("8081", "http://host:8081", "host:port", "host:99999")),
    ("HERMESMQ_CLIENT_ADDR", {"PARTS": "broker"}, ("7600", "http://host:7600", "host:port", "host:99999")),
    ("TRACES_ENDPOINT", {}, URLS[1:]),
    ("SINK_HTTP_URL", HTTP, URLS),
    ("SINK_CLICKHOUSE_URL", CLICKHOUSE, URLS),
    ("SINK_PARQUET_URL", PARQUET, ("s3://", "http://host/x", "s3://a:1/x")),
    ("SINK_PARQUET_ENDPOINT", PARQUET, (*URLS[1:], "http://host:9000/path")),
    ("SINK_KAFKA_BROKERS", KAFKA, ("", ",", "http://a:9092", "a:port", "a:99999", "a:0", "a:9092;b:9092", "::1:9092")),
    (
        "SINK_POSTGRES_DSN",
        {"SINKS": "postgres"},
        ("secret", "postgres://me:secret@127.0.0.1:secret/x", "service=secret"),
    ),
    *(
        (
            "DB_DSN",
            beside,
            (
                "secret",
                "127.0.0.1:5432/secret",
                "mysql://secret@127.0.0.1/x",
                "postgres://[::1/secret",
                "postgres://127.0.0.1:secret/x",
                "postgres://me:sec/ret@127.0.0.1/x",
                "postgres://me:secret@127.0.0.1:5432:1/x",
                "postgres://me:secret@127.0.0.1:99999/x",
                "postgres://me:secret@127.0.0.1:0/x",
                "postgres://me:secret@a,b,c:1,2/x?port=1,2",
                "postgres://me:se%zcret@127.0.0.1/x",
                "postgres://me:secret@127.0.0.1/x?secret=1",
                "postgres://me:secret@127.0.0.1/x?sslmode=secret",
                "postgres://me:secret@127.0.0.1/x?connect_timeout=secret",
                "postgres://me:secret@127.0.0.1/x?keepalives_idle=secret",
                "postgres://me:secret@127.0.0.1/x?target_session_attrs=secret",
                "host=a password=secret port=secret",
                "service=secret",
            ),
        )
        for beside in (JOURNAL, {"DURABILITY": "disk", "SINKS": "postgres"}, {**JOURNAL, "SINKS": "postgres"})
    ),
]
CASES = [(variable, beside, text) for variable, beside, texts in WRONG for text in texts]


def run(*arguments: str, **environ: str) -> Result:
    with patch.dict(os.environ, environ, clear=True):
        return CliRunner().invoke(main, arguments)


def refusal_of(result: Result, variable: str) -> str:
    """The one line that names the variable and says what to do; the exit code is that of a wrong setting."""
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"hermes: {variable}"), line
    assert any(advice in line for advice in ("expected ", "set it", "choose", "correct", "is empty")), line
    assert "secret" not in line
    return line


@pytest.mark.parametrize(("variable", "beside", "text"), CASES, ids=str)
def test_a_wrong_address_is_a_mistake_of_the_settings(variable: str, beside: Mapping[str, str], text: str) -> None:
    refusal_of(run("config", "check", **{**beside, variable: text}), variable)


def test_the_table_has_every_setting_that_is_an_address() -> None:
    declared = [each.name for each in describe_service()]
    for name, point in installed_sinks().items():
        declared += [each.name for each in describe(load_plugin(point).settings, variable_prefix(name))]
    wanted = {name for name in declared if name.endswith(("_ADDR", "_DSN", "_URL", "_ENDPOINT", "_BROKERS", "_HOST"))}
    assert wanted == {variable for variable, _, _ in WRONG}


@pytest.mark.parametrize("variable", ["HTTP_ADDR", "ADMIN_ADDR"])
@pytest.mark.parametrize("host", ["nohost.invalid", "192.0.2.1", "[2001:db8::1]"])
def test_an_address_that_is_not_of_this_machine_is_told_at_the_start(variable: str, host: str) -> None:
    environ = {"SINKS": "null", "DURABILITY": "memory", "HTTP_ADDR": "127.0.0.1:0", "ADMIN_KEYS": "k"}
    line = refusal_of(run("serve", **{**environ, variable: f"{host}:8080"}), variable)
    assert "cannot listen there" in line


def test_a_database_host_that_does_not_exist_is_told_at_the_start() -> None:
    dsn = "postgres://me:secret@nohost.invalid/x"
    result = run("serve", **JOURNAL, DB_DSN=dsn, HTTP_ADDR="127.0.0.1:0", ADMIN_ADDR="off")
    assert "failed to resolve host 'nohost.invalid'" in refusal_of(result, "DB_DSN")


def test_a_database_that_is_away_at_the_start_is_named_and_may_come_back() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    dsn = f"postgres://me:secret@127.0.0.1:{port}/x"
    result = run("serve", **JOURNAL, DB_DSN=dsn, HTTP_ADDR="127.0.0.1:0", ADMIN_ADDR="off")
    assert result.exit_code == 1  # not a setting that is wrong: a supervisor tries again
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("hermes: ")]
    assert line.startswith("hermes: DB_DSN=(hidden): Postgres: connection failed: ")
    assert line.endswith("; start that server, or correct the host, the port and the user")
    assert "secret" not in line
