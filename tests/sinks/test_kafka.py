"""What needs no broker of the kafka sink: settings, topics, and what an error means."""

from __future__ import annotations

import sys

import pytest
from hermes_sinks.kafka import KafkaSettings, check_kafka
from hermes_sinks.kafka.faults import Fault
from hermes_sinks.kafka.settings import parse_options, parse_topic

from hermes import ConfigError, Storage
from hermes.config import read
from tests.sinks.configured import configure_sinks


def check(**variables: str) -> KafkaSettings:
    environ = {f"SINK_KAFKA_{name.upper()}": text for name, text in {"brokers": "a:9092", **variables}.items()}
    settings = read(KafkaSettings, environ, "SINK_KAFKA_")
    check_kafka(settings, Storage())
    return settings


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("", {}),
        (
            "security.protocol=SASL_SSL, sasl.mechanism=PLAIN ,",
            {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN"},
        ),
        ("sasl.password=a=b", {"sasl.password": "a=b"}),
        ("sasl.password=a,b\r\nlinger.ms = 5\n\n", {"sasl.password": "a,b", "linger.ms": "5"}),
        ("enable.idempotence=false", {"enable.idempotence": "false"}),
    ],
)
def test_options_come_in_a_comma_list_or_one_a_line(text: str, options: dict[str, str]) -> None:
    assert parse_options(text) == options


@pytest.mark.parametrize(
    "text",
    [
        "s3cret",
        "sasl.password=x,s3cret",
        "acks=1,sasl.password=s3cret",
        "plugin.library.paths=/s3cret.so",
        "delivery.report.only.error=true",
        "error_cb=s3cret",
        "on_delivery=s3cret",
        "=s3cret",
        "sasl.username=s3cret,sasl.password=",
    ],
)
def test_options_that_are_none_or_not_the_operators_are_refused_without_their_values(text: str) -> None:
    with pytest.raises(ConfigError, match=r"SINK_KAFKA_OPTIONS=\(hidden\)") as raised:
        check(options=text)
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(
    ("template", "type_name", "topic"),
    [
        ("events", "song_played", "events"),
        ("events.{type}", "song_played", "events.song_played"),
        ("{type}-v1", "cart:add", "cart_add-v1"),
        ("{type}", "ö" * 100, "_" * 64),
    ],
)
def test_a_topic_may_hold_the_type_in_what_letters_a_topic_has(template: str, type_name: str, topic: str) -> None:
    assert parse_topic(template)(type_name) == topic


@pytest.mark.parametrize(
    "template", ["", "a b", "a/b", "events.{name}", "ü", ".", "..", "x" * 250, "x" * 190 + "{type}"]
)
def test_what_can_be_no_topic_is_refused(template: str) -> None:
    with pytest.raises(ConfigError, match="SINK_KAFKA_TOPIC="):
        parse_topic(template)


def test_the_brokers_have_no_default_and_the_rest_is_fine() -> None:
    assert check().brokers == ("a:9092",)
    with pytest.raises(ConfigError, match="SINK_KAFKA_BROKERS is not set"):
        read(KafkaSettings, {}, "SINK_KAFKA_")


@pytest.mark.parametrize(
    ("code", "blames"), [(10, True), (87, True), (2, True), (-138, True), (29, False), (-192, False)]
)
def test_only_what_a_message_causes_costs_an_event(code: int, blames: bool) -> None:
    assert Fault(code, "words").blames_message is blames


def test_a_fault_says_what_to_do_where_somebody_can() -> None:
    assert str(Fault(29, "NOT_ALLOWED: no")) == "NOT_ALLOWED: no (the user may not write to the topic)"
    assert str(Fault(-195, "_TRANSPORT: gone")) == "_TRANSPORT: gone"


def test_without_its_driver_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("hermes_sinks.kafka")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(ConfigError, match=r"no module 'confluent_kafka'\. .* pip install 'hermes-events\[kafka\]'"):
        configure_sinks(["kafka"], {})
