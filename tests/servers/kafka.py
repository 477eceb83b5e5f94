"""A Kafka cluster of the tests' own: librdkafka's mock brokers, on free loopback ports, and a consumer to look into it.

The mock is in the library that confluent_kafka brings along, but not in its Python interface: it is called by its C
interface (``rdkafka_mock.h``). Invariant: nothing outlives `KafkaCluster.close()`. The methods block for a short time.
"""

from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path

PRODUCE = 0
"""The number of the request that stores messages."""

_READ_TIMEOUT = 10.0


class ClusterUnavailableError(Exception):
    """No cluster can be run here; the message says what is missing."""


class KafkaCluster:
    """One broker. Raises `ClusterUnavailableError` where the library cannot be found."""

    def __init__(self) -> None:
        self._library = _load()
        conf = self._library.rd_kafka_conf_new()
        problem = ctypes.create_string_buffer(256)
        self._library.rd_kafka_conf_set(conf, b"log_level", b"0", problem, len(problem))
        self._client = self._library.rd_kafka_new(0, conf, problem, len(problem))
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._client, 1)
        self.brokers = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()

    def fail_next(self, *codes: int, request: int = PRODUCE) -> None:
        """Answer the next requests of this kind with these errors, one each."""
        array = (ctypes.c_int * len(codes))(*codes)
        self._library.rd_kafka_mock_push_request_errors_array(self._cluster, request, len(codes), array)

    def forget_failures(self, request: int = PRODUCE) -> None:
        """Undo what is left of `fail_next`."""
        self._library.rd_kafka_mock_clear_request_errors(self._cluster, request)

    def stop(self) -> None:
        """Close all connections, and take no new one."""
        self._library.rd_kafka_mock_broker_set_down(self._cluster, 1)

    def start(self) -> None:
        """Undo `stop`."""
        self._library.rd_kafka_mock_broker_set_up(self._cluster, 1)

    def delay(self, milliseconds: int) -> None:
        """Answer every request so much later."""
        self._library.rd_kafka_mock_broker_set_rtt(self._cluster, 1, milliseconds)

    def close(self) -> None:
        """End the brokers."""
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._client)


class Reader:
    """Reads everything in a topic, in the order of its one partition or of the partitions' arrival."""

    def __init__(self, cluster: KafkaCluster, topic: str) -> None:
        import confluent_kafka

        self._kafka = confluent_kafka
        self._topic = topic
        self._consumer = confluent_kafka.Consumer(
            {"bootstrap.servers": cluster.brokers, "group.id": topic, "fetch.wait.max.ms": 5, "log_level": 0}
        )
        self._ends: dict[int, int] = {}
        self.messages: list[confluent_kafka.Message] = []

    def read(self) -> list[object]:
        """All messages so far, those of earlier calls first."""
        kafka, consumer = self._kafka, self._consumer
        if not self._ends:
            found = consumer.list_topics(self._topic, _READ_TIMEOUT).topics[self._topic].partitions
            self._ends = dict.fromkeys(found, 0)
            consumer.assign([kafka.TopicPartition(self._topic, partition, 0) for partition in found])
        missing = 0
        for partition in self._ends:
            place = kafka.TopicPartition(self._topic, partition)
            _, end = consumer.get_watermark_offsets(place, _READ_TIMEOUT)
            missing += end - self._ends[partition]
            self._ends[partition] = end
        while missing > 0:
            found = consumer.consume(missing, _READ_TIMEOUT)
            assert found, "the cluster does not give what it has"
            assert not any(message.error() for message in found), [message.error() for message in found]
            self.messages += found
            missing -= len(found)
        return list(self.messages)

    def close(self) -> None:
        """End the consumer."""
        self._consumer.close()


def _load() -> ctypes.CDLL:
    spec = importlib.util.find_spec("confluent_kafka")
    if spec is None or spec.origin is None:
        raise ClusterUnavailableError("there is no confluent_kafka: pip install 'hermes-events[kafka]'")
    folder = Path(spec.origin).parent.parent / "confluent_kafka.libs"
    found = sorted(folder.glob("librdkafka-*.so*"))
    if not found:
        raise ClusterUnavailableError(f"confluent_kafka has no librdkafka of its own in {folder}")
    library = ctypes.CDLL(str(found[0]))
    pointer, text, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
    for name, result, arguments in [
        ("rd_kafka_conf_new", pointer, []),
        ("rd_kafka_conf_set", ctypes.c_int, [pointer, text, text, text, size]),
        ("rd_kafka_new", pointer, [ctypes.c_int, pointer, text, size]),
        ("rd_kafka_destroy", None, [pointer]),
        ("rd_kafka_mock_cluster_new", pointer, [pointer, ctypes.c_int]),
        ("rd_kafka_mock_cluster_bootstraps", text, [pointer]),
        ("rd_kafka_mock_cluster_destroy", None, [pointer]),
        (
            "rd_kafka_mock_push_request_errors_array",
            None,
            [pointer, ctypes.c_int16, size, ctypes.POINTER(ctypes.c_int)],
        ),
        ("rd_kafka_mock_clear_request_errors", None, [pointer, ctypes.c_int16]),
        ("rd_kafka_mock_broker_set_down", ctypes.c_int, [pointer, ctypes.c_int32]),
        ("rd_kafka_mock_broker_set_up", ctypes.c_int, [pointer, ctypes.c_int32]),
        ("rd_kafka_mock_broker_set_rtt", ctypes.c_int, [pointer, ctypes.c_int32, ctypes.c_int]),
    ]:
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
