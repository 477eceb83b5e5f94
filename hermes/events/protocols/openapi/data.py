"""Declares the headers, answers and types that all data routes share in their descriptions."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from hermes.events.ack import Ack
from hermes.events.ingest.ids import MAX_KEY
from hermes.net.control.openapi.operation import (
    CHALLENGE,
    PROBLEM,
    RETRY_AFTER,
    Answer,
    Content,
    Header,
    Parameter,
    Problem,
    problem,
)
from hermes.net.http.content import CODINGS
from hermes.net.http.rejection import Rejection

# Made of the codings and the levels that the lane knows, so that the description cannot lack one.
CODING = Literal[tuple(sorted(CODINGS))]  # type: ignore[valid-type]
ACK = Literal[tuple(ack.name.lower() for ack in Ack)]  # type: ignore[valid-type]

HEADERS = (
    Parameter("Content-Encoding", "How the body is compressed.", CODING, "header"),
    Parameter(
        "Hermes-Ack",
        "What to be sure of before the answer: `accepted` (in the queue), `durable` (committed to the journal, which "
        "DURABILITY=disk and DURABILITY=postgres keep) or `delivered` (stored by the sinks). Without it: what "
        "DURABILITY promises.",
        ACK,
        "header",
    ),
    Parameter(
        "Idempotency-Key",
        "Makes a request safe to send again whose events have no ids: they are made from the key, the path and the "
        "place of each event. Without it an event that needs no id of its own gets a new one.",
        Annotated[str, Meta(min_length=1, max_length=MAX_KEY)],
        "header",
        example="8e03978e-40d5-43dd-bc93-6894a57f9324",
    ),
    Parameter(
        "X-Request-Id",
        "An id of the client's own, 1 to 128 printable characters, for the answer to repeat.",
        str,
        "header",
        example="checkout-4711",
    ),
)
"""The headers that every data route reads."""

NO_LENGTH = problem(411, "The request has neither a Content-Length nor `Transfer-Encoding: chunked`.")
TOO_LARGE = "The body is larger than MAX_BODY_BYTES, compressed or not, or has more than QUEUE_SIZE events."
# Not required: RFC 9110 §12.5.3 has this header in a 415 about the coding, and a 415 about the type is without.
NO_CODING = {"Accept-Encoding": Header("What would be taken, where it was the coding.", required=False)}
REFUSED = "Delivery was asked for, and a sink has refused events for good."
NO_ROOM = "The queue or the journal is full, or a stop is under way: nothing was taken, unless `sinks` tells otherwise."
TOO_LATE = "Delivery was asked for, and ACK_TIMEOUT came first."

DETAILS = Content(PROBLEM, Problem)
"""How the lane itself answers a request that no protocol has seen."""


class SinkOutcome(msgspec.Struct):
    """The outcomes of the events of a request at one sink so far."""

    delivered: int
    dead_lettered: int
    dropped: int


class Told(msgspec.Struct, kw_only=True):
    """The state of events that were taken and not all stored, if delivery was asked for."""

    accepted: int | UnsetType = UNSET
    durable: bool | UnsetType = UNSET
    """Whether the journal has them."""
    sinks: dict[str, SinkOutcome] | UnsetType = UNSET
    rejected: list[Rejection] | UnsetType = UNSET


def declare_refusals(
    *error: Content,
    told: Content | None = None,
    lane: Content | None = None,
    no_key: str = "No key, or a wrong one.",
    untaken: str = "The Content-Type or the Content-Encoding is not taken.",
) -> tuple[Answer, ...]:
    """Return the answers 401 to 504, with bodies in a protocol's own forms of an ``error``.

    ``told`` is the form for events that were taken and not stored, if it is not ``error``; ``lane`` is the form of the
    lane, if it is not ``error``; ``no_key`` and ``untaken`` say when 401 and 415 are answered. ::

        answers = (Answer(200, "Taken."), *declare_refusals(Content(JSON, SegmentError), lane=DETAILS))
    """
    not_stored = error if told is None else (told,)
    # The lane judges the length and the load by the head, before a protocol has seen the request.
    early = () if lane is None else (lane,)
    return (
        Answer(401, no_key, error, CHALLENGE),
        NO_LENGTH,
        Answer(413, TOO_LARGE, (*error, *early)),
        Answer(415, untaken, error, NO_CODING),
        Answer(422, REFUSED, not_stored),
        Answer(503, NO_ROOM, (*not_stored, *early), RETRY_AFTER),
        Answer(504, TOO_LATE, not_stored),
    )
