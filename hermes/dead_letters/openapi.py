"""Describes the endpoints of dead letters. Imported when a document is first asked for."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from hermes.dead_letters.contract import MAX_NUMBER
from hermes.dead_letters.http import MOST_REPLAYED, REPLAY_SECONDS
from hermes.dead_letters.notation import SINCE
from hermes.dead_letters.parameters import Listing, Purging, Replaying
from hermes.events.event import Event
from hermes.net.control.openapi.operation import (
    JSON,
    RETRY_AFTER,
    Answer,
    Content,
    Example,
    Operation,
    Parameter,
    Tag,
    WrongParameter,
    problem,
    query_of,
)
from hermes.net.control.openapi.schemas import restate

TAG = Tag("Dead letters", "Events that a sink refused for good: to look at, to send again, to remove.")

_SELECTION = {
    "sink": "Letters that this sink refused.",
    "type": "Letters of this event type.",
    "reason": "Letters whose reason contains this text, in upper or lower case.",
    "since": f"Letters refused since then: {SINCE}.",
    "numbers": "Letters with these numbers.",
}
_EXAMPLES = {"sink": "postgres", "reason": "out of range", "since": "2h", "numbers": [17, 18]}
_DRY_RUN = "Count only, and change nothing."
_PAGING = {"after": "Letters with higher numbers.", "limit": "The most letters of the page."}
_REPLAYING = {"rate": f"The most letters a second. The request then sends the letters of {REPLAY_SECONDS:g} s at most."}
_PURGING = {"all": "All letters. Needed if there is no filter.", "dry_run": _DRY_RUN}

# In the service the payload is raw bytes, whose schema msgspec cannot know.
LetterEvent = restate(
    Event, "LetterEvent", "The event, as it would be sent to `POST /events`.", payload=(dict[str, Any],)
)


class Letter(msgspec.Struct):
    """One refused event. Times are in Unix seconds."""

    number: Annotated[int, Meta(ge=1)]
    sink: str
    reason: str
    attempts: int
    rejected_at: float
    received_at: float
    event: LetterEvent  # type: ignore[valid-type]


class Letters(msgspec.Struct):
    """A page of dead letters, in the order of their numbers."""

    letters: list[Letter]
    next: int | None
    """The number to ask for with ``after`` to get the next page; null on the last one."""
    total: int
    """The number of letters that match."""


class SinkReplay(msgspec.Struct):
    """The result of a replay for one sink, in letters."""

    sink: str
    delivered: int
    refused: int
    left: int
    """Letters that were not tried."""
    stopped: str | None
    """Why some were not tried; null if all were tried or the request set a bound."""


class Replay(msgspec.Struct):
    """The result of a replay, in letters."""

    delivered: int
    refused: int
    left: int
    sinks: list[SinkReplay]
    dry_run: bool


class Purge(msgspec.Struct):
    """The result of a purge, in letters."""

    matched: int
    removed: int
    dry_run: bool


_A_PAGE = Example(
    "One letter",
    {
        "letters": [
            {
                "number": 17,
                "sink": "postgres",
                "reason": "22003: integer out of range",
                "attempts": 1,
                "rejected_at": 1700000005.2,
                "received_at": 1700000005.1,
                "event": {
                    "id": "1f0c",
                    "user_id": "ann",
                    "type": "song_played",
                    "timestamp": 1700000000,
                    "payload": {"title": "Alive"},
                },
            }
        ],
        "next": None,
        "total": 1,
    },
)
_A_REPLAY = Example(
    "One was taken",
    {
        "delivered": 1,
        "refused": 0,
        "left": 0,
        "sinks": [{"sink": "postgres", "delivered": 1, "refused": 0, "left": 0, "stopped": None}],
        "dry_run": False,
    },
)

_WRONG = problem(400, "The request is malformed, or a parameter is wrong.", kind=WrongParameter)
_UNAVAILABLE = problem(503, "The store of the dead letters does not work.", RETRY_AFTER)

OPERATIONS = {
    "list": Operation(
        TAG,
        "List dead letters",
        "The letters that match every given filter, by number. `next` leads to the next page.",
        query_of(Listing, _SELECTION | _PAGING, _EXAMPLES),
        answers=(Answer(200, "A page of letters.", (Content(JSON, Letters, (_A_PAGE,)),)), _WRONG, _UNAVAILABLE),
    ),
    "letter": Operation(
        TAG,
        "Show a dead letter",
        parameters=(
            Parameter("number", "Its number.", Annotated[int, Meta(ge=1, le=MAX_NUMBER)], "path", True, example=1),
        ),
        answers=(
            Answer(200, "The letter.", (Content(JSON, Letter),)),
            problem(404, "There is no such letter."),
            _UNAVAILABLE,
        ),
    ),
    "replay": Operation(
        TAG,
        "Send dead letters to their sinks again",
        f"At most {MOST_REPLAYED} letters for each request; `left` says how many more there are. A letter that its "
        "sink takes leaves the store. Each parameter comes in the query or in a JSON object; without any, all are "
        "sent.",
        query_of(Replaying, _SELECTION | _REPLAYING | {"dry_run": _DRY_RUN}, _EXAMPLES),
        (Content(JSON, Replaying, (Example("The letters of one sink", {"sink": "postgres", "rate": 100}),)),),
        body_required=False,
        answers=(
            Answer(200, "The result.", (Content(JSON, Replay, (_A_REPLAY,)),)),
            _WRONG,
            problem(409, "Another replay is under way.", RETRY_AFTER),
            problem(413, "The body is larger than 1 MiB."),
            _UNAVAILABLE,
        ),
    ),
    "purge": Operation(
        TAG,
        "Remove dead letters",
        "For good. A filter or `all` is required.",
        query_of(Purging, _SELECTION | _PURGING, _EXAMPLES),
        answers=(
            Answer(200, "The number of removed letters.", (Content(JSON, Purge),)),
            _WRONG,
            _UNAVAILABLE,
        ),
    ),
}
"""By the name that `hermes.dead_letters.http` gives each endpoint."""
