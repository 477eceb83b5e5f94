"""The JSON bodies of requests to the broker, checked.

Invariant: a body that is wrong in one place is refused as a whole, in words that name the place and the remedy.
"""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from hermes.base.json.wrong_types import in_words
from hermes.broker.machine.commands import Produce
from hermes.broker.parked_poll import DEFAULT_POLL, MAX_POLL
from hermes.config.notation import parse_duration

# A payload has at most 1 MiB; this is room for some of the largest, and for thousands of small ones.
MAX_BODY_BYTES = 16 * 2**20
# Forty entries of the log at most: a request with more would hold its answer back for long.
MAX_MESSAGES = 10_000
"""Messages of one request."""
MAX_LEASES = 10_000

RAW, TEXT, JSON, _MSGPACK = range(4)
"""The content types of the protocol."""

# A delay is kept in memory until its end: who means years has mistaken the unit.
_MAX_DELAY_MS = 366 * 86_400_000

DurationText = Annotated[str, Meta(description="A duration with its unit: 250ms, 90s, 5m, 2h.", examples=["90s"])]
LeaseId = Annotated[int, Meta(ge=0, le=2**63 - 1, description="The number of a lease, from a poll.")]
LeaseIds = Annotated[list[LeaseId], Meta(min_length=1, max_length=MAX_LEASES)]


class WrongBody(Exception):
    """The client has to correct the body; the message says how."""


class _Body(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A JSON object of which every member is known."""


class NewMessage(_Body):
    """A message to store. Its content is one of ``payload``, any JSON, ``text`` and ``base64``."""

    # Raw: the client's own bytes are stored, so that 1.0 stays 1.0 and a large number keeps its digits.
    payload: msgspec.Raw | UnsetType = UNSET
    text: str | UnsetType = UNSET
    # msgspec reads base64 into bytes by itself.
    base64: bytes | UnsetType = UNSET
    priority: Annotated[int, Meta(ge=0, le=7)] = 0
    key: Annotated[str, Meta(max_length=256, description="Messages of one key are delivered one after the other.")] = ""
    delay: DurationText | UnsetType = UNSET
    """How much later the message enters its topic."""
    producer_id: Annotated[str, Meta(max_length=256)] = ""
    seq: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0

    def command(self, topic: str) -> Produce:
        """The command that stores it. Raises `WrongBody`."""
        # UNSET and not None: null is JSON too, and may be a payload.
        given = [each for each in (self.payload, self.text, self.base64) if each is not UNSET]
        if len(given) != 1:
            raise WrongBody("a message has one of payload, text and base64")
        content_type = RAW
        # An empty text or payload is content as well, so the members are told apart by their types.
        data = self.base64 if isinstance(self.base64, bytes) else b""
        if isinstance(self.payload, msgspec.Raw):
            content_type, data = JSON, bytes(self.payload)
        elif isinstance(self.text, str):
            content_type, data = TEXT, self.text.encode()
        return Produce(
            topic, data, self.priority, content_type, self.producer_id, self.seq, milliseconds(self.delay, 0), self.key
        )


class PollBody(_Body):
    """What a poll asks for."""

    max: Annotated[int, Meta(ge=1, le=MAX_POLL)] = DEFAULT_POLL
    visibility: DurationText | UnsetType = UNSET
    """How long the messages are leased; 30s unless told."""
    wait: DurationText | UnsetType = UNSET
    """How long to wait for the first message."""
    auto: bool = False
    """Acknowledge the messages at once: each is delivered at most once."""


class AckBody(_Body):
    """Leases whose messages are done."""

    leases: LeaseIds


class NackBody(_Body):
    """Leases whose messages are given back."""

    leases: LeaseIds
    delay: DurationText | UnsetType = UNSET
    """How much later they are delivered again."""
    reason: Annotated[str, Meta(max_length=1000)] = ""
    """Why; stands in a dead letter."""


class ExtendBody(_Body):
    """Leases that are to last longer."""

    leases: LeaseIds
    visibility: DurationText
    """How long from now."""


class ForwardBody(_Body):
    """A lease whose message is done once another message is stored."""

    lease: LeaseId
    topic: Annotated[str, Meta(min_length=1)]
    message: NewMessage


class CommitBody(_Body):
    """The next offset to read: all messages below are done."""

    offset: Annotated[int, Meta(ge=0, le=2**63 - 1)]


class TopicBody(_Body):
    """What a topic is limited to. A member that is left out stays as it is; 0 is no limit."""

    rate: Annotated[float, Meta(ge=0, le=1e9, description="Deliveries a second.")] | UnsetType = UNSET
    burst: Annotated[int, Meta(ge=0, lt=2**32)] | UnsetType = UNSET
    max_messages: Annotated[int, Meta(ge=0, le=2**63 - 1)] | UnsetType = UNSET
    max_age: DurationText | UnsetType = UNSET


class GroupBody(_Body):
    """The settings of a group. A member that is left out stays as it is."""

    paused: bool | UnsetType = UNSET
    max_attempts: Annotated[int, Meta(ge=0, le=1_000_000)] | UnsetType = UNSET
    """After so many deliveries without an ack a message becomes a dead letter; 0: never."""


NewMessages = NewMessage | list[NewMessage]


def milliseconds(duration: str | UnsetType, default: int) -> int:
    """A duration in milliseconds. Raises `WrongBody`.

    >>> milliseconds("1.5s", 0)
    1500
    """
    if isinstance(duration, UnsetType):
        return default
    try:
        # Rounded: the log's time is in whole milliseconds.
        found = round(parse_duration(duration) * 1000)
    except ValueError as error:
        raise WrongBody(f"{duration[:50]!r} is no duration: {error}") from None
    if not 0 <= found <= _MAX_DELAY_MS:
        raise WrongBody(f"{duration[:50]!r} is too long: at most 366 days")
    return found


async def read_body(parts: AsyncIterable[bytes], kind: Any) -> Any:
    """The body as an instance of ``kind``, of `NewMessages` or one of the structs. Raises `WrongBody`."""
    # The app bounds the body of a whole request; this is the smaller bound of the broker.
    body = bytearray()
    async for part in parts:
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise WrongBody(f"the body is larger than {MAX_BODY_BYTES // 2**20} MiB: send fewer messages at once")
    try:
        # A poll without a body asks for the defaults.
        found = msgspec.json.decode(bytes(body) or b"{}", type=kind)
    except msgspec.DecodeError as error:
        raise WrongBody(in_words(str(error))) from None
    # Here and not by a constraint of the type: msgspec cannot bound a list inside a union.
    if isinstance(found, list) and not 1 <= len(found) <= MAX_MESSAGES:
        raise WrongBody(f"{len(found):,} messages: send 1 to {MAX_MESSAGES:,} at once")
    return found
