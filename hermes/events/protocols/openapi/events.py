"""Describes ``POST /events``: Hermes's own events, and CloudEvents."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from hermes.events.decode import allowed_types
from hermes.events.event import Event
from hermes.events.protocols.cloudevents import BATCH, MARK, STRUCTURED, ContextAttributes
from hermes.events.protocols.openapi import data
from hermes.events.protocols.openapi.example import example_event, example_type
from hermes.net.control.openapi.operation import (
    JSON,
    PROBLEM,
    Answer,
    Content,
    Example,
    NothingTaken,
    Operation,
    Parameter,
    Tag,
    problem,
)
from hermes.net.control.openapi.schemas import restate
from hermes.net.http.rejection import Rejection

TAG = Tag("Events", "Events come in here: Hermes's own, and CloudEvents 1.0 in all three modes of their HTTP binding.")

# The attributes of which Hermes makes a field; any other header that begins with ``ce-`` is kept too.
_ATTRIBUTES = {"id": str, "source": str, "type": str, "subject": str, "time": datetime}

_EVENT = (
    "One event. `id` makes it safe to send again, for the sinks store each once; only in a request with an "
    "Idempotency-Key it may be left out. `timestamp` is in Unix seconds. No string may hold U+0000; other members are "
    "ignored."
)


class Accepted(msgspec.Struct):
    """The events were taken, all but the rejected ones."""

    accepted: Annotated[int, Meta(ge=0)]
    """How many events were taken."""
    rejected: list[Rejection] | UnsetType = UNSET
    """The invalid ones, each with its place in the request and the reason; left out where there are none."""


class NotStored(data.Told, kw_only=True):
    """Problem details, with the state of the events of the request."""

    # RFC 9457 §4.2.1: the problem has no meaning beyond that of its status.
    type: Literal["about:blank"]
    title: str
    status: int
    detail: str


class StructuredCloudEvent(ContextAttributes):
    """A CloudEvent 1.0 in its JSON format. Any other attribute is kept as well."""

    data: Any = UNSET
    data_base64: Any = UNSET
    """Bytes in base64, where the data is no JSON; kept as it is."""


def declare_events(event_types: Sequence[str], *, any_times: bool = False) -> Operation:
    """Return the operation; ``event_types`` are the types that EVENT_TYPES allows, ``any_times``: EVENT_TIMES=any."""
    payload = Annotated[dict[str, Any], Meta(description="Any JSON object, kept byte for byte.")]
    # `Event` has the payload raw, and its other types do not know the settings.
    members: dict[str, Any] = {"type": (allowed_types(event_types),), "payload": (payload, {})}
    words = _EVENT
    if any_times:
        members = {"timestamp": (Annotated[float, Meta(ge=0)] | Annotated[datetime, Meta(tz=True)],), **members}
        words = _EVENT.replace("in Unix seconds", "in Unix seconds or milliseconds, or RFC 3339 text")
    event: Any = restate(Event, "Event", words, **members)
    kind = example_type(event_types)
    first = example_event(event_types)
    second = {"id": "1f0d", "user_id": "bob", "type": kind, "timestamp": 1_700_000_001}
    cloud = {
        "specversion": "1.0",
        "id": "1f0e",
        "source": "https://shop.example/orders",
        "type": kind,
        "subject": "ann",
        "time": "2023-11-14T22:13:20Z",
        "data": {"total": 12.5},
    }
    lines = "".join(msgspec.json.encode(each).decode() + "\n" for each in (first, second))
    return Operation(
        TAG,
        "Send events",
        "One event or many. The valid ones of a request are taken together or not at all, and their ids make it safe "
        "to send a request again. Without a Content-Type, or with that of a form, which `curl -d` sends by itself, the "
        f"body is read as JSON. A request with the header `{MARK}` is a CloudEvent in binary mode, whose attributes "
        "are in its headers, and whose data is the body, of any type.",
        (
            *data.HEADERS,
            Parameter(MARK, "Marks a CloudEvent in binary mode.", Literal["1.0"], "header"),
            *(
                Parameter(f"ce-{name}", f"The attribute `{name}` of a CloudEvent in binary mode.", type_, "header")
                for name, type_ in _ATTRIBUTES.items()
            ),
        ),
        (
            Content(
                JSON,
                event | Annotated[list[event], Meta(min_length=1)],
                (Example("One event", first), Example("Several events", [first, second])),
            ),
            Content(
                "application/x-ndjson",
                str,
                (Example("An event a line", lines),),
                "An event as JSON a line. Other names of this media type, such as application/jsonl, are known.",
            ),
            Content(STRUCTURED, StructuredCloudEvent, (Example("A CloudEvent", cloud),)),
            Content(BATCH, list[StructuredCloudEvent], (Example("A batch of CloudEvents", [cloud]),)),
        ),
        answers=(
            Answer(
                202,
                "The events were taken, all but the rejected ones.",
                (
                    Content(
                        JSON,
                        Accepted,
                        (
                            Example("All were valid", {"accepted": 2}),
                            Example(
                                "One was not",
                                {
                                    "accepted": 1,
                                    "rejected": [{"index": 1, "error": "`id` is a number: expected text"}],
                                },
                            ),
                        ),
                    ),
                ),
            ),
            problem(400, "The request is malformed, or none of its events is valid.", kind=NothingTaken),
            *data.declare_refusals(data.DETAILS, told=Content(PROBLEM, NotStored)),
        ),
    )
