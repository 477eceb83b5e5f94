"""Describes the broker's endpoints. Imported when a document is first asked for."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from hermes.broker.http import bodies
from hermes.broker.http.data import MOST_PEEKED, StoredView
from hermes.broker.http.operating import MOST_LISTED
from hermes.broker.http.views import GroupView, LeaseView, MessageView, TopicView
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

TAG = Tag("Broker", "Topics of messages, which groups of consumers lease, one message to one consumer of each group.")

_Number = Annotated[int, Meta(ge=0, lt=10**18)]
_TOPIC = Parameter(
    "topic", "The name of the topic.", Annotated[str, Meta(min_length=1)], "path", True, example="orders"
)
_GROUP = Parameter(
    "group", "The name of the group.", Annotated[str, Meta(min_length=1)], "path", True, example="billing"
)


class StoredMessages(StoredView):
    """What became of one message; or of each, in the order of the request, if it was an array."""

    stored: list[StoredView] | msgspec.UnsetType = msgspec.UNSET


class Messages(msgspec.Struct):
    """Messages, in the order of their delivery."""

    messages: list[MessageView]


class PeekedMessages(msgspec.Struct):
    """Messages by offset; ``next`` is the offset of the first one that is not here, null at the end."""

    messages: list[MessageView]
    next: int | None


class NewLeases(msgspec.Struct, omit_defaults=True):
    """With a delay the new lease of each message; null where the old lease was gone, or the message a dead letter."""

    leases: list[int | None] | msgspec.UnsetType = msgspec.UNSET


class Leases(msgspec.Struct):
    """The leases that there were."""

    leases: list[int]


class Nothing(msgspec.Struct):
    """An empty object."""


class Topics(msgspec.Struct):
    """A page of topics by name; ``next`` is the ``after`` of the next page."""

    topics: list[TopicView]
    next: str | None
    total: int


class Groups(msgspec.Struct):
    """A page of groups by name; ``next`` is the ``after`` of the next page."""

    groups: list[GroupView]
    next: str | None
    total: int


class GroupPage(msgspec.Struct):
    """A group; ``why`` says in a sentence why it gets nothing. The leases that end first, 100 at most."""

    why: str
    group: GroupView | None
    leases: list[LeaseView]


_WRONG = problem(400, "The body, a parameter or a name is wrong; the detail says how.")
_NO_TOPIC = problem(404, "There is no such topic.")
_UNAVAILABLE = problem(503, "Another node leads, or the broker's log takes no entry.", RETRY_AFTER)
_FULL = problem(409, "There are too many topics, groups, or messages that wait for their time.")
_DONE = Answer(200, "Done. A lease that is gone was passed over.", (Content(JSON, Nothing),))
_PEEK = Operation(
    TAG,
    "Look at messages",
    "From an offset on, whoever has leased or done them. Nothing changes.",
    (
        _TOPIC,
        Parameter("offset", "The first offset; the oldest retained one unless told.", _Number),
        Parameter("limit", f"The most messages, {MOST_PEEKED} at most; 10 unless told.", _Number),
    ),
    answers=(Answer(200, "Messages.", (Content(JSON, PeekedMessages),)), _WRONG, _NO_TOPIC, _UNAVAILABLE),
)
_PRODUCE = Operation(
    TAG,
    "Store messages",
    f"One object, or an array of up to {bodies.MAX_MESSAGES:,}. The answer comes when all are durable. A message with "
    "a `producer_id` is stored once for each `seq`. With `delay` a message enters the topic later, and has an `id` "
    "until then. Messages of one `key` are delivered to a group one after the other.",
    (_TOPIC,),
    (
        Content(
            JSON,
            bodies.NewMessages,
            (
                Example("One message", {"payload": {"order": 17}, "key": "ann"}),
                Example("Two, the second later", [{"text": "now"}, {"text": "later", "delay": "90s"}]),
            ),
        ),
    ),
    answers=(
        Answer(201, "Stored.", (Content(JSON, StoredMessages),)),
        _WRONG,
        _FULL,
        problem(413, "A payload is larger than 1 MiB."),
        _UNAVAILABLE,
    ),
)


def _of_group(summary: str, words: str, kind: Any, example: Any, *answers: Answer) -> Operation:
    content = Content(JSON, kind, (Example(summary, example),))
    return Operation(TAG, summary, words, (_TOPIC, _GROUP), (content,), answers=(*answers, _WRONG, _UNAVAILABLE))


def describe_data() -> dict[str, Operation]:
    """The operations by the names that `hermes.broker.http.data` uses."""
    return {
        "produce": _PRODUCE,
        "peek": _PEEK,
        "cancel": Operation(
            TAG,
            "Cancel a message that waits for its time",
            parameters=(_TOPIC, Parameter("id", "The id that the produce gave.", _Number, "path", True, example=1)),
            answers=(_DONE, problem(404, "It has entered its topic, or was cancelled."), _UNAVAILABLE),
        ),
        "poll": _of_group(
            "Lease messages",
            "Higher priorities first, then older ones. A message that is not acknowledged within `visibility` is "
            "delivered again. The first poll makes the group.",
            bodies.PollBody,
            {"max": 10, "visibility": "30s", "wait": "20s"},
            Answer(200, "Messages, or none.", (Content(JSON, Messages),)),
            problem(429, "The rate of the topic is used up.", RETRY_AFTER),
        ),
        "ack": _of_group("Acknowledge messages", "They are done.", bodies.AckBody, {"leases": [7]}, _DONE),
        "nack": _of_group(
            "Give messages back",
            "They are delivered again, at once or after `delay`. Each attempt counts.",
            bodies.NackBody,
            {"leases": [7], "delay": "90s", "reason": "the mail server is away"},
            Answer(200, "Given back.", (Content(JSON, NewLeases),)),
        ),
        "extend": _of_group(
            "Extend leases",
            "They end so long from now.",
            bodies.ExtendBody,
            {"leases": [7], "visibility": "2m"},
            Answer(200, "Extended.", (Content(JSON, Leases),)),
        ),
        "forward": _of_group(
            "Acknowledge one message and store another",
            "Both or neither, in one entry of the log.",
            bodies.ForwardBody,
            {"lease": 7, "topic": "invoices", "message": {"payload": {"order": 17}}},
            Answer(201, "Both.", (Content(JSON, StoredView),)),
            _FULL,
            problem(410, "The lease is gone: nothing was done."),
            problem(413, "The payload is larger than 1 MiB."),
        ),
        "commit": _of_group("Mark everything below an offset as done", "", bodies.CommitBody, {"offset": 18}, _DONE),
    }


def _paging(*parameters: Parameter) -> tuple[Parameter, ...]:
    return (
        *parameters,
        Parameter("after", "Names beyond this one.", str),
        Parameter("limit", f"The most names, {MOST_LISTED} at most; 100 unless told.", _Number),
    )


def describe_operating() -> dict[str, Operation]:
    """The operations by the names that `hermes.broker.http.operating` uses."""
    return {
        "produce": _PRODUCE,
        "peek": _PEEK,
        "topics": Operation(
            TAG,
            "List topics",
            parameters=_paging(),
            answers=(Answer(200, "A page of topics.", (Content(JSON, Topics),)), _WRONG),
        ),
        "set": Operation(
            TAG,
            "Make a topic, and set its limits",
            "A limit that is left out stays as it is.",
            (_TOPIC,),
            (Content(JSON, bodies.TopicBody, (Example("Bounded", {"rate": 100, "burst": 10, "max_age": "168h"}),)),),
            body_required=False,
            answers=(Answer(200, "The topic.", (Content(JSON, TopicView),)), _WRONG, _FULL, _UNAVAILABLE),
        ),
        "delete": Operation(
            TAG,
            "Forget a topic",
            "With its messages, groups, leases and limits, for good.",
            (_TOPIC,),
            answers=(_DONE, _NO_TOPIC, _UNAVAILABLE),
        ),
        "groups": Operation(
            TAG,
            "List the groups of a topic",
            parameters=_paging(_TOPIC),
            answers=(Answer(200, "A page of groups.", (Content(JSON, Groups),)), _WRONG, _NO_TOPIC),
        ),
        "group": Operation(
            TAG,
            "Show a group, and say why it gets nothing",
            parameters=(_TOPIC, _GROUP),
            answers=(Answer(200, "The group, and the sentence.", (Content(JSON, GroupPage),)),),
        ),
        "set_group": Operation(
            TAG,
            "Pause or resume a group, or limit its attempts",
            "A setting that is left out stays as it is.",
            (_TOPIC, _GROUP),
            (Content(JSON, bodies.GroupBody, (Example("Paused", {"paused": True}),)),),
            answers=(Answer(200, "The group.", (Content(JSON, GroupView),)), _WRONG, _NO_TOPIC, _FULL, _UNAVAILABLE),
        ),
    }
