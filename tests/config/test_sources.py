"""Settings from a file of TOML: the same declarations, below the environment, and errors that name the line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from hermes.base.errors import ConfigError
from hermes.config import Mistakes
from hermes.configuration import Configuration, collect_configuration, read_environment
from hermes.console.strays import find_strays
from tests.config.distributions import install


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def configured(text: str, environ: Mapping[str, str] = {}) -> Configuration:
    """What a file ``hermes.toml`` and an environment configure. Raises `ConfigError` with the explained mistakes."""
    Path("hermes.toml").write_text(text)
    sources, mistakes = read_environment(environ, tolerant=True), Mistakes()
    configuration = collect_configuration(sources, mistakes)
    try:
        mistakes.raise_any()
    except ConfigError as error:
        raise ConfigError(*map(sources.explain, error.mistakes)) from None
    return configuration


def flat(configuration: Configuration) -> Any:
    """All settings by their names."""
    groups = (msgspec.structs.asdict(group.values) for group in configuration.groups() if not group.prefix)
    return SimpleNamespace(**{name: value for group in groups for name, value in group.items()})


def test_the_keys_of_a_file_are_the_settings_by_their_names_in_their_own_notation() -> None:
    configuration = configured(
        'queue_size = 5000\nflush_interval = "1m30s"\ndebug_endpoints = true\ntraces_sample = 0.5\n'
        'event_types = ["a", "b"]\nHERMES_DATA_DIR = "/data"\n'
    )
    settings = flat(configuration)
    assert (settings.queue_size, settings.flush_interval, settings.debug_endpoints) == (5000, 90.0, True)
    assert (settings.traces_sample, settings.event_types) == (0.5, ("a", "b"))
    assert settings.hermes_data_dir == Path("/data")


def test_all_sinks_of_a_file_run_unless_sinks_names_some() -> None:
    text = '[sinks.eu]\nplugin = "sqlite"\npath = "eu.db"\nretries = 9\n\n[sinks.us]\nplugin = "file"\n\n[sinks.null]\n'
    sinks = configured(text).value_of("events").sinks
    assert [(sink.name, sink.installed) for sink in sinks] == [("eu", "sqlite"), ("us", "file"), ("null", "null")]
    assert (sinks[0].settings.path, sinks[0].delivery.retries) == (Path("eu.db"), 9)
    (only,) = configured(text, {"SINKS": "us", "SINK_US_PATH": "elsewhere"}).value_of("events").sinks
    assert (only.name, only.settings.path) == ("us", Path("elsewhere"))


def test_the_environment_wins_and_each_value_says_where_it_is_from(tmp_path: Path) -> None:
    tmp_path.joinpath("key").write_text("hunter2")
    text = f'queue_size = 7\nbatch_size = 8\napi_keys = "old"\nadmin_keys_file = "{tmp_path}/key"\ncors_origins = "a"\n'
    environ = {"QUEUE_SIZE": "5", "API_KEYS_FILE": str(tmp_path / "key"), "CORS_ORIGINS": ""}
    configuration = configured(text, environ)
    settings, sources = flat(configuration), configuration.sources
    assert (settings.queue_size, settings.batch_size) == (5, 8)
    assert settings.api_keys == settings.admin_keys == ("hunter2",)
    assert settings.cors_origins == ("a",), "an empty variable counts as unset"
    wanted = {
        "QUEUE_SIZE": "QUEUE_SIZE",
        "BATCH_SIZE": "hermes.toml:2",
        "API_KEYS": "API_KEYS_FILE",
        "ADMIN_KEYS": "hermes.toml:4",
        "CORS_ORIGINS": "hermes.toml:5",
        "QUEUE_BYTES": "",
    }
    assert {name: sources.origin(name) for name in wanted} == wanted


MISTAKES = {
    # The form of the file
    "a = 1\nqueue_size =\n": "hermes.toml:2: Invalid value",
    "a = 1\nb = [1,\n": "hermes.toml:2: ",
    "log_level = 'info\n": """hermes.toml:1: Expected "'": close the quote""",
    'log_level = "info\n': "hermes.toml:1: Illegal end of a line within quotes: close the quote, or write text of",
    'a = 1\nlog_level = """info\n': "hermes.toml:2: Unterminated string: close the quote",
    "flush_interval = 5s\n": "hermes.toml:1: Expected newline or end of document after a statement: each key and each",
    'hermes_data_dir = "C:\\data"\n': "hermes.toml:1: Unescaped '\\' in a string: write each backslash twice, or",
    "[sinks.e u]\n": "hermes.toml:1: Expected ']' at the end of a table declaration: a table is [name], without spaces",
    # A name that stands twice
    "queue_size = 1\n\nqueue_size = [\n2,\n3]\n": "hermes.toml:5: queue_size: line 1 sets it already; keep one",
    "[sinks.eu]\nplugin = 'null'\n[sinks.eu]\n": "hermes.toml:3: sinks.eu: line 1 sets it already; keep one",
    "[sinks.eu]\nplugin = 'null'\nplugin = 'file'\n": "hermes.toml:3: sinks.eu.plugin: line 2 sets it already; keep",
    "[sinks.eu]\npath = 1\n[sinks.eu.path]\n": "hermes.toml:3: sinks.eu.path: line 2 sets it already; keep one",
    "a = {b = 1, b = 2}\n": "hermes.toml:1: Duplicate inline table key 'b'; keep one",
    "sinks = ['eu']\n[sinks.eu]\n": "hermes.toml:2: sinks.eu: line 1 has sinks already; each [sinks.…] of a file "
    "runs; to run some of them, set SINKS in the environment",
    "sinks.eu.plugin = 'null'\nsinks = ['eu']\n": "hermes.toml:2: sinks: line 1 sets it already; each [sinks.…] of a",
    "SINKS = ['eu']\n[sinks.eu]\nplugin = 'null'\n": "hermes.toml:1: SINKS: each [sinks.…] of a file runs; to run",
    "queue_size 5\n": "hermes.toml:1: Expected '=' after a key in a key/value pair: a line is `key = value`",
    "queue_size = 1\nQUEUE_SIZE = 2\n": "hermes.toml:2: QUEUE_SIZE: queue_size is the same setting; keep one",
    # Names
    "\nqueue_sise = 5\n": "hermes.toml:2: queue_sise: there is no such setting; did you mean queue_size?",
    "queue-size = 5\n": "hermes.toml:1: queue-size: there is no such setting; did you mean queue_size?",
    "api_key = 'hunter2'\n": "hermes.toml:1: api_key: there is no such setting; did you mean api_keys?",
    "colour = 'red'\n": "hermes.toml:1: colour: there is no such setting; `hermes config explain` lists all settings",
    "hermes_config = 'x'\n": "hermes.toml:1: hermes_config: a file cannot name another one; set HERMES_CONFIG in",
    "[sink.eu]\nplugin = 'file'\n": "hermes.toml:1: [sink]: there is no such table; did you mean [sinks.…]?",
    "[http]\naddr = ':1'\n": "hermes.toml:1: [http]: there is no such table; there is [sinks]",
    "[sinks]\neu = 5\n": "hermes.toml:2: sinks.eu: expected a table of settings, [sinks.eu]",
    # Values
    "queue_size = 'many'\n": "hermes.toml:1: queue_size='many': expected a whole number, at least 1",
    "flush_interval = 5\n": "hermes.toml:1: flush_interval='5': expected a duration such as",
    "event_times = 1979-05-27\n": "hermes.toml:1: event_times: expected text, a number, true or false, or a list "
    "of them; write a date or a time in quotes",
    "api_keys = ['a', 'hunter,2']\n": "hermes.toml:1: api_keys: an item of the list holds a comma, which comes between",
    "event_types = [['a']]\n": "hermes.toml:1: event_types: expected text, a number, true or false, or a list",
    "[[sinks]]\nplugin = 'null'\n": "hermes.toml:1: sinks: a table cannot be the value of a setting; a table is [name]",
    "data = 1979-05-27\n": "hermes.toml:1: data: there is no such setting; `hermes config explain` lists all settings",
    "api_keys = ''\n": "hermes.toml:1: api_keys is set but empty: give it a value, or unset it to go without api_keys",
    "db_dsn_file = '/no/dsn'\n": "hermes.toml:1: db_dsn_file='/no/dsn': cannot be read: No such file",
    "db_dsn = 'hunter2'\ndb_dsn_file = 'x'\n": "hermes.toml:1: db_dsn and db_dsn_file are both set: keep one",
    "log_level = 'info'\ntls_cert = 'x'\n": "hermes.toml:2: tls_cert and TLS_KEY: set both to serve HTTPS, or neither",
    # Sinks
    "sinks = ['sqlite', 'nul']\n": "hermes.toml:1: sinks='nul': no such sink is installed; did you mean null?",
    "[sinks.sqlit]\n": "hermes.toml:1: sinks.sqlit: no such sink is installed; did you mean sqlite?",
    "[sinks.eu]\nplugin = 'fiel'\n": "hermes.toml:2: sinks.eu.plugin='fiel': no such sink is installed; did",
    "[sinks.null]\n[sinks.asia]\n": "hermes.toml:2: sinks.asia: no such sink is installed; there are clickhouse, file, "
    "http, kafka, null, parquet, postgres, sqlite, stdout; for a sink of one of them, set sinks.asia.plugin",
    "[sinks.eu]\nplugin = 'null'\nqueue_size = 5\n": "hermes.toml:3: sinks.eu.queue_size: no sink declares this "
    "variable; QUEUE_SIZE is a setting of the service: write it without the name of a sink (above all tables)",
    "[sinks.eu]\nplugin = 'http'\n": "hermes.toml:1: sinks.eu.url is not set: expected text",
    "[sinks.eu]\nplugin = 'file'\nretries = -1\n": "hermes.toml:3: sinks.eu.retries='-1': expected a whole number",
    "[sinks.eu]\nplugin = 'sqlite'\npaht = 'x'\n": "hermes.toml:3: sinks.eu.paht: no sink declares this variable; did "
    "you mean sinks.eu.path?",
    "[sinks.eu]\nplugin = 'file'\nname = 'a b'\n": "hermes.toml:3: sinks.eu.name='a b': expected 1 to 64 of A-Z",
    "[sinks.a]\nplugin = 'sqlite'\n[sinks.b]\nplugin = 'sqlite'\n": "hermes.toml:1: sinks='a,b': both would write to "
    "the same place, for their settings are the same; set sinks.b.path",
    "[sinks.'e u']\nplugin = 'file'\n": "hermes.toml:1: sinks.e u: expected a name of 1 to 40 of a-z 0-9 _ -",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_names_the_file_the_line_and_the_key(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        configured(text)
    (told,) = refused.value.mistakes
    assert told.startswith(MISTAKES[text])
    assert "hunter2" not in told


def test_a_mistake_of_the_environment_names_the_variable_though_the_file_has_the_key() -> None:
    text = "[sinks.eu]\nplugin = 'null'\nretries = 3\n"
    with pytest.raises(ConfigError, match=r"^SINK_EU_RETRIES='x': expected"):
        configured(text, {"SINK_EU_RETRIES": "x"})
    # The advice is a key of the file, the mistake is not.
    with pytest.raises(ConfigError, match=r"^SINK_EU_RETRIEZ: no sink declares .* did you mean SINK_EU_RETRIES\?$"):
        configured(text, {"SINK_EU_RETRIEZ": "7"})


def test_all_mistakes_of_the_file_and_the_environment_are_told_at_once() -> None:
    text = (
        "queue_size = 0\nbatch_sise = 1\ntls_cert = 2020-01-01\ntls_key = 'x'\napi_keys = ['a,b']\nworker-count = 1\n"
        "[http]\na = 1\n[sink.us]\nplugin = 'nul'\n[sinks.eu]\nplugin = 'null'\nretries = [[1]]\n"
    )
    with pytest.raises(ConfigError) as refused:
        configured(text, {"FLUSH_INTERVAL": "soon"})
    places = [line.split("=")[0].split(": ")[0].removeprefix("hermes.toml:") for line in refused.value.mistakes]
    assert sorted(places) == sorted(["1", "2", "3", "5", "6", "7", "9", "10", "13", "FLUSH_INTERVAL"])
    # A command that does not tell all mistakes must not go on as if the key were not there.
    with pytest.raises(ConfigError, match=r"hermes\.toml:3: tls_cert: expected text"):
        read_environment({})


def test_a_table_is_not_shown_with_keys_that_nobody_has_written() -> None:
    sources = configured("[sinks.null]\n").sources
    assert (sources.origin("SINKS"), sources.origin("SINK_NULL_PLUGIN")) == ("hermes.toml:1", "")


def test_hermes_config_names_the_file_or_turns_it_off(tmp_path: Path) -> None:
    Path("hermes.toml").write_text("queue_size = 1")
    other = tmp_path / "other.toml"
    other.write_bytes(b"\xef\xbb\xbfqueue_size = 2\r\nbatch_size = 3\r\n")
    sources = read_environment({"HERMES_CONFIG": str(other)})
    assert (sources["QUEUE_SIZE"], sources.origin("BATCH_SIZE")) == ("2", f"{other}:2")
    assert "QUEUE_SIZE" not in read_environment({"HERMES_CONFIG": "off"})
    with pytest.raises(ConfigError, match=r"HERMES_CONFIG='nowhere\.toml': cannot be read: No such file"):
        read_environment({"HERMES_CONFIG": "nowhere.toml"})
    for content, words in (
        (b"a = 1\nb = '\xff'", "2: it is not text in UTF-8: save"),
        (b"\xff\xfea", "1: .* like UTF-16"),
    ):
        other.write_bytes(content)
        with pytest.raises(ConfigError, match=rf"other\.toml:{words}"):
            read_environment({"HERMES_CONFIG": str(other)})


def test_without_a_file_there_is_the_environment_alone() -> None:
    environ = {"QUEUE_SIZE": "5", "PATH": os.environ["PATH"]}
    sources = read_environment(environ)
    assert dict(sources) == environ
    assert sources.path == Path("hermes.toml"), "where a file would be looked for at the next start"


def test_the_settings_of_a_part_that_does_not_run_may_stay_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    source = """
        from __future__ import annotations
        from typing import Annotated
        import msgspec
        from hermes.config import about
        from hermes.part import Part

        class Settings(msgspec.Struct, frozen=True):
            toy_limit: Annotated[int, about("most toys")] = 3

        TOY = Part("idle-toy", "Plays", None, settings=Settings)
    """
    install(tmp_path, "toy-dist", {}, {"idle_toy": source}, parts={"idle-toy": "idle_toy:TOY"})
    assert flat(configured("toy_limit = 5\n")).queue_size == 100_000


FOREIGN = {
    "SINK_US_RETRIES": "SINKS does not name us",
    "SINK_SQLITE_PATH": "SINKS does not name sqlite",
    "SINK_FOO_URL": "no sink in SINKS has this variable",
    "SINK_X": "no sink in SINKS has this variable",
}


@pytest.mark.parametrize("text", ["", "[sinks.eu]\nplugin = 'null'\n[sinks.us]\nplugin = 'stdout'\n"])
def test_a_variable_of_a_sink_that_does_not_run_has_no_effect_and_is_told_with_a_file_and_without(text: str) -> None:
    environ = {"SINKS": "eu", "SINK_EU_PLUGIN": "null", "SINK_EU_RETRIES": "1", **dict.fromkeys(FOREIGN, "2")}
    foreign = FOREIGN if text else FOREIGN | {"SINK_US_RETRIES": FOREIGN["SINK_X"]}
    assert dict(find_strays(configured(text, environ))) == foreign
    idle = dict.fromkeys(sorted(name for name in environ if name.startswith("SINK_")), "the part events does not run")
    assert dict(find_strays(configured(text, environ | {"PARTS": "traces"}))) == idle
    # A slip of a variable that has an effect is a mistake all the same.
    with pytest.raises(ConfigError, match=r"SINK_EUU_RETRIES: no sink .* did you mean SINK_EU_RETRIES\?"):
        configured(text, environ | {"SINK_EUU_RETRIES": "3"})
