"""The command line: what it prints, for people and for programs, and with which exit code it ends."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
import pytest
from click.testing import CliRunner, Result

from hermes import __version__
from hermes.base.spelling import misspelt
from hermes.cli import main
from hermes.config import describe
from hermes.configuration import describe_service
from hermes.events.sink import DeliverySettings
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


@pytest.mark.parametrize("arguments", [[], ["dlq"], ["log"], ["config"]], ids=" ".join)
def test_a_command_line_that_says_nothing_gets_the_page_on_stderr_and_exit_code_2(
    run: Run, arguments: list[str]
) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == run(*arguments, "--help").stdout


MISTAKES = [
    ("serv", "no such command 'serv': did you mean serve?"),
    ("srve", "no such command 'srve': did you mean serve?"),
    ("Serve", "no such command 'Serve': did you mean serve?"),
    ("dlp", "no such command 'dlp': did you mean dlq?"),
    ("comp", "no such command 'comp': did you mean completion?"),
    ("replay", "no such command 'replay': did you mean dlq replay?"),
    ("check", "no such command 'check': did you mean config check or log check?"),
    ("frobnicate", "no such command 'frobnicate': `hermes --help` lists the commands"),
    ("dlq lst", "no such command 'dlq lst': did you mean dlq list?"),
    ("dlq frobnicate", "no such command 'dlq frobnicate': `hermes dlq --help` lists the commands"),
    ("log chekc", "no such command 'log chekc': did you mean log check?"),
    ("--verison", "no such option --verison: did you mean --version?"),
    ("-x", "no such option -x: `hermes --help` lists the options"),
    ("sinks --jsno", "sinks: no such option --jsno: did you mean --json?"),
    ("sinks --no-such-option", "sinks: no such option --no-such-option: `hermes sinks --help` lists the options"),
    ("dlq list --sinc 1h", "dlq list: no such option --sinc: did you mean --since or --sink?"),
    ("load --same-ids", "load: no such option --same-ids: did you mean --same-id?"),
    ("config check extra", "config check: it takes no 'extra': `hermes config check --help` says what it takes"),
    ("config check one two", "config check: it takes no 'one two': `hermes config check --help` says what it takes"),
    ("dlq show", "dlq show: NUMBER is missing: for example `hermes dlq show 17`"),
    ("completion", "completion: SHELL is missing: for example `source <(hermes completion bash)`"),
    ("dlq show x", "dlq show: NUMBER: 'x': expected a whole number, at least 1 and at most 9223372036854775807"),
    ("dlq list --limit 0", "dlq list: --limit: '0': expected a whole number, at least 1"),
    ("dlq list --limit", "dlq list: --limit: a value is missing after it"),
    ("dlq list --since soon", "dlq list: --since: 'soon': expected a duration back from now such as 2h"),
    ("sinks --json=1", "sinks: --json: it takes no value"),
    ("log inspect --from x", "log inspect: --from: 'x': expected a whole number, at least 0"),
    ("log check /nowhere", "/nowhere: there is no journal here: name its folder, or set HERMES_DATA_DIR"),
    ("load --rate fast", "load: --rate: 'fast': expected a number of requests a second"),
    ("top --url foo", "--url 'foo': expected one such as http://127.0.0.1:8081"),
    ("tap --limit 0", "tap: --limit: '0': expected a whole number, at least 1"),
    ("config explain QUEUE_SIZ", "config explain: there is no setting QUEUE_SIZ: did you mean QUEUE_SIZE?"),
    ("config explain QUEUE", "config explain: there is no setting QUEUE: did you mean QUEUE_BYTES or QUEUE_SIZE?"),
    ("config explain SINK_SQLITE_PAHT", "config explain: there is no setting SINK_SQLITE_PAHT: did you mean SINK_SQLI"),
    ("config explain sinks.xyz", "config explain: there is no setting sinks.xyz: `hermes sinks` lists the variables"),
    ("config explain sinks.sqlite.paht", "config explain: there is no setting sinks.sqlite.paht: did you mean SINK_SQ"),
    ("config explain SINK_XYZ", "config explain: there is no setting SINK_XYZ: `hermes sinks` lists the variables"),
    ("sinks sqlit", "sinks: no sink 'sqlit' is installed: did you mean sqlite?"),
    ("sinks pulsar", "sinks: no sink 'pulsar' is installed: there are "),
    ("config explain XYZ", "config explain: there is no setting XYZ: `hermes config explain` lists all settings"),
]


@pytest.mark.parametrize(("line", "words"), MISTAKES, ids=lambda each: each.split(":")[0])
def test_a_mistake_on_the_command_line_is_one_line_with_the_mend_and_exit_code_2(
    run: Run, line: str, words: str
) -> None:
    result = run(*line.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"hermes: {words}")
    assert result.stderr.count("\n") == 1


def test_what_was_typed_cannot_write_over_the_terminal(run: Run) -> None:
    for arguments in (["\x1b[2J\nboo"], ["--\x1b[2J\nboo"], ["serve", "\x1b[2J\nboo"], ["dlq", "show", "\x9b\n"]):
        result = run(*arguments)
        assert result.exit_code == 2
        assert not {"\x1b", "\x9b"} & set(result.stderr)
        assert result.stderr.count("\n") == 1


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def installed() -> None:
        raise error

    monkeypatch.setattr("hermes.cli.config.installed_sinks", installed)


@pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt(), BaseExceptionGroup("of a nursery", [BaseExceptionGroup("", [KeyboardInterrupt()])])],
    ids=["bare", "grouped"],
)
def test_ctrl_c_is_silent_and_exit_code_130(run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    fail_with(monkeypatch, error)
    result = run("sinks")
    assert (result.exit_code, result.output) == (130, "")


def test_ctrl_c_at_a_question_is_silent_and_exit_code_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    abort = click.Abort()
    abort.__context__ = KeyboardInterrupt()  # as click raises it
    fail_with(monkeypatch, abort)
    result = run("sinks")
    assert (result.exit_code, result.output) == (130, "")


def test_a_question_that_is_not_answered_with_yes_ends_in_one_line_and_exit_code_1(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(monkeypatch, click.Abort())
    result = run("sinks")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "hermes: nothing was done\n")


@pytest.mark.parametrize(
    "error",
    [ZeroDivisionError(), BrokenPipeError(errno.EPIPE, "of a socket"), OSError(errno.EIO, "of a disk")],
    ids=repr,
)
def test_a_bug_is_a_traceback(run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    fail_with(monkeypatch, error)
    result = run("sinks")
    found = result.exception
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert found is error


WRONG: list[tuple[Mapping[str, str], str]] = [
    ({"QUEUE_SIZE": "many"}, "QUEUE_SIZE='many': expected a whole number, at least 1"),
    ({"HTTP_ADDR": "here"}, "HTTP_ADDR='here': expected an address such as :8080, 127.0.0.1:8080 or [::1]:8080"),
    (
        {"HTTP_ADDR": ":99999"},
        "HTTP_ADDR=':99999': expected an address such as :8080, 127.0.0.1:8080 or [::1]:8080, with",
    ),
    (
        {"ADMIN_ADDR": "[::1]:70000"},
        "ADMIN_ADDR='[::1]:70000': expected an address such as 127.0.0.1:8081, or off, with",
    ),
    ({"TLS_CERT": "x"}, "TLS_CERT and TLS_KEY: set both to serve HTTPS, or neither"),
    ({"SINKS": "null,null"}, "SINKS='null,null': a sink is named twice"),
    ({"API_KEYS_FILE": "/does/not/exist"}, "API_KEYS_FILE='/does/not/exist': cannot be read: "),
    ({"SINKS": ","}, "SINKS=',': expected a comma-separated list of at least one"),
    ({"PARTS": " , "}, "PARTS=',': expected a comma-separated list of at least one"),
    ({"PARTS": "events,events"}, "PARTS='events,events': a part is named twice"),
    ({"PARTS": "evnts"}, "PARTS='evnts': no such part is installed; did you mean events?"),
    (
        {"PARTS": "all,nope"},
        "PARTS='nope': no such part is installed; there are all, broker, dead_letters, events, traces",
    ),
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
    ({"DB_DSN_FILE": "/no/dsn"}, "DB_DSN_FILE='/no/dsn': cannot be read: No such file or directory; is it there, and "),
    ({"DB_DSN": "x", "DB_DSN_FILE": "/no/dsn"}, "DB_DSN and DB_DSN_FILE are both set: keep one"),
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


def test_sinks_may_be_asked_for_some(run: Run) -> None:
    assert [row["name"] for row in json.loads(run("sinks", "stdout", "null", "--json").stdout)] == ["null", "stdout"]


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
    for command in (["sinks"], ["config", "check", "--all"]):
        output = run(*command, columns=60, SINKS="postgres", DB_DSN="postgresql:///x").output
        assert "SINK_POSTGRES_PARTITION_DAYS" in output


# hermes config check


def checked(run: Run, **environ: str) -> dict[str, Any]:
    result = run("config", "check", "--json", **environ)
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def test_config_check_prints_every_variable_with_its_value(run: Run) -> None:
    given = {"QUEUE_SIZE": "12", "HTTP_ADDR": "127.0.0.1:9", "SINKS": "stdout", "BATCH_SIZE": "1000"}
    result = run("config", "check", "--all", **given)
    assert result.exit_code == 0
    rows = [line.split() for line in result.output.splitlines()[1:]]
    assert {row[1]: row[2] for row in rows if row[:1] == ["*"]} == given
    assert [row[0] for row in rows[:5]] == ["*"] * 4 + ["PARTS"], "what is set comes first"
    assert ["SINK_STDOUT_TIMEOUT", "30s"] in rows
    assert "run the parts dead_letters, traces, events, listen on 127.0.0.1:9 and deliver to stdout." in " ".join(
        result.output.split()
    )


def test_config_check_alone_prints_what_is_set_and_how_much_is_not(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("hunter2")
    result = run("config", "check", QUEUE_SIZE="12", SINK_NULL_TIMEOUT="1s", API_KEYS_FILE=str(path))
    rows = [line.split() for line in result.output.partition("\n\n")[0].splitlines()[1:]]
    assert rows == [
        ["*", "API_KEYS", "(hidden)", "from", "API_KEYS_FILE"],
        ["*", "QUEUE_SIZE", "12", "100000"],
        ["*", "SINK_NULL_TIMEOUT", "1s", "30s"],
    ]
    unset = len(checked(run)) - 3
    assert run("config", "check").output.startswith(f"{unset + 3} settings are not set"), "no header without a row"
    assert f"{unset} settings are not set and have their default: --all shows them." in " ".join(result.output.split())


ALL_WRONG = {
    "QUEUE_SIZE": "x",
    "BATCH_SIZE": "0",
    "TLS_CERT": "x",
    "SINKS": "sqlit,stdout,postgres",
    "SINK_STDOUT_TIMEOUT": "never",
    "SINK_STDOUT_RETRYS": "3",
    "DB_DSN_FILE": "/no/dsn",
    "DURABILITY": "postgres",
    "TRACES_ENDPOINT": "nowhere",
    "API_KEY": "hunter2",
}


@pytest.mark.parametrize("command", [["config", "check"], ["serve"], ["dlq", "replay"]], ids=" ".join)
def test_all_mistakes_are_told_at_once_a_line_each_and_none_that_follows_from_another(
    run: Run, command: list[str]
) -> None:
    result = run(*command, **ALL_WRONG)
    assert (result.exit_code, result.stdout) == (2, "")
    told = [line.removeprefix("hermes: ") for line in result.stderr.splitlines()]
    assert sorted(line[:38] for line in told) == sorted(
        [
            "QUEUE_SIZE='x': expected a whole numbe",
            "BATCH_SIZE='0': expected a whole numbe",
            "DB_DSN_FILE='/no/dsn': cannot be read:",
            "TLS_CERT and TLS_KEY: set both to serv",
            "TRACES_ENDPOINT='nowhere': expected a ",
            "SINKS='sqlit': no such sink is install",
            "SINK_STDOUT_TIMEOUT='never': expected ",
            "SINK_STDOUT_RETRYS: no sink declares t",
            "API_KEY is not a setting, and API_KEYS",
        ]
    ), "and not that DURABILITY and the postgres sink want a DB_DSN, for it is given"
    ends = [line.rpartition("; ")[2] for line in told]
    assert {"did you mean sqlite?", "did you mean SINK_STDOUT_RETRIES?"} <= set(ends)


def test_config_check_as_json_has_every_variable_of_the_service_and_its_sinks(run: Run) -> None:
    values = checked(
        run,
        PARTS="events,broker",
        SINKS="sqlite",
        SINK_SQLITE_PATH="my.db",
        FLUSH_INTERVAL="1m30s",
        MAX_BODY_BYTES="2097152",
    )
    expected = [variable.name for variable in describe_service()]
    expected += ["SINK_SQLITE_PATH", *(variable.name for variable in describe(DeliverySettings, "SINK_SQLITE_"))]
    expected += ["SINK_SQLITE_PLUGIN"]
    assert sorted(values) == sorted(expected)
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


def test_a_variable_without_effect_that_looks_like_a_setting_is_a_warning(run: Run) -> None:
    given = {"QUEUE_SIZ": "5", "workers_count": "2", "API_KEY_FILE": "/x", "HTTP_PORT": "80", "SINK_SQLITE_PATH": "x"}
    for option in ([], ["--json"]):
        result = run("config", "check", *option, SINKS="null", API_KEYS="k", **given)
        assert result.exit_code == 0
        assert result.stderr == (
            "hermes: SINK_SQLITE_PATH has no effect: SINKS does not name sqlite\n"
            "hermes: API_KEY_FILE has no effect: it is not a setting: did you mean API_KEYS_FILE?\n"
            "hermes: QUEUE_SIZ has no effect: it is not a setting: did you mean QUEUE_SIZE?\n"
            "hermes: workers_count has no effect: it is not a setting: did you mean WORKER_COUNT?\n"
        )
    assert json.loads(result.stdout)["QUEUE_SIZE"]


def test_a_variable_without_effect_is_told_beside_a_mistake(run: Run) -> None:
    for command in (["config", "check"], ["serve"]):
        result = run(*command, QEUE_SIZE="7", QUEUE_BYTES="x")
        assert result.exit_code == 2
        first, second = result.stderr.splitlines()
        assert first == "hermes: QEUE_SIZE has no effect: it is not a setting: did you mean QUEUE_SIZE?"
        assert second.startswith("hermes: QUEUE_BYTES='x'")


@pytest.mark.parametrize("name", [f"sink_sqlite{end}" for end in ("_", "_*", "_...", "*", "_…")] + ["sinks.sqlite"])
def test_the_beginning_of_names_explains_all_that_begin_so(run: Run, name: str) -> None:
    result = run("config", "explain", name)
    assert run("config", "explain", "").stderr.startswith("hermes: config explain: there is no setting '': ")
    titles = [line for line in result.stdout.splitlines() if line and not line.startswith(" ")]
    assert result.exit_code == 0
    assert len(titles) > 10
    assert all(title.startswith("SINK_SQLITE_") for title in titles)


MISSPELT = {
    "DB_DNS": "DB_DSN",
    "DB_DSM": "DB_DSN",
    "DBDSN": "DB_DSN",
    "db_dsn": "DB_DSN",
    "DB_DNS_FILE": "DB_DSN_FILE",
    "DB_DSN_FIEL": "DB_DSN_FILE",
    "HERMES_DB_DSN": "DB_DSN",
    "HERMES_LOG_LEVEL": "LOG_LEVEL",
    "HERMES_DATADIR": "HERMES_DATA_DIR",
    "HERMES_DATA_DRI": "HERMES_DATA_DIR",
    "SINK": "SINKS",
    "SINSK": "SINKS",
    "API_KEY": "API_KEYS",
    "ADMIN_KEY": "ADMIN_KEYS",
    "LOGLEVEL": "LOG_LEVEL",
    "LOG_LEVLE": "LOG_LEVEL",
    "HTTP_ADDRESS": "HTTP_ADDR",
    "HTPP_ADDR": "HTTP_ADDR",
    "QUEUE_SIZES": "QUEUE_SIZE",
    "QEUUE_SIZE": "QUEUE_SIZE",
    "WORKERS_COUNT": "WORKER_COUNT",
    "SHUTDOWN_TIMEOU": "SHUTDOWN_TIMEOUT",
    "SHUTDOWN_TIME_OUT": "SHUTDOWN_TIMEOUT",
    "SHUTDWON_TIMEOT": "SHUTDOWN_TIMEOUT",
    "BACKPRESURE_MODE": "BACKPRESSURE_MODE",
    "DURABILTY": "DURABILITY",
    "EVENTS_TYPES": "EVENT_TYPES",
    "CORS_ORIGIN": "CORS_ORIGINS",
    "TSL_CERT": "TLS_CERT",
}
INNOCENT = (
    "DB_HOST",
    "DB_USER",
    "DB_NAME",
    "DB_PORT",
    "DB_URL",
    "DATABASE_URL",
    "PGDATABASE",
    "HTTP_PORT",
    "HTTP_PROXY",
    "http_proxy",
    "no_proxy",
    "PORT",
    "HOST",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "SSL_KEY",
    "TLS_CA",
    "LOGNAME",
    "LOG_FILE",
    "LOG_DIR",
    "DEBUG",
    "LANG",
    "LC_ALL",
    "PATH",
    "PWD",
    "HOME",
    "TERM",
    "SHELL",
    "USER",
    "HOSTNAME",
    "EDITOR",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "QUEUE_URL",
    "QUEUE_NAME",
    "READ_TIMEOUT",
    "WAIT_TIMEOUT",
    "HTTP_TIMEOUT",
    "BATCH_ID",
    "WORKER_ID",
    "WORKERS",
    "KAFKA_BROKERS",
    "AWS_ACCESS_KEY_ID",
    "OTEL_SERVICE_NAME",
    "CI",
    "TLS_MIN",
    "API_URL",
    "API_TOKEN",
    "ADMIN_USER",
    "HERMES_ADMIN_KEY",
    "HERMES_SERVICE_HOST",
    "HERMES_SERVICE_PORT",
    "HERMES_PORT",
    "SINKHOLE",
    "DATA_DIR",
    "EVENT_BUS",
)


@pytest.mark.parametrize("command", [["config", "check"], ["serve"]], ids=" ".join)
@pytest.mark.parametrize(("name", "meant"), MISSPELT.items())
def test_a_slip_of_the_finger_is_told_with_what_was_meant_and_stops_the_start_where_that_is_a_secret(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str, meant: str, command: list[str]
) -> None:
    monkeypatch.setattr("trio.run", lambda *_: (True, 0))  # the service itself
    result = run(*command, **{name: "x"}, LOG_FORMAT="json")
    secret = meant.removesuffix("_FILE")
    if secret in ("ADMIN_KEYS", "API_KEYS", "DB_DSN", "TLS_CERT"):
        wanted = (
            f"hermes: {name} is not a setting, and {secret} is not set: did you mean {meant}? Rename it, or unset it\n"
        )
        assert (result.exit_code, result.stderr) == (2, wanted)
        return
    why = f"it is not a setting: did you mean {meant}?"
    if command == ["serve"]:
        line = json.loads(result.stderr)
        assert (line["event"], line["variable"], line["why"]) == ("a variable has no effect", name, why)
    else:
        assert result.stderr == f"hermes: {name} has no effect: {why}\n"
    assert result.exit_code == 0


def test_what_other_programs_are_told_by_is_not_taken_for_a_misspelling(run: Run) -> None:
    result = run("config", "check", **dict.fromkeys(INNOCENT, "x"))
    assert (result.exit_code, result.stderr) == (0, "")


def test_no_setting_is_a_misspelling_of_another(run: Run) -> None:
    names = [variable.name for variable in describe_service()]
    for name in names:
        others = [other for other in names if other != name]
        assert misspelt(name, others) is None, name


def test_explain_says_what_a_setting_means_and_takes(run: Run) -> None:
    result = run("config", "explain", "queue_size", "WORKER_COUNT", columns=80)
    assert result.exit_code == 0
    assert result.stdout == (
        "QUEUE_SIZE\n"
        "  means    capacity of the bounded queue, in events\n"
        "  takes    a whole number, at least 1\n"
        "  default  100000\n"
        "\n"
        "WORKER_COUNT\n"
        "  means    workers: the most batches in flight at one sink\n"
        "  takes    a whole number, at least 1 and at most 4096\n"
        "  default  CPUs × 4\n"
    )


def test_explain_knows_the_settings_of_every_installed_sink(run: Run) -> None:
    names = {name for row in json.loads(run("sinks", "--json").stdout) for name in row["variables"]}
    assert {"SINK_POSTGRES_TABLE", "SINK_KAFKA_TOPIC"} <= names
    result = run("config", "explain", *sorted(names), "SINK_FILE_TIMEOUT", "SINK_POSTGRES_TABLE_FILE", columns=60)
    assert result.exit_code == 0
    assert {line for line in result.stdout.splitlines() if line[:1].isupper()} == names | {"SINK_FILE_TIMEOUT"}
    assert max(map(len, result.stdout.splitlines())) <= 60


def test_explain_without_a_name_has_every_setting(run: Run) -> None:
    lines = run("config", "explain").stdout.splitlines()
    assert [line for line in lines if line[:1].isupper()] == [variable.name for variable in describe_service()]
    assert max(map(len, lines)) <= 80


def test_settings_that_are_spelt_right_bring_no_warning(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("a,b")
    result = run("config", "check", API_KEYS_FILE=str(path), QUEUE_SIZE="7", HOME="/x", PATH="/bin", LANG="C")
    assert (result.exit_code, result.stderr) == (0, "")


def test_the_commands_know_the_file_of_settings_and_its_sinks(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "hermes.toml"
    file.write_text('queue_size = 7\n[sinks.eu]\nplugin = "sqlite"\npath = "eu.db"\n')
    result = run("config", "check", QUEUE_BYTES="1MiB")
    assert (result.exit_code, result.stderr) == (0, "")
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["*", "QUEUE_SIZE", "7", "from", "hermes.toml:1", "100000"] in rows
    assert ["*", "SINK_EU_PATH", "eu.db", "from", "hermes.toml:4", "events.db"] in rows
    assert "deliver to eu." in " ".join(result.stdout.split())
    explained = run("config", "explain", "sinks.eu.path", "QUEUE_BYTES", QUEUE_BYTES="1MiB").stdout
    assert explained.startswith("SINK_EU_PATH\n")
    assert [line for line in explained.splitlines() if "set by" in line] == [
        "  set by   hermes.toml:4",
        "  set by   the environment",
    ]
    assert "it is a sink of the plugin sqlite" in run("sinks", "eu").stderr
    file.write_text("queue_sise = 7\nqueue_bytes = 0\n")
    for command in (["config", "check"], ["serve"], ["dlq", "replay"]):
        result = run(*command)
        assert (result.exit_code, [line[:41] for line in sorted(result.stderr.splitlines())]) == (
            2,
            ["hermes: hermes.toml:1: queue_sise: there ", "hermes: hermes.toml:2: queue_bytes='0': e"],
        )


def test_what_a_sink_checks_is_told_before_any_sink_is_opened(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    source = """
        from hermes import ConfigError, SinkPlugin

        def check(settings, storage):
            raise ConfigError(f"not with MAX_OPEN_CONNS={storage.max_open_conns}")

        plugin = SinkPlugin(None, check=check)
    """
    install(tmp_path, "my-dist", {"mine": "cli_checks:plugin"}, {"cli_checks": source})
    for command in (["config", "check"], ["serve"]):
        result = run(*command, SINKS="mine", MAX_OPEN_CONNS="7")
        assert (result.exit_code, result.stderr) == (2, "hermes: not with MAX_OPEN_CONNS=7\n")
