"""Declares the settings of the kafka sink, and reads librdkafka's options and the topic from two of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import msgspec

from hermes import ConfigError
from hermes.config import Duration, Names, Secret, about

# An empty value is most likely a password that was not filled in.
_OPTION = re.compile(r"([a-z][a-z0-9.]*)\s*=\s*(.+)", re.DOTALL)
_OURS = frozenset({
    # A write returns when the events are safe.
    "acks",
    "bootstrap.servers",
    # A write ends with the report of its last message.
    "delivery.report.only.error",
    "logger",
    "message.timeout.ms",
    # librdkafka's second name for bootstrap.servers.
    "metadata.broker.list",
    # Would load foreign code into the process.
    "plugin.library.paths",
    "request.required.acks",
})  # fmt: skip
_BROKER = re.compile(
    r"(?:(?:plaintext|ssl|sasl_plaintext|sasl_ssl)://)?(?:\[[0-9a-f:.%]+\]|[a-z0-9._-]+)(?::(\d{1,5}))?",
    re.I | re.ASCII,
)
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_NOT_IN_A_TOPIC = re.compile(r"[^A-Za-z0-9._-]")
# A type has 64 characters at most.
_LONGEST_TYPE = "x" * 64


class KafkaSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of the kafka sink. Durations are in seconds."""

    brokers: Annotated[Names, about("comma list of brokers to begin with, such as `kafka-1:9092,kafka-2:9092`")]
    topic: Annotated[
        str, about("the topic; `{type}` in it stands for the event's type, `_` for what no topic's name may hold")
    ] = "events"
    key: Annotated[
        Literal["user_id", "id", "type", "none"],
        about("the message's key: events with the same one keep their order, in one partition"),
    ] = "user_id"
    options: Annotated[
        Secret,
        about("librdkafka's own options as `name=value`, one a line or in a comma list: TLS, SASL, sizes"),
    ] = ""
    compress: Annotated[
        Literal["none", "gzip", "snappy", "lz4", "zstd"], about("compression on the way and stored")
    ] = "lz4"
    linger: Annotated[Duration, about("how long a message may wait for others to be sent along", ge=0, le=60)] = 0.005
    ack_timeout: Annotated[
        Duration, about("longest wait for all in-sync replicas; keep it below SINK_KAFKA_TIMEOUT", ge=0.1, le=3600)
    ] = 20.0
    max_batch: Annotated[int, about("most events in one batch", ge=1, le=100_000)] = 10_000


def check_brokers(brokers: Sequence[str]) -> None:
    """Raise `ConfigError` for brokers that librdkafka would ignore, or would try to resolve for ever."""
    found = [_BROKER.fullmatch(each) for each in brokers]
    # 9092 is the port that librdkafka takes for a broker without one.
    if not found or not all(each and 0 < int(each[1] or 9092) < 2**16 for each in found):
        raise ConfigError(f"SINK_KAFKA_BROKERS={','.join(brokers)!r}: expected host:port, several in a comma list")


def parse_options(text: str) -> dict[str, str]:
    """Return the options of SINK_KAFKA_OPTIONS. Raises `ConfigError`, which does not show their values.

    >>> parse_options("security.protocol=SSL, retries=5")
    {'security.protocol': 'SSL', 'retries': '5'}
    """
    options: dict[str, str] = {}
    # A value may hold a comma: then each option has a line of its own.
    for line in text.split("\n" if "\n" in text else ","):
        if not line.strip():
            continue
        found = _OPTION.fullmatch(line.strip())
        if found is None:
            raise ConfigError(
                "SINK_KAFKA_OPTIONS=(hidden): expected librdkafka's options as name=value, none empty, several in a "
                "comma list, or one a line where a value holds a comma"
            )
        name, value = found.groups()
        if name in _OURS:
            raise ConfigError(f"SINK_KAFKA_OPTIONS=(hidden): {name} is set by Hermes; leave it out")
        options[name] = value
    return options


def parse_topic(template: str) -> Callable[[str], str]:
    """Return the function from an event's type to its topic. Raises `ConfigError` if SINK_KAFKA_TOPIC is no valid name.

    >>> parse_topic("events.{type}")("page:view")
    'events.page_view'
    """
    longest = template.replace("{type}", _LONGEST_TYPE)
    # Kafka refuses both names of dots, which would be folders.
    if not _TOPIC.fullmatch(longest) or template in (".", ".."):
        raise ConfigError(
            f"SINK_KAFKA_TOPIC={template!r}: expected 1 to 249 of A-Z a-z 0-9 . _ -, where {{type}} counts as 64"
        )
    if "{type}" not in template:
        return lambda _type: template
    return lambda type_name: template.replace("{type}", _NOT_IN_A_TOPIC.sub("_", type_name)[:64])
