"""Several sinks of one plugin: each has its own name, variables, messages and place."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hermes import Batch, BatchRejected, ConfigError, SinkPlugin, SinkUnavailable, Storage
from hermes.config import NoSettings
from hermes.events.configured_sinks import ConfiguredSink
from hermes.events.sink import DeliverySettings, InstanceSettings
from hermes.testing import make_batch
from tests.sinks.configured import configure_sinks

TWO = {
    "SINK_EU_PLUGIN": "sqlite",
    "SINK_EU_PATH": "eu.db",
    "SINK_EU_TIMEOUT": "5s",
    "SINK_US_PLUGIN": "sqlite",
    "SINK_US_PATH": "us.db",
}


def test_two_sinks_of_one_plugin_have_settings_and_delivery_of_their_own() -> None:
    eu, us = configure_sinks(["eu", "us"], TWO)
    assert (eu.name, us.name, eu.plugin) == ("eu", "us", us.plugin)
    assert (eu.settings.path, us.settings.path) == (Path("eu.db"), Path("us.db"))  # type: ignore[attr-defined]
    assert (eu.delivery.timeout, us.delivery.timeout) == (5.0, 30.0)
    names = [variable.name for group in eu.groups for variable in group.variables()]
    assert {"SINK_EU_PATH", "SINK_EU_RETRIES", "SINK_EU_PLUGIN"} <= set(names)


@pytest.mark.parametrize(
    ("names", "changes", "words"),
    [
        ("eu", {"SINK_EU_PLUGIN": "sqlit"}, "SINK_EU_PLUGIN='sqlit': no such sink is installed; did you mean sqlite?"),
        ("eu", {"SINK_EU_PLUGIN": ""}, "SINKS='eu': no such sink is installed; there are .*, set SINK_EU_PLUGIN$"),
        ("eu", {"SINK_EU_PAHT": "x"}, "SINK_EU_PAHT: no sink declares this variable; did you mean SINK_EU_PATH?"),
        ("EU", {}, "SINKS='EU': expected a name of 1 to 40 of a-z"),
        ("null", {"SINK_NULL_PLUGIN": "sqlite"}, "SINK_NULL_PLUGIN='sqlite': null is an installed sink itself"),
        ("eu,us", {"SINK_US_PATH": "eu.db"}, "SINKS='eu,us': both would write to the same place.* set SINK_US_PATH"),
        ("a-b,a_b", {"SINK_A_B_PLUGIN": "null"}, "SINKS='a-b,a_b': both have the variables SINK_A_B_…"),
    ],
)
def test_a_wrong_instance_is_refused_with_a_line_that_says_what_to_do(
    names: str, changes: dict[str, str], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        configure_sinks(names.split(","), TWO | changes)


def test_an_instance_that_is_not_in_use_may_keep_its_variables() -> None:
    assert [sink.name for sink in configure_sinks(["us"], TWO)] == ["us"]


class Complaining:
    max_batch, concurrency = 7, 2

    def __init__(self) -> None:
        self.error: Exception = SinkUnavailable("check SINK_HTTP_URL", retry_after=3.0, too_slow=True)

    async def write(self, batch: Batch) -> None:
        raise self.error


async def test_what_a_plugin_says_of_its_variables_names_those_of_the_instance() -> None:
    inner = Complaining()

    def complain(_settings: object, _storage: Storage) -> None:
        raise ConfigError("SINK_HTTP_URL='x': expected a URL", "SINK_HTTP_TIMEOUT and OTHER_SINK_HTTP_URL")

    @asynccontextmanager
    async def open_it(_settings: object, _storage: Storage) -> Any:
        yield inner

    plugin = SinkPlugin(open_it, check=complain)
    sink = ConfiguredSink("eu-1", plugin, NoSettings(), DeliverySettings(), InstanceSettings("http"))
    with pytest.raises(ConfigError) as refused:
        sink.check(Storage())
    assert refused.value.mistakes == ("SINK_EU_1_URL='x': expected a URL", "SINK_EU_1_TIMEOUT and OTHER_SINK_HTTP_URL")
    async with sink.open(Storage()) as target:
        assert (target.max_batch, target.concurrency) == (7, 2)
        with pytest.raises(SinkUnavailable, match="check SINK_EU_1_URL") as unavailable:
            await target.write(make_batch(1))
        assert (unavailable.value.retry_after, unavailable.value.too_slow) == (3.0, True)
        inner.error = BatchRejected({0: "see SINK_HTTP_FORMAT"})
        with pytest.raises(BatchRejected) as rejected:
            await target.write(make_batch(1))
        assert rejected.value.reasons == {0: "see SINK_EU_1_FORMAT"}
