"""The service's settings: each variable read, refused with one line, given as a file; what depends on each other."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest

from hermes import config
from hermes.base.errors import ConfigError
from hermes.config import Address, Duration, Secret, Size, about, describe, read
from hermes.configuration import describe_service
from hermes.events.settings import EventSettings
from hermes.events.sink import installed_sinks, load_plugin, variable_prefix
from hermes.store.settings import Storage
from tests.settings import GROUPS as OF_SERVICE
from tests.settings import Chosen, read_all

VARIABLES = {variable.name: variable for variable in describe_service()}

# Each variable: a text, the value it stands for, and texts that are refused.
CASES: dict[str, tuple[str, Any, list[str]]] = {
    "HTTP_ADDR": ("[::1]:9000", Address("::1", 9000), ["8080", "localhost", ":99999"]),
    "ADMIN_ADDR": ("[::1]:9001", Address("::1", 9001), ["8081", "localhost", "on"]),
    "ADMIN_KEYS": ("k1, k2", ("k1", "k2"), []),
    "QUEUE_SIZE": ("10", 10, ["0", "-1", "ten", "1.5", "1_000"]),
    "QUEUE_BYTES": ("1MiB", 2**20, ["0", "1.5MiB", "lots"]),
    "WORKER_COUNT": ("3", 3, ["0", "4097", "two"]),
    "BATCH_SIZE": ("500", 500, ["0", "x"]),
    "FLUSH_INTERVAL": ("1m30s", 90.0, ["0", "0s", "-1s", "5", "soon"]),
    "DB_DSN": ("postgresql://u@h/d", "postgresql://u@h/d", []),
    "MAX_OPEN_CONNS": ("7", 7, ["0", "x"]),
    "BACKPRESSURE_MODE": ("block", "block", ["wait", "STRICT"]),
    "SHUTDOWN_TIMEOUT": ("5s", 5.0, ["0", "never"]),
    "HERMES_CONFIG": ("my.toml", "my.toml", []),
    "PARTS": ("events, jobs", ("events", "jobs"), [",", ", ,"]),
    "SINKS": ("null, stdout", ("null", "stdout"), ["null,null", ","]),
    "HERMES_DATA_DIR": ("/var/lib/hermes", Path("/var/lib/hermes"), []),
    "DURABILITY": ("memory", "memory", ["ram", "none"]),
    "JOURNAL_MAX_BYTES": ("1GiB", 2**30, ["0", "-1", "much"]),
    "ACK_TIMEOUT": ("5s", 5.0, ["0s", "5", "soon"]),
    "EVENT_TYPES": ("a,b", ("a", "b"), ["a b", "*,a", ","]),
    "EVENT_TIMES": ("any", "any", ["ANY", "milliseconds"]),
    "MAX_BODY_BYTES": ("64KiB", 2**16, ["0", "big"]),
    "MAX_CONNECTIONS": ("100", 100, ["0", "x"]),
    "HEADER_TIMEOUT": ("1s", 1.0, ["0", "x"]),
    "BODY_TIMEOUT": ("2s", 2.0, ["0", "x"]),
    "IDLE_TIMEOUT": ("3s", 3.0, ["0", "x"]),
    "WRITE_TIMEOUT": ("4s", 4.0, ["0", "x"]),
    "API_KEYS": ("k1,k2", ("k1", "k2"), []),
    "CORS_ORIGINS": ("https://a.example", ("https://a.example",), []),
    "TLS_CERT": ("cert.pem", "cert.pem", []),
    "TLS_KEY": ("key.pem", "key.pem", []),
    "AGGREGATE_MINUTES": ("60", 60, ["0", "x"]),
    "AGGREGATE_FLUSH_INTERVAL": ("1m", 60.0, ["-1s", "x"]),
    "DEAD_LETTERS": ("0", 0, ["-1", "x"]),
    "DEBUG_ENDPOINTS": ("yes", True, ["maybe", "2"]),
    "TRACES_ENDPOINT": ("http://localhost:4318", "http://localhost:4318", []),
    "TRACES_HEADERS": ("authorization=x", "authorization=x", []),
    "TRACES_SAMPLE": ("0.25", 0.25, ["-0.1", "1.5", "some", "nan"]),
    "LOG_LEVEL": ("debug", "debug", ["loud"]),
    "LOG_FORMAT": ("json", "json", ["xml"]),
    "HERMESMQ_NODE_ID": ("3", 3, ["0", "one"]),
    "HERMESMQ_CLIENT_ADDR": (":7601", Address("", 7601), ["7600", "localhost"]),
    "HERMESMQ_CLIENT_TOKEN": ("secret", "secret", []),
    "HERMESMQ_TLS_CERT": ("/tls/cert.pem", "/tls/cert.pem", []),
    "HERMESMQ_TLS_KEY": ("/tls/key.pem", "/tls/key.pem", []),
    "HERMESMQ_MAX_FRAME": ("4MiB", 4 * 2**20, ["0", "large"]),
    "HERMESMQ_MAX_NAME_BYTES": ("64", 64, ["0", "x"]),
    "HERMESMQ_MAX_TOPICS": ("10", 10, ["0", "x"]),
    "HERMESMQ_MAX_GROUPS": ("10", 10, ["0", "x"]),
    "HERMESMQ_MAX_VISIBILITY": ("1h", 3600.0, ["0s", "1"]),
    "HERMESMQ_GROUP_TTL": ("24h", 86400.0, ["0s", "1"]),
    "HERMESMQ_MAX_CONNECTIONS": ("10", 10, ["0", "x"]),
    "HERMESMQ_CACHE_BYTES": ("1MiB", 2**20, ["-1", "much"]),
}
SPECIFIED = {
    "HTTP_ADDR": ":8080",
    "QUEUE_SIZE": "100000",
    "BATCH_SIZE": "1000",
    "FLUSH_INTERVAL": "100ms",
    "DB_DSN": "",
    "MAX_OPEN_CONNS": "100",
    "BACKPRESSURE_MODE": "strict",
    "SHUTDOWN_TIMEOUT": "30s",
    "SINKS": "",
    "HERMES_DATA_DIR": "hermes-data",
    "QUEUE_BYTES": "256MiB",
    "AGGREGATE_MINUTES": "1440",
    "MAX_BODY_BYTES": "10MiB",
    "AGGREGATE_FLUSH_INTERVAL": "0s",
    "DURABILITY": "disk",
    "DEBUG_ENDPOINTS": "false",
    "API_KEYS": "",
    "CORS_ORIGINS": "",
    "TLS_CERT": "",
    "TLS_KEY": "",
    "EVENT_TYPES": "trip_started,song_played,ad_clicked,location_update",
}
"""The defaults that the specification gives, as one would write them."""

TOGETHER = {"TLS_CERT": {"TLS_KEY": "key.pem"}, "TLS_KEY": {"TLS_CERT": "cert.pem"}}


SAME_ADDRESS = [
    (":1", "127.0.0.1:1"),
    ("127.0.0.1:1", "localhost:1"),
    ("[::1]:1", "[::1]:1"),
    ("0.0.0.0:1", "127.0.0.1:1"),
    ("[::]:1", "[::1]:1"),
]


@pytest.mark.parametrize(("http", "admin"), SAME_ADDRESS)
def test_two_addresses_that_only_one_can_listen_on_are_a_mistake(http: str, admin: str) -> None:
    with pytest.raises(ConfigError, match=r"^HTTP_ADDR=.* and ADMIN_ADDR=.* are the same address"):
        read_all({"HTTP_ADDR": http, "ADMIN_ADDR": admin})
    for free in ("127.0.0.1:0", "127.0.0.2:2", "[::2]:1", "127.0.0.3:1"):
        read_all({"HTTP_ADDR": free, "ADMIN_ADDR": "127.0.0.1:1"})
    read_all({"HTTP_ADDR": "0.0.0.0:1", "ADMIN_ADDR": "[::1]:1"})


def test_every_variable_has_a_case_here() -> None:
    assert set(CASES) == set(VARIABLES)


def test_every_variable_has_one_owner() -> None:
    names = [variable.name for variable in describe_service()]
    assert sorted(names) == sorted(set(names))
    declared = [
        group for group in vars(config).values() if isinstance(group, type) and issubclass(group, msgspec.Struct)
    ]
    assert not [variable.name for group in declared if group is not Address for variable in describe(group)]


def test_every_variable_of_the_specification_is_declared_with_its_default() -> None:
    assert read_all({}) == Chosen()
    assert {name: VARIABLES[name].default_text for name in SPECIFIED} == SPECIFIED
    assert EventSettings().worker_count == 4 * (os.cpu_count() or 1)
    assert VARIABLES["WORKER_COUNT"].default_words == "CPUs × 4"


@pytest.mark.parametrize("name", CASES)
def test_each_variable_is_read(name: str) -> None:
    text, value, _ = CASES[name]
    settings = read_all({name: text} | TOGETHER.get(name, {}))
    assert getattr(settings, VARIABLES[name].field) == value


@pytest.mark.parametrize(("name", "text"), [(name, text) for name in CASES for text in CASES[name][2]])
def test_a_bad_value_is_refused_with_one_line_that_names_variable_value_and_what_is_accepted(
    name: str, text: str
) -> None:
    with pytest.raises(ConfigError) as refusal:
        read_all({name: text})
    words = str(refusal.value)
    assert "\n" not in words
    assert words.startswith(f"{name}={text!r}: ")
    accepted = words.partition(": ")[2]
    assert accepted == f"expected {VARIABLES[name].accepts}" or accepted == "a sink is named twice"


@pytest.mark.parametrize("name", CASES)
def test_every_default_reads_back_as_itself(name: str) -> None:
    variable = VARIABLES[name]
    if variable.default_text:
        assert variable.read(variable.default_text) == variable.default
    if not variable.guards:
        assert read_all({name: ""}) == Chosen()


def test_every_variable_is_described() -> None:
    assert all(variable.description and variable.accepts for variable in VARIABLES.values())


# NAME_FILE


def test_a_value_may_be_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("postgresql://me:secret@host/db\n")
    assert read_all({"DB_DSN_FILE": str(path)}).db_dsn == "postgresql://me:secret@host/db"
    path.write_text(" 12 \n")
    assert read_all({"QUEUE_SIZE_FILE": str(path)}).queue_size == 12


def test_a_value_and_its_file_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match=r"^DB_DSN and DB_DSN_FILE are both set: keep one$"):
        read_all({"DB_DSN": "x", "DB_DSN_FILE": "/y"})


@pytest.mark.parametrize("kind", ["missing", "folder", "binary"])
def test_a_file_that_cannot_be_read_is_named_with_its_variable(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "secret"
    if kind == "folder":
        path.mkdir()
    elif kind == "binary":
        path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError) as refusal:
        read_all({"API_KEYS_FILE": str(path)})
    assert str(refusal.value).startswith(f"API_KEYS_FILE={str(path)!r}: cannot be read: ")
    assert "\n" not in str(refusal.value)


def test_a_bad_value_from_a_file_is_refused_as_the_variables(tmp_path: Path) -> None:
    path = tmp_path / "size"
    path.write_text("many")
    with pytest.raises(ConfigError, match=r"^QUEUE_SIZE='many': expected"):
        read_all({"QUEUE_SIZE_FILE": str(path)})


# What closes something and is empty: a secret that was not filled in

GROUPS: list[tuple[type[msgspec.Struct], str]] = [
    *((group, "") for group in OF_SERVICE),
    *((load_plugin(point).settings, variable_prefix(name)) for name, point in installed_sinks().items()),
]
GUARDS = {
    variable.name: variable for group, prefix in GROUPS for variable in describe(group, prefix) if variable.guards
}


def test_what_closes_something_is_known() -> None:
    assert GUARDS.keys() >= {
        "ADMIN_KEYS", "API_KEYS", "DB_DSN", "TLS_CERT", "TLS_KEY", "TRACES_HEADERS", "SINK_CLICKHOUSE_PASSWORD",
        "SINK_HTTP_HEADERS", "SINK_HTTP_SECRET", "SINK_HTTP_URL", "SINK_KAFKA_OPTIONS", "SINK_PARQUET_SECRET_KEY",
    }  # fmt: skip
    assert all(variable.guards for variable in VARIABLES.values() if variable.secret)


@pytest.mark.parametrize("content", ["", "\n", " \t\r\n", "\ufeff"], ids=repr)
@pytest.mark.parametrize("name", GUARDS)
def test_a_secret_that_was_given_and_is_empty_is_refused_with_the_mend(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / "secret"
    path.write_text(content, encoding="utf-8")
    for given in ({name: content.strip("\ufeff")}, {f"{name}_FILE": str(path)}, {f"{name}_FILE": ""}):
        with pytest.raises(ConfigError, match=rf"^{name}.* empty: .*unset") as refusal:
            GUARDS[name].look_up(given)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("text", [",", " , ,\n", "a,", ",a", "a,,b", "a\nb", "a\0", "\0\0\0\0"], ids=repr)
@pytest.mark.parametrize("name", ["ADMIN_KEYS", "API_KEYS"])
def test_a_key_that_is_empty_or_that_no_client_can_send_is_refused_without_showing_the_others(
    tmp_path: Path, name: str, text: str
) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    for given in ({name: text}, {f"{name}_FILE": str(path)}):
        with pytest.raises(ConfigError, match=rf"^{name}=\(hidden\): expected a comma-separated list, .* none empty$"):
            read_all(given)


def test_an_empty_file_is_refused_for_what_is_no_secret_too(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.write_text("\n")
    with pytest.raises(ConfigError, match=r"^QUEUE_SIZE_FILE='.*': the file is empty: put the value in it"):
        read_all({"QUEUE_SIZE_FILE": str(path)})


def test_an_empty_variable_beside_a_file_that_has_the_secret_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("\ufeffk1\r\n", encoding="utf-8")
    assert read_all({"API_KEYS": "", "API_KEYS_FILE": str(path)}).api_keys == ("k1",)


# What depends on each other


@pytest.mark.parametrize("alone", ["TLS_CERT", "TLS_KEY"])
def test_tls_needs_certificate_and_key(alone: str) -> None:
    with pytest.raises(ConfigError, match="TLS_CERT and TLS_KEY: set both to serve HTTPS, or neither"):
        read_all({alone: "x.pem"})


@pytest.mark.parametrize(
    ("environ", "sinks"),
    [
        ({}, ("null",)),
        ({"DB_DSN": "postgresql://h/d"}, ("postgres",)),
        ({"DB_DSN": "postgresql://h/d", "SINKS": "stdout"}, ("stdout",)),
        ({"SINKS": "sqlite,stdout"}, ("sqlite", "stdout")),
    ],
)
def test_the_sinks_are_those_of_sinks_or_what_the_dsn_implies(
    environ: Mapping[str, str], sinks: tuple[str, ...]
) -> None:
    assert read(EventSettings, environ).sink_names(read(Storage, environ)) == sinks


def test_a_variable_of_somebody_else_is_nobodys_business() -> None:
    assert read_all({"PATH": "/bin", "HOME": "/root", "QUEUE": "x"}) == Chosen()


# What a plugin may declare


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """A group of settings with one of each kind."""

    url: Annotated[str, about("where to send")]
    token: Annotated[Secret, about("what to send along")]
    note: Annotated[str | None, about("what else")] = None
    limit: Annotated[int | None, about("how many")] = None
    share: Annotated[float, about("how much", gt=0, lt=1)] = 0.5
    mode: Literal["a", "b"] = "a"
    size: Annotated[Size, about("how large", le=2**20)] = 2**10
    pause: Annotated[Duration, about("how long", ge=0.5)] = 1.0


GIVEN = {"SINK_X_URL": "http://h", "SINK_X_TOKEN": "t"}


def test_a_declaration_of_a_plugin_is_read_with_its_prefix() -> None:
    environ = GIVEN | {"SINK_X_LIMIT": "5", "SINK_X_SHARE": "0.25", "SINK_X_MODE": "b", "SINK_X_SIZE": "1KiB"}
    assert read(Declared, environ, "SINK_X_") == Declared(
        url="http://h", token="t", limit=5, share=0.25, mode="b", size=1024
    )


@pytest.mark.parametrize("missing", GIVEN)
def test_a_variable_without_a_default_must_be_set(missing: str) -> None:
    with pytest.raises(ConfigError, match=f"^{missing} is not set: expected text$"):
        read(Declared, {name: text for name, text in GIVEN.items() if name != missing}, "SINK_X_")


def test_a_description_tells_which_variable_has_no_default() -> None:
    variables = {variable.name: variable for variable in describe(Declared, "SINK_X_")}
    assert [name for name, variable in variables.items() if variable.required] == ["SINK_X_URL", "SINK_X_TOKEN"]
    assert variables["SINK_X_URL"].default_text == ""
    assert variables["SINK_X_NOTE"].default_text == ""


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("SHARE", "1", "a number, more than 0 and less than 1"),
        ("SIZE", "2MiB", "a size in bytes such as 1048576, 64KiB or 10MiB, at most 1MiB"),
        ("PAUSE", "100ms", "a duration such as 100ms, 30s or 1m30s, at least 500ms"),
        ("MODE", "c", "one of a, b"),
    ],
)
def test_bounds_are_told_in_the_settings_own_notation(name: str, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        read(Declared, GIVEN | {f"SINK_X_{name}": text}, "SINK_X_")
    assert str(refusal.value) == f"SINK_X_{name}={text!r}: expected {words}"


class Guarded(msgspec.Struct, frozen=True):
    """A secret that can be wrong."""

    pin: Annotated[int, about("a number nobody shall see", ge=1000), msgspec.Meta(extra={"secret": True})] = 1234


@pytest.mark.parametrize("text", ["hunter2", "12"])
def test_a_bad_secret_is_not_shown(text: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        read(Guarded, {"PIN": text})
    assert str(refusal.value) == "PIN=(hidden): expected a whole number, at least 1000"
    assert refusal.value.__cause__ is None
    assert refusal.value.__context__ is None


def test_a_journal_in_postgres_wants_a_database() -> None:
    with pytest.raises(ConfigError, match="DURABILITY='postgres': set DB_DSN"):
        read_all({"DURABILITY": "postgres"})


def test_a_body_that_no_record_of_the_journal_could_hold_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigError, match=r"MAX_BODY_BYTES=.*128MiB"):
        read_all({"MAX_BODY_BYTES": "129MiB"})
    assert read_all({"MAX_BODY_BYTES": "129MiB", "DURABILITY": "memory"}).max_body_bytes == 129 * 2**20
