"""The sink that produces to Kafka, and to what speaks its protocol. Needs the extra ``kafka``.

``sink`` makes the messages, ``producer`` drives librdkafka on a thread, ``faults`` says what its errors mean.
"""

from hermes import SinkPlugin
from hermes_sinks.kafka.settings import KafkaSettings
from hermes_sinks.kafka.sink import KafkaSink, check_kafka, open_kafka

__all__ = ["KafkaSettings", "KafkaSink", "check_kafka", "open_kafka", "plugin"]

plugin = SinkPlugin(
    open_kafka, KafkaSettings, summary="a Kafka topic, acknowledged by all in-sync replicas", check=check_kafka
)
