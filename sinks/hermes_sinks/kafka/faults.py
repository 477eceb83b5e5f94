"""Judges the errors of messages: whether the message is to blame, and how an operator mends the others. Pure.

Invariant: only an error that the message itself causes rejects an event; after any other error the batch is written
again.

Source: the Kafka protocol's error codes; the negative ones are librdkafka's own (``rdkafka.h``).
"""

from __future__ import annotations

from dataclasses import dataclass

_MESSAGE = frozenset({
    2,     # CORRUPT_MESSAGE
    4,     # INVALID_FETCH_SIZE, what librdkafka calls INVALID_MSG_SIZE
    10,    # MESSAGE_TOO_LARGE
    18,    # RECORD_LIST_TOO_LARGE
    32,    # INVALID_TIMESTAMP
    87,    # INVALID_RECORD
    -138,  # _INVALID_DIFFERENT_RECORD: another one of the same request is invalid
})  # fmt: skip

_MENDS = {
    3: "make the topic, or let the brokers make topics",
    17: "SINK_KAFKA_TOPIC is no name that the brokers take",
    29: "the user may not write to the topic",
    31: "the user may not write idempotently: grant it, or add enable.idempotence=false to SINK_KAFKA_OPTIONS",
    58: "check the user and the password in SINK_KAFKA_OPTIONS",
    -169: "check security.protocol, the user and the password in SINK_KAFKA_OPTIONS",
    -181: "check the certificates in SINK_KAFKA_OPTIONS",
    -188: "make the topic, or let the brokers make topics",
}

AUTHENTICATION = frozenset({58, -169})
"""Codes of failed authentication. librdkafka would try again until the time-out; waiting does not mend them."""


@dataclass(frozen=True)
class Fault:
    """The reason why a message was not stored. ``alone``: its request had no other message.

    >>> str(Fault(3, "UNKNOWN_TOPIC_OR_PART"))
    'UNKNOWN_TOPIC_OR_PART (make the topic, or let the brokers make topics)'
    """

    code: int
    words: str
    alone: bool = False

    @property
    def blames_message(self) -> bool:
        """Whether the message is to blame, or another message of its request."""
        return self.code in _MESSAGE

    def __str__(self) -> str:
        mend = _MENDS.get(self.code)
        return f"{self.words} ({mend})" if mend else self.words
