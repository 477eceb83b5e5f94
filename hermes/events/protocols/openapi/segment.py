"""Describes the paths of Segment's HTTP API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from hermes.events.protocols.openapi import data
from hermes.events.protocols.openapi.example import example_type
from hermes.events.protocols.segment import BEACON, KINDS, SINGLES
from hermes.events.protocols.segment_request import Message, MessageBatch
from hermes.net.control.openapi.operation import (
    JSON,
    RETRY_AFTER,
    Answer,
    Content,
    Example,
    Operation,
    Parameter,
    Tag,
    problem,
)
from hermes.net.control.openapi.schemas import restate
from hermes.net.http.rejection import Rejection

TAG = Tag(
    "Segment",
    "Segment's HTTP API, for its libraries and RudderStack's: set the host to this address, and the write key to one "
    "of API_KEYS.",
)

_BATCHES = {"/v1/batch": "", "/v1/import": ", as for an import", BEACON: ", as a page closes"}
_SHORT = ", by the short path of the browser library"


class SegmentAnswer(msgspec.Struct):
    """The messages were taken, all but the rejected ones."""

    success: Literal[True]
    accepted: int | UnsetType = UNSET
    rejected: list[Rejection] | UnsetType = UNSET
    more: int | UnsetType = UNSET


class SegmentError(data.Told, kw_only=True):
    """An error in Segment's form."""

    success: Literal[False]
    code: str
    message: str


class SegmentMessage(Message, rename="camel"):
    """One message. ``userId`` or ``anonymousId`` is needed, or of a ``merge`` its ``mergeProperties``.

    ``properties``, ``traits``, ``context`` and any other member are kept as they are; ``sentAt`` and ``writeKey`` are
    texts, and anything else in their place is ignored.
    """

    properties: Any = UNSET
    traits: Any = UNSET
    context: Any = UNSET
    integrations: Any = UNSET


# `MessageBatch` has these members raw, and a raw member has no schema.
SegmentBatch = restate(
    MessageBatch,
    "SegmentBatch",
    "Messages, and what they have in common: `context` and `integrations` are kept with each, as they are; `sentAt` "
    "and `writeKey` are texts, and anything else in their place is ignored.",
    batch=(list[SegmentMessage],),
    **dict.fromkeys(("sent_at", "write_key", "context", "integrations"), (Any, UNSET)),
)


def declare_messages(path: str, event_types: Sequence[str]) -> Operation:
    """Return the operation of a path that takes messages; ``event_types`` are the types that EVENT_TYPES allows.

    >>> declare_messages("/v1/t", ["*"]).same_as
    '/v1/track'
    """
    if path not in SINGLES:
        batch = {"batch": [{"type": "track", "event": example_type(event_types), "userId": "ann", "messageId": "m-2"}]}
        return _operation(
            path,
            "Send messages" + _BATCHES.get(path, _SHORT),
            "Each message names its kind in `type`.",
            Content(JSON, SegmentBatch, (Example("Messages", batch),)),
            "/v1/batch",
        )
    kind = SINGLES[path]
    message: dict[str, Any] = {"userId": "ann", "messageId": "m-1", "timestamp": "2023-11-14T22:13:20Z"}
    words = f"The event's type is `{kind}`."
    if kind == "track":
        message |= {"event": example_type(event_types), "properties": {"title": "Alive"}}
        words = "The event's type is made from the name in `event`."
    return _operation(
        path,
        f"Send a message: {kind}" + ("" if path == f"/v1/{kind}" else _SHORT),
        words,
        Content(JSON, SegmentMessage, (Example("One message", message),)),
        f"/v1/{kind}",
    )


def declare_settings() -> Operation:
    """The operation of the settings that RudderStack's libraries ask for."""
    return Operation(
        TAG,
        "What RudderStack's libraries ask for before they send",
        "Always the same: an enabled source without destinations.",
        answers=(Answer(200, "The settings.", (Content(JSON, dict[str, Any]),)),),
    )


def declare_library_metrics() -> Operation:
    """The operation that takes the browser library's numbers about itself."""
    return Operation(
        TAG,
        "Take what the browser library says about itself",
        "Nothing of it is kept.",
        bodies=(Content(JSON),),
        body_required=False,
        answers=(
            Answer(200, "Taken.", (Content(JSON, SegmentAnswer),)),
            data.NO_LENGTH,
            problem(413, "The body is larger than 64 KiB."),
            problem(503, "Too many large requests are arriving at once.", RETRY_AFTER),
        ),
    )


def declare_pixel() -> Operation:
    """The operation of the image that is a message."""
    return _declare_image(
        "Send a message as an image",
        Parameter("data", "The message, as JSON in base64 of either alphabet.", str, example="eyJldmVudCI6ImEifQ"),
    )


def declare_query_pixel() -> Operation:
    """The operation of RudderStack's image that is a message."""
    return _declare_image(
        "Send a message as an image (RudderStack's path)",
        Parameter("event", "A member of the message; any other is a parameter too, `a.b` for one in an object.", str),
        Parameter("writeKey", "One of API_KEYS.", str),
    )


def _declare_image(summary: str, *parameters: Parameter) -> Operation:
    error = Content(JSON, SegmentError)
    no_key = "No key in the head or the message, or a wrong one."
    return Operation(
        TAG,
        summary,
        "For mails and pages without scripts. The answer to a message that was taken, or is not valid, is one "
        "transparent pixel.",
        (
            Parameter("kind", "What the message is.", Literal[KINDS], "path", required=True),
            *parameters,
            # All but Content-Encoding: a GET has no body.
            *data.HEADERS[1:],
        ),
        answers=(
            Answer(200, "One pixel.", (Content("image/gif"),)),
            Answer(400, "The data is no JSON in base64, or a header is wrong.", (error, data.DETAILS)),
            Answer(404, "There is no such kind of message.", (data.DETAILS,)),
            # A GET has no body, so neither a length nor a coding can be wrong.
            *(
                answer
                for answer in data.declare_refusals(error, lane=data.DETAILS, no_key=no_key)
                if answer.status not in (411, 415)
            ),
        ),
    )


def _operation(path: str, summary: str, words: str, body: Content, main: str) -> Operation:
    error = Content(JSON, SegmentError)
    taken = Content(JSON, SegmentAnswer, (Example("All were valid", {"success": True}),))
    return Operation(
        TAG,
        summary,
        words,
        data.HEADERS,
        (body,),
        answers=(
            Answer(200, "The messages were taken, all but the rejected ones, which may be all of them.", (taken,)),
            Answer(400, "The request is malformed.", (error, data.DETAILS)),
            *data.declare_refusals(
                error,
                lane=data.DETAILS,
                no_key="No key in the head or the body, or a wrong one.",
                untaken="The Content-Encoding is not taken.",
            ),
        ),
        same_as="" if path == main else main,
    )
