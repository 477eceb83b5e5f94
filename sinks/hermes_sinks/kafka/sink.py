"""The sink that produces to Kafka: one message an event, its value the event as JSON.

Invariants: a write returns when all in-sync replicas have every message, or each that they have not is rejected by
itself; one batch is on its way at a time, so the events of a key keep their order. What comes again is stored again:
the header ``id`` tells. Called by the engine.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import trio

from hermes import Batch, BatchRejected, Event, SinkUnavailable
from hermes.config import Settings
from hermes_sinks.common.each_line import encode_each
from hermes_sinks.kafka.faults import Fault
from hermes_sinks.kafka.producer import Message, Producer
from hermes_sinks.kafka.settings import KafkaSettings, check_brokers, parse_options, parse_topic

SLICE = 1000  # messages made between two checkpoints: about 1 ms of the loop


class KafkaSink:
    """A sink over two producers: messages go together by the first, and by ``careful`` each in a request of its own."""

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
        # A broker refuses a request as a whole; whose fault it was shows when each goes alone.
        doubtful = {index: messages[index] for index, fault in faults.items() if not fault.alone}
        faults = {index: fault for index, fault in faults.items() if fault.alone}
        if doubtful:
            faults |= await _send(self._careful, doubtful)
        refused.update({index: str(fault) for index, fault in faults.items()})
        if refused:
            raise BatchRejected(refused)

    async def _messages(self, batch: Batch) -> tuple[dict[int, Message], dict[int, str]]:
        """The messages of the batch by the index of their event, and why some events have none."""
        lines, refused = await encode_each(batch)
        messages: dict[int, Message] = {}
        arrivals = batch.arrivals
        for index, (event, line) in enumerate(zip(batch, lines, strict=True)):
            if line:
                headers = [("id", event.id.encode()), ("type", event.type.encode())]
                arrived = int(arrivals[index] * 1000)  # the client's own clock must not decide what is kept how long
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
    """Send the messages; return the faults that are theirs. Raises `hermes.SinkUnavailable` for any other."""
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
        "enable.idempotence": True,
        "partitioner": "murmur2_random",  # as Kafka's own clients choose the partition of a key
        "linger.ms": settings.linger * 1000,
        "compression.type": settings.compress,
        "socket.keepalive.enable": True,
        **parse_options(settings.options),
    }


def check_kafka(settings: KafkaSettings, _service: Settings) -> None:
    """Raises `ConfigError` for settings that make no sense, whatever the brokers say."""
    check_brokers(settings.brokers)
    parse_options(settings.options)
    parse_topic(settings.topic)


@asynccontextmanager
async def open_kafka(settings: KafkaSettings, service: Settings) -> AsyncIterator[KafkaSink]:
    """Open the sink; librdkafka begins to connect. Raises `ConfigError` for options that it does not take."""
    check_kafka(settings, service)
    config = _config(settings)
    together = Producer(config, timeout=settings.ack_timeout)
    careful = Producer({**config, "batch.num.messages": 1}, timeout=settings.ack_timeout)
    try:
        await together.open()
        yield KafkaSink(together, careful, settings)
    finally:
        await together.aclose()
        await careful.aclose()
