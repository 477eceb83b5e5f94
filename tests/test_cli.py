"""The command line: what it prints, for people and for programs, and with which exit code it ends."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from click.testing import CliRunner, Result

from hermes import __version__
from hermes.cli import main
from hermes.config import Settings, describe
from hermes.sink import DeliverySettings
from tests.config.distributions import install
from tests.config.test_sinks import PLUGIN

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    """Run a command in an environment that has only what the test gives it."""

    def run(*arguments: str, columns: int = 200, **environ: str) -> Result:
        with patch.dict(os.environ, environ | {"COLUMNS": str(columns)}, clear=True):
            return CliRunner().invoke(main, arguments)

    return run


# In general


def test_it_tells_its_version(run: Run) -> None:
    result = run("--version")
    assert (result.exit_code, result.output) == (0, f"hermes, version {__version__}\n")


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_names_every_command(run: Run, option: str) -> None:
    result = run(option)
    assert result.exit_code == 0
    assert all(f"\n  {command} " in result.output for command in ("serve", "sinks", "config", "load"))


@pytest.mark.parametrize("arguments", [["no-such-command"], ["sinks", "--no-such-option"], ["serve", "extra"]])
def test_a_wrong_command_line_is_exit_code_2(run: Run, arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


WRONG: list[tuple[Mapping[str, str], str]] = [
    ({"QUEUE_SIZE": "many"}, "QUEUE_SIZE='many': expected a whole number, at least 1"),
    ({"HTTP_ADDR": "here"}, "HTTP_ADDR='here': expected an address such as :8080, 127.0.0.1:8080 or [::1]:8080"),
    ({"TLS_CERT": "x"}, "TLS_CERT and TLS_KEY: set both to serve HTTPS, or neither"),
    ({"SINKS": "null,null"}, "SINKS='null,null': a sink is named twice"),
    ({"API_KEYS_FILE": "/does/not/exist"}, "API_KEYS_FILE='/does/not/exist': cannot be read: "),
    ({"SINKS": "nowhere"}, "SINKS='nowhere': no such sink is installed; there are "),
    (
        {"SINK_NULL_TIMEOUT": "0"},
        "SINK_NULL_TIMEOUT='0': expected a duration such as 100ms, 30s or 1m30s, more than 0s",
    ),
    ({"SINKS": "postgres"}, "DB_DSN is empty: set it to use the postgres sink"),
    ({"SINKS": "postgres", "DB_DSN": "hunter2"}, "DB_DSN=(hidden): expected a Postgres URL"),
    (
        {"DB_DSN": "postgresql:///x", "SINK_POSTGRES_TABLE": "a.b.c"},
        "SINK_POSTGRES_TABLE='a.b.c': expected name or schema.name",
    ),
    ({"TLS_CERT": "/no.pem", "TLS_KEY": "/no.key"}, "TLS_CERT='/no.pem', TLS_KEY='/no.key': cannot be used: "),
    ({"SINK_NULL_TYPO": "0"}, "SINK_NULL_TYPO: no sink declares this variable; there are "),
]


@pytest.mark.parametrize("command", [["config", "check"], ["serve"]], ids=" ".join)
@pytest.mark.parametrize(("environ", "words"), WRONG, ids=lambda case: "+".join(case) if isinstance(case, dict) else "")
def test_what_the_operator_can_mend_is_one_line_and_exit_code_2(
    run: Run, command: list[str], environ: Mapping[str, str], words: str
) -> None:
    result = run(*command, **environ)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"hermes: {words}")
    assert result.stderr.count("\n") == 1


def test_a_missing_driver_is_one_line_and_exit_code_2(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    install(tmp_path, "my-dist", {"mine": "cli_needy:plugin"}, {"cli_needy": "import no_driver"}, extras=["mine"])
    result = run("serve", SINKS="mine")
    assert result.exit_code == 2
    assert result.stderr == "hermes: sink 'mine': no module 'no_driver'. Install it with: pip install 'my-dist[mine]'\n"


# hermes sinks


def test_sinks_lists_what_is_installed(run: Run) -> None:
    result = run("sinks")
    assert result.exit_code == 0
    assert all(name in result.output for name in ("null", "postgres", "sqlite", "stdout", "hermes-events"))
    assert "SINK_SQLITE_PATH" in result.output
    assert all(f"SINK_<NAME>_{field.upper()}" in result.output for field in DeliverySettings.__struct_fields__)


def test_sinks_as_json(run: Run) -> None:
    rows = {row["name"]: row for row in json.loads(run("sinks", "--json").stdout)}
    assert rows["sqlite"] == {
        "name": "sqlite",
        "package": "hermes-events",
        "usable": True,
        "summary": rows["sqlite"]["summary"],
        "variables": ["SINK_SQLITE_PATH"],
    }
    assert all(rows[name]["usable"] and rows[name]["summary"] for name in ("null", "postgres", "sqlite", "stdout"))


def test_sinks_tells_which_cannot_be_used_and_what_to_install(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    install(tmp_path, "my-dist", {"mine": "cli_needy_2:plugin"}, {"cli_needy_2": "import no_driver"}, extras=["mine"])
    hint = "pip install 'my-dist[mine]'"
    assert hint in run("sinks").output
    (row,) = [row for row in json.loads(run("sinks", "--json").stdout) if row["name"] == "mine"]
    assert (row["usable"], row["variables"], hint in row["summary"]) == (False, [], True)


def test_names_are_whole_in_a_narrow_terminal(run: Run) -> None:
    for command in (["sinks"], ["config", "check"]):
        output = run(*command, columns=60, SINKS="postgres", DB_DSN="postgresql:///x").output
        assert "SINK_POSTGRES_PARTITION_DAYS" in output


# hermes config check


def checked(run: Run, **environ: str) -> dict[str, Any]:
    result = run("config", "check", "--json", **environ)
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def test_config_check_prints_every_variable_with_its_value(run: Run) -> None:
    result = run("config", "check", QUEUE_SIZE="12", HTTP_ADDR="127.0.0.1:9", SINKS="stdout")
    assert result.exit_code == 0
    rows = [line.split() for line in result.output.splitlines()]
    values = {row[0]: row[1] for row in rows if len(row) > 1}
    assert values["QUEUE_SIZE"] == "12"
    assert values["SINK_STDOUT_TIMEOUT"] == "30s"
    assert "The settings are valid. Hermes would listen on 127.0.0.1:9 and deliver to stdout." in result.output


def test_config_check_as_json_has_every_variable_of_the_service_and_its_sinks(run: Run) -> None:
    values = checked(run, SINKS="sqlite", SINK_SQLITE_PATH="my.db", FLUSH_INTERVAL="1m30s", MAX_BODY_BYTES="2097152")
    expected = [variable.name for variable in describe(Settings)]
    expected += ["SINK_SQLITE_PATH", *(variable.name for variable in describe(DeliverySettings, "SINK_SQLITE_"))]
    assert list(values) == expected
    assert values["SINK_SQLITE_PATH"] == "my.db"
    assert values["FLUSH_INTERVAL"] == "1m30s"
    assert values["MAX_BODY_BYTES"] == "2MiB"


def test_what_config_check_prints_can_be_set_again(run: Run) -> None:
    given = {"QUEUE_SIZE": "5", "FLUSH_INTERVAL": "0.1234567s", "QUEUE_BYTES": "1000001", "EVENT_TYPES": "a,b"}
    values = checked(run, **given)
    assert checked(run, **{name: text for name, text in values.items() if text}) == values


def test_brackets_in_a_value_are_shown_as_they_are(run: Run) -> None:
    output = run("config", "check", HTTP_ADDR="[::1]:8080", SINKS="sqlite", SINK_SQLITE_PATH="/[bold]/x[/].db").output
    assert "[::1]:8080" in output
    assert "/[bold]/x[/].db" in output


SECRETS = {"DB_DSN": "postgresql://me:hunter2@host/db", "API_KEYS": "hunter2,hunter3"}


def test_config_check_never_shows_a_secret(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    install(tmp_path, "my-dist", {"mine": "cli_secret:plugin"}, {"cli_secret": PLUGIN})
    environ = SECRETS | {"SINKS": "null,mine", "SINK_MINE_TOKEN": "hunter4"}
    for option in ([], ["--json"]):
        output = run("config", "check", *option, **environ).output
        assert "hunter" not in output
    values = checked(run, **environ)
    assert [values[name] for name in ("DB_DSN", "API_KEYS", "SINK_MINE_TOKEN")] == ["(hidden)"] * 3


def test_a_secret_that_is_not_set_is_shown_as_empty(run: Run) -> None:
    values = checked(run)
    assert (values["DB_DSN"], values["API_KEYS"]) == ("", "")


@pytest.mark.parametrize(("environ", "words"), WRONG, ids=lambda case: "+".join(case) if isinstance(case, dict) else "")
def test_no_error_shows_a_secret_that_is_set_beside_it(run: Run, environ: Mapping[str, str], words: str) -> None:
    result = run("config", "check", **({"DB_DSN": SECRETS["DB_DSN"]} | dict(environ)))
    assert "hunter" not in result.output


def test_a_variable_that_looks_like_a_misspelt_setting_is_a_warning(run: Run) -> None:
    given = {"QUEUE_SIZ": "5", "workers_count": "2", "API_KEY_FILE": "/x", "HTTP_PORT": "80", "SINK_SQLITE_PATH": "x"}
    for option in ([], ["--json"]):
        result = run("config", "check", *option, SINKS="null", **given)
        assert result.exit_code == 0
        assert result.stderr == (
            "hermes: API_KEY_FILE is no setting, so it has no effect: did you mean API_KEYS_FILE?\n"
            "hermes: QUEUE_SIZ is no setting, so it has no effect: did you mean QUEUE_SIZE?\n"
            "hermes: workers_count is no setting, so it has no effect: did you mean WORKER_COUNT?\n"
        )
    assert json.loads(result.stdout)["QUEUE_SIZE"]


def test_settings_that_are_spelt_right_bring_no_warning(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("a,b")
    result = run("config", "check", API_KEYS_FILE=str(path), QUEUE_SIZE="7", HOME="/x", PATH="/bin", LANG="C")
    assert (result.exit_code, result.stderr) == (0, "")


def test_what_a_sink_checks_is_told_before_any_sink_is_opened(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    source = """
        from hermes import ConfigError, SinkPlugin

        def check(settings, service):
            raise ConfigError(f"not with QUEUE_SIZE={service.queue_size}")

        plugin = SinkPlugin(None, check=check)
    """
    install(tmp_path, "my-dist", {"mine": "cli_checks:plugin"}, {"cli_checks": source})
    for command in (["config", "check"], ["serve"]):
        result = run(*command, SINKS="mine", QUEUE_SIZE="7")
        assert (result.exit_code, result.stderr) == (2, "hermes: not with QUEUE_SIZE=7\n")
