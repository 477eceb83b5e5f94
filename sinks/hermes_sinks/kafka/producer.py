"""Runs librdkafka's blocking producer on a thread, behind an async interface. Only this file imports confluent_kafka.

Invariants: one thread at a time uses the producer; when `send` ends, in any way, librdkafka has no message of that send
in its queues or in flight.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import confluent_kafka
import structlog
import trio
from confluent_kafka import KafkaError, KafkaException

from hermes import ConfigError, SinkUnavailable
from hermes.kit import clean, clean_up, run_on_thread, time_on_threads
from hermes_sinks.kafka.faults import AUTHENTICATION, Fault

# Seconds: the longest delay until a cancellation is noticed.
POLL = 0.05
# Seconds for the reports of purged messages.
EMPTY_TIMEOUT = 2.0
# Seconds in which librdkafka closes its connections and threads.
CLOSE_TIMEOUT = 5.0
_MOST_WORDS = 300
# Messages handed over between two polls for delivery reports.
_SERVED_AT = 500

_log = structlog.get_logger("hermes.sinks.kafka")


class Message(NamedTuple):
    """One message; ``timestamp`` is in milliseconds since 1970."""

    topic: str
    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]]
    timestamp: int


class Producer:
    """A producer with these options of librdkafka; ``timeout`` is the longest time of a send, in seconds.

    ::

        producer = Producer({"bootstrap.servers": "kafka:9092"}, timeout=20.0)
        await producer.open()
        faults = await producer.send([Message("events", b"u1", b"{}", [], 1700000000000)])
    """

    def __init__(self, config: Mapping[str, object], *, timeout: float) -> None:
        self._config = {**config, "message.timeout.ms": int(timeout * 1000)}
        self._timeout = timeout
        self._thread = trio.CapacityLimiter(1)
        self._handle: Any = None
        self._last_error: Fault | None = None
        # The clean-up on the thread ends with the service's stop too.
        self._time_left = time_on_threads()

    async def open(self) -> None:
        """Make the producer now, to check the options. Raises `ConfigError`."""
        try:
            await trio.to_thread.run_sync(self._make, limiter=self._thread)
        except KafkaException as error:
            raise ConfigError(f"SINK_KAFKA_OPTIONS=(hidden): {_blame_option(self._config, error)}") from None

    async def send(self, messages: Sequence[Message]) -> dict[int, Fault]:
        """Send all messages; return the faults of the messages that were not stored, by index.

        Raises `hermes.SinkUnavailable` if some message has no outcome in time.
        """
        return await run_on_thread(self._send, messages, limiter=self._thread)

    async def aclose(self) -> None:
        """Close the producer. After `CLOSE_TIMEOUT` the thread is left behind."""
        with clean_up(CLOSE_TIMEOUT):
            await trio.to_thread.run_sync(self._discard, limiter=self._thread, abandon_on_cancel=True)

    # The methods below run on the thread.

    def _make(self) -> Any:
        if self._handle is None:
            config = {**self._config, "error_cb": self._note_error, "logger": _Log()}
            self._handle = confluent_kafka.Producer(config)
        return self._handle

    def _send(self, messages: Sequence[Message]) -> dict[int, Fault]:
        self._last_error = None
        try:
            handle = self._make()
        # A file that an option names may have gone since.
        except KafkaException as error:
            raise SinkUnavailable(f"Kafka: {_blame_option(self._config, error)}") from None
        reports = _Reports()
        # One second more, so that librdkafka's own time-out comes first.
        deadline = time.monotonic() + self._timeout + 1
        try:
            for index, message in enumerate(messages):
                self._hand_over(handle, reports, index, message, deadline)
                if index % _SERVED_AT == _SERVED_AT - 1:
                    handle.poll(0)
                    self._look_around(deadline)
            while reports.missing:
                handle.poll(POLL)
                self._look_around(deadline)
        finally:
            # Cancelled, too late, or failed for good: no message may be stored later.
            if reports.missing:
                self._discard(reports)
        # librdkafka remembers errors (a topic that the user may not write to), and an idempotent producer does not
        # survive all of them: the next send makes a new producer.
        if any(not fault.blames_message for fault in reports.faults.values()):
            self._discard()
        return reports.faults

    def _hand_over(self, handle: Any, reports: _Reports, index: int, message: Message, deadline: float) -> None:
        while True:
            try:
                handle.produce(
                    message.topic,
                    message.value,
                    message.key,
                    headers=message.headers,
                    timestamp=message.timestamp,
                    on_delivery=partial(reports.note, index),
                )
            # librdkafka's queue is full: wait until it has sent some messages.
            except BufferError:
                handle.poll(POLL)
                self._look_around(deadline)
            except KafkaException as error:
                reports.faults[index] = _fault(error.args[0], alone=True)
                return
            else:
                reports.missing += 1
                return

    def _look_around(self, deadline: float) -> None:
        trio.from_thread.check_cancelled()
        # At once: librdkafka would try again until the time-out, and waiting mends no password.
        if self._last_error is not None and self._last_error.code in AUTHENTICATION:
            raise SinkUnavailable(f"Kafka: {self._last_error}")
        if time.monotonic() > deadline:
            raise SinkUnavailable(f"Kafka: {self.explain('no answer in time')}")

    def explain(self, words: str) -> str:
        """Return the words, with librdkafka's last error about its connections."""
        return f"{words}; {self._last_error}" if self._last_error is not None else words

    def _discard(self, reports: _Reports | None = None) -> None:
        handle, self._handle = self._handle, None
        if handle is None:
            return
        # Purged messages get a report each; without waiting for the reports their outcome would stay unknown.
        handle.purge(in_queue=True, in_flight=True, blocking=False)
        deadline = time.monotonic() + self._time_left(EMPTY_TIMEOUT)
        while reports is not None and reports.missing and time.monotonic() < deadline:
            handle.poll(POLL)
        handle.close()

    def _note_error(self, error: KafkaError) -> None:
        self._last_error = _fault(error)


class _Reports:
    """The delivery reports of one send."""

    def __init__(self) -> None:
        self.missing = 0
        self.faults: dict[int, Fault] = {}

    def note(self, index: int, error: KafkaError | None, _message: object) -> None:
        self.missing -= 1
        if error is not None:
            self.faults[index] = _fault(error)


class _Log:
    """Takes librdkafka's own log lines, and logs them at the level debug."""

    # The errors say the same, and librdkafka repeats its log lines at every attempt to connect.

    def log(self, _level: int, template: str, *values: object) -> None:
        _log.debug(clean(template % values, _MOST_WORDS))


def _fault(error: KafkaError, *, alone: bool = False) -> Fault:
    return Fault(error.code(), clean(f"{error.name()}: {error.str()}", _MOST_WORDS), alone)


def _blame_option(config: Mapping[str, object], error: KafkaException) -> str:
    """Return which option librdkafka refuses."""
    # Not librdkafka's own message, which may hold the value of the option: a password.
    words = error.args[0].str()
    named = next((name for name in config if f'"{name}"' in words), None)
    return f"librdkafka does not take the option {named} as it is" if named else "librdkafka does not take the options"
