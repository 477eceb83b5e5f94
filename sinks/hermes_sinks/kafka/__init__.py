"""Produces events to Kafka, or to another broker that speaks Kafka's protocol. Needs the extra ``kafka``.

``settings`` has the sink's settings, ``sink`` makes the messages, ``producer`` runs librdkafka on a thread, ``faults``
judges its errors.
"""

from hermes import SinkPlugin
from hermes_sinks.kafka.settings import KafkaSettings
from hermes_sinks.kafka.sink import KafkaSink, check_kafka, open_kafka

__all__ = ["KafkaSettings", "KafkaSink", "check_kafka", "open_kafka", "plugin"]

plugin = SinkPlugin(
    open_kafka, KafkaSettings, summary="a Kafka topic, acknowledged by all in-sync replicas", check=check_kafka
)
