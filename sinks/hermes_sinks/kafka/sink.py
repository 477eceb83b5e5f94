"""Produces one message for each event to Kafka, with the event as JSON in its value.

Invariants: a write returns when all in-sync replicas have every message, or each missing message is rejected by itself;
one batch is in flight at a time, so the events of a key keep their order. A repeated event is stored again, with the
same header ``id``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import trio

from hermes import Batch, BatchRejected, Event, SinkUnavailable, Storage
from hermes_sinks.common.each_line import encode_each
from hermes_sinks.kafka.faults import Fault
from hermes_sinks.kafka.producer import Message, Producer
from hermes_sinks.kafka.settings import KafkaSettings, check_brokers, parse_options, parse_topic

# Messages made between two checkpoints: about 1 ms of the loop.
SLICE = 1000


class KafkaSink:
    """A sink over two producers: ``together`` sends many messages a request, ``careful`` one message a request.

    ::

        async with open_kafka(KafkaSettings(brokers=("kafka:9092",)), Storage()) as sink:
            await sink.write(batch)
    """

    # One batch in flight at a time, so that the events of a key keep their order.
    concurrency = 1

    def __init__(self, together: Producer, careful: Producer, settings: KafkaSettings) -> None:
        self.max_batch = settings.max_batch
        self._together = together
        self._careful = careful
        self._topic_of = parse_topic(settings.topic)
        self._key = settings.key

    async def write(self, batch: Batch) -> None:
        """Produce the batch, acknowledged. Raises `hermes.SinkUnavailable` and `hermes.BatchRejected`."""
        messages, refused = await self._messages(batch)
        faults = await _send(self._together, messages)
        # A broker refuses a request as a whole: send each message alone, to find the message that is to blame.
        doubtful = {index: messages[index] for index, fault in faults.items() if not fault.alone}
        faults = {index: fault for index, fault in faults.items() if fault.alone}
        if doubtful:
            faults |= await _send(self._careful, doubtful)
        refused.update({index: str(fault) for index, fault in faults.items()})
        if refused:
            raise BatchRejected(refused)

    async def _messages(self, batch: Batch) -> tuple[dict[int, Message], dict[int, str]]:
        """Return the messages of the batch by the index of their event, and the reasons of events without a message."""
        lines, refused = await encode_each(batch)
        messages: dict[int, Message] = {}
        arrivals = batch.arrivals
        for index, (event, line) in enumerate(zip(batch, lines, strict=True)):
            if line:
                headers = [("id", event.id.encode()), ("type", event.type.encode())]
                # Kafka deletes by this time, and the client's clock must not decide how long a message is kept.
                arrived = int(arrivals[index] * 1000)
                messages[index] = Message(self._topic_of(event.type), self._key_of(event), line, headers, arrived)
            if index % SLICE == 0:
                await trio.lowlevel.checkpoint()
        return messages, refused

    def _key_of(self, event: Event) -> bytes | None:
        if self._key == "none":
            return None
        key: str = getattr(event, self._key)
        return key.encode()


async def _send(producer: Producer, messages: Mapping[int, Message]) -> dict[int, Fault]:
    """Send the messages; return the faults that they cause. Raises `hermes.SinkUnavailable` for any other fault."""
    # An empty batch sends nothing, and a write is a checkpoint in any case.
    if not messages:
        await trio.lowlevel.checkpoint()
        return {}
    indexes = list(messages)
    faults = await producer.send(list(messages.values()))
    for fault in faults.values():
        if not fault.blames_message:
            raise SinkUnavailable(f"Kafka: {producer.explain(str(fault))}")
    return {indexes[place]: fault for place, fault in faults.items()}


def _config(settings: KafkaSettings) -> dict[str, object]:
    return {
        "bootstrap.servers": ",".join(settings.brokers),
        "client.id": "hermes",
        "acks": "all",
        # Without it a retry of librdkafka may store a message twice, or change the order within a partition.
        "enable.idempotence": True,
        # The partition of a key is the one that Kafka's own clients choose.
        "partitioner": "murmur2_random",
        "linger.ms": settings.linger * 1000,
        "compression.type": settings.compress,
        "socket.keepalive.enable": True,
        # Last: an option of the operator overrides a default.
        **parse_options(settings.options),
    }


def check_kafka(settings: KafkaSettings, _storage: Storage) -> None:
    """Raise `ConfigError` for invalid settings, without asking the brokers."""
    check_brokers(settings.brokers)
    parse_options(settings.options)
    parse_topic(settings.topic)


@asynccontextmanager
async def open_kafka(settings: KafkaSettings, storage: Storage) -> AsyncIterator[KafkaSink]:
    """Open the sink; librdkafka begins to connect. Raises `ConfigError` for options that librdkafka refuses."""
    check_kafka(settings, storage)
    config = _config(settings)
    together = Producer(config, timeout=settings.ack_timeout)
    # One message a request, so that a refusal names its message. Made by the first refusal.
    careful = Producer({**config, "batch.num.messages": 1}, timeout=settings.ack_timeout)
    try:
        await together.open()
        yield KafkaSink(together, careful, settings)
    finally:
        await together.aclose()
        await careful.aclose()
