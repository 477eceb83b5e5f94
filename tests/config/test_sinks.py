"""From names in SINKS to plugins with their settings: found by entry points, refused with words that help."""

from __future__ import annotations

from pathlib import Path

import pytest

from hermes.base.errors import ConfigError
from hermes.events.sink import DeliverySettings, installed_sinks, load_plugin, variable_prefix
from tests.config.distributions import install
from tests.sinks.configured import configure_sinks

PLUGIN = """
    from __future__ import annotations
    from contextlib import asynccontextmanager
    from typing import Annotated
    import msgspec
    from hermes import SinkPlugin
    from hermes.config import about

    class MySettings(msgspec.Struct, frozen=True):
        path: Annotated[str, about("where")] = "here"
        token: Annotated[str, about("what with"), msgspec.Meta(extra={"secret": True})] = ""

    @asynccontextmanager
    async def open_mine(settings, service):
        yield

    plugin = SinkPlugin(open_mine, MySettings, summary="mine")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for distributions that is on sys.path."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_third_party_sink_is_found_and_its_settings_are_read(folder: Path) -> None:
    install(folder, "my-dist", {"mine": "found_sink:plugin"}, {"found_sink": PLUGIN})
    (sink,) = configure_sinks(["mine"], {"SINK_MINE_PATH": "there", "SINK_MINE_RETRIES": "9"})
    assert (sink.name, sink.plugin.summary) == ("mine", "mine")
    assert sink.settings == sink.plugin.settings("there")
    assert sink.delivery == DeliverySettings(retries=9)


def test_a_sink_brings_its_own_defaults_for_the_settings_of_every_sink(folder: Path) -> None:
    code = """
    from dataclasses import replace
    from hermes.events.sink import DeliverySettings
    from slow_base import plugin as usual
    plugin = replace(usual, delivery=DeliverySettings(flush_interval=60.0, batch_size=9, timeout=5.0))
    """
    install(folder, "my-dist", {"slow": "slow_sink:plugin"}, {"slow_base": PLUGIN, "slow_sink": code})
    variables = {"SINK_SLOW_BATCH_SIZE": "7", "SINK_SLOW_TIMEOUT": "6s"}
    (sink,) = configure_sinks(["slow"], variables)
    assert sink.delivery == DeliverySettings(flush_interval=60.0, batch_size=7, timeout=6.0)


def test_only_configured_sinks_are_imported(folder: Path) -> None:
    install(folder, "my-dist", {"broken": "broken_sink:plugin"}, {"broken_sink": "raise RuntimeError('imported')"})
    assert "broken" in installed_sinks()
    assert [sink.name for sink in configure_sinks(["null"], {})] == ["null"]


def test_the_built_in_sinks_are_found_like_anybodys() -> None:
    points = installed_sinks()
    assert {"null", "postgres", "sqlite", "stdout"} <= set(points)
    assert all(load_plugin(points[name]).summary for name in ("null", "postgres", "sqlite", "stdout"))


def test_an_unknown_sink_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError) as refusal:
        configure_sinks(["pulsar"], {})
    assert str(refusal.value).startswith("SINKS='pulsar': no such sink is installed; there are ")
    assert all(name in str(refusal.value) for name in ("null", "postgres", "sqlite", "stdout"))


def test_two_distributions_with_one_name_are_both_named(folder: Path) -> None:
    install(folder, "one-dist", {"twin": "one_sink:plugin"}, {"one_sink": PLUGIN}, version="1.0")
    install(folder, "other-dist", {"twin": "other_sink:plugin"}, {"other_sink": PLUGIN}, version="2.5")
    with pytest.raises(ConfigError) as refusal:
        configure_sinks(["null"], {})
    words = str(refusal.value)
    assert words.startswith("two installed packages provide a sink 'twin': ")
    assert "one-dist 1.0" in words
    assert "other-dist 2.5" in words


def test_a_missing_driver_says_which_extra_to_install(folder: Path) -> None:
    needs = "import a_driver_that_nobody_has\n"
    install(folder, "my-dist", {"mine": "needy_sink:plugin"}, {"needy_sink": needs}, extras=["mine", "test"])
    with pytest.raises(ConfigError) as refusal:
        configure_sinks(["mine"], {})
    assert str(refusal.value) == (
        "sink 'mine': no module 'a_driver_that_nobody_has'. Install it with: pip install 'my-dist[mine]'"
    )


def test_a_missing_driver_without_an_extra_names_the_distribution(folder: Path) -> None:
    install(folder, "my-dist", {"mine": "lone_sink:plugin"}, {"lone_sink": "import a_driver_that_nobody_has\n"})
    with pytest.raises(ConfigError, match=r"Install it with: pip install 'my-dist'$"):
        configure_sinks(["mine"], {})


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("from hermes import no_such_name\n", "cannot be loaded: cannot import name 'no_such_name'"),
        ("other = 1\n", "cannot be loaded: module 'odd_sink_1' has no attribute 'plugin'"),
        ("plugin = 'text'\n", "odd_sink_2:plugin is not a hermes.SinkPlugin"),
    ],
)
def test_what_is_no_plugin_is_refused_with_its_origin(folder: Path, source: str, words: str) -> None:
    number = ["from", "other", "plugin"].index(source.split()[0])
    install(folder, "my-dist", {"mine": f"odd_sink_{number}:plugin"}, {f"odd_sink_{number}": source})
    with pytest.raises(ConfigError) as refusal:
        configure_sinks(["mine"], {})
    assert str(refusal.value).startswith("sink 'mine' of my-dist 1.0")
    assert words in str(refusal.value)


def test_a_setting_that_the_engine_has_for_every_sink_is_the_authors_mistake(folder: Path) -> None:
    source = PLUGIN.replace('path: Annotated[str, about("where")] = "here"', "timeout: int = 5")
    install(folder, "my-dist", {"mine": "clash_sink:plugin"}, {"clash_sink": source})
    with pytest.raises(ConfigError, match="declares the setting 'timeout', which the engine has for every sink"):
        configure_sinks(["mine"], {})


# Variables nobody declares


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("SINK_SQLITE_PAHT", "did you mean SINK_SQLITE_PATH?"),
        ("SINK_SQLITE_PATHS", "did you mean SINK_SQLITE_PATH?"),
        ("SINK_SQLTE_PATH", "did you mean SINK_SQLITE_PATH?"),
        ("SINK_SQLITE_", "there are SINK_SQLITE_BACKOFF, "),
        ("SINK_SQLITE_X", "there are SINK_SQLITE_BACKOFF, "),
    ],
)
def test_a_misspelt_variable_of_a_sink_is_refused_with_what_was_meant_or_all_there_are(name: str, words: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        configure_sinks(["sqlite"], {name: "x"})
    assert str(refusal.value).startswith(f"{name}: no sink declares this variable; {words}")
    assert "\n" not in str(refusal.value)


def test_a_sink_that_is_not_in_use_may_keep_its_variables() -> None:
    assert configure_sinks(["null"], {"SINK_SQLITE_PATH": "x.db", "SINK_POSTGRES_TIMEOUT": "not read"})


def test_a_variable_of_a_sink_may_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "path"
    path.write_text("from-a-file.db")
    (sink,) = configure_sinks(["sqlite"], {"SINK_SQLITE_PATH_FILE": str(path)})
    assert sink.settings.path == Path("from-a-file.db")  # type: ignore[attr-defined]


def test_a_dash_in_a_sinks_name_is_an_underscore_in_its_variables(folder: Path) -> None:
    install(folder, "my-dist", {"my-sink": "dash_sink:plugin"}, {"dash_sink": PLUGIN})
    assert variable_prefix("my-sink") == "SINK_MY_SINK_"
    (sink,) = configure_sinks(["my-sink"], {"SINK_MY_SINK_PATH": "there"})
    assert sink.settings.path == "there"  # type: ignore[attr-defined]


def test_of_two_sinks_whose_names_begin_alike_each_has_its_own_variables(folder: Path) -> None:
    install(folder, "my-dist", {"my": "alike_sink:plugin", "my-sink": "alike_sink:plugin"}, {"alike_sink": PLUGIN})
    environ = {"SINK_MY_PATH": "a", "SINK_MY_SINK_PATH": "b"}
    (sink,) = configure_sinks(["my"], environ)
    assert sink.settings.path == "a"  # type: ignore[attr-defined]
    (sink,) = configure_sinks(["my-sink"], environ)
    assert sink.settings.path == "b"  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="SINK_MY_PAHT: no sink declares this variable"):
        configure_sinks(["my"], {"SINK_MY_PAHT": "a"})


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("REQUIRED", "maybe", "true or false"),
        ("TIMEOUT", "0", "a duration such as 100ms, 30s or 1m30s, more than 0s"),
        ("RETRIES", "-1", "a whole number, at least 0"),
        ("BACKOFF", "0", "a duration such as 100ms, 30s or 1m30s, more than 0s"),
        ("MAX_BACKOFF", "x", "a duration such as 100ms, 30s or 1m30s, more than 0s"),
        ("BREAKER_FAILURES", "0", "a whole number, at least 1"),
        ("BREAKER_OPEN", "0", "a duration such as 100ms, 30s or 1m30s, more than 0s"),
    ],
)
def test_what_every_sink_takes_is_checked_for_each(name: str, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        configure_sinks(["null"], {f"SINK_NULL_{name}": text})
    assert str(refusal.value) == f"SINK_NULL_{name}={text!r}: expected {words}"
