"""What the routes of the admin address declare: the status, the feeds, and the dead letters.

Called when the document of that address is first asked for, which lends the type of the status.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from hermes.control.dead_letters import MOST_REPLAYED, REPLAY_SECONDS, Listing, Purging, Replaying
from hermes.control.live import MOST_STREAMS
from hermes.control.openapi.operation import (
    JSON,
    RETRY_AFTER,
    Answer,
    Content,
    Example,
    Operation,
    Parameter,
    WrongParameter,
    problem,
    query_of,
)
from hermes.control.openapi.schemas import restate
from hermes.control.openapi.service import HTML, declare_debug, declare_health
from hermes.control.rejected import MOST_FOLLOWERS, RejectedList
from hermes.dead_letters.contract import MAX_NUMBER
from hermes.dead_letters.notation import SINCE
from hermes.event import Event

TAGS = {
    "Status": "How the service is, for people and for dashboards.",
    "Dead letters": "Events that a sink refused for good: to look at, to send again, to forget.",
}

_SELECTION = {
    "sink": "Those that this sink refused.",
    "type": "Those of this event type.",
    "reason": "Those with this in their reason, in any case.",
    "since": f"Those refused since then: {SINCE}.",
    "numbers": "Those with these numbers.",
}
_EXAMPLES = {"sink": "postgres", "reason": "out of range", "since": "2h", "numbers": [17, 18]}
_DRY_RUN = "Count only, and change nothing."


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
    """How many match in all."""


class SinkReplay(msgspec.Struct):
    """What became of the letters of one sink."""

    sink: str
    delivered: int
    refused: int
    left: int
    """Those that were not tried."""
    stopped: str | None
    """Why not all were tried, where it was not this request's wish."""


class Replay(msgspec.Struct):
    """What became of a replay, in letters."""

    delivered: int
    refused: int
    left: int
    sinks: list[SinkReplay]
    dry_run: bool


class Purge(msgspec.Struct):
    """What became of a purge, in letters."""

    matched: int
    removed: int
    dry_run: bool


def declare_admin(status: type[msgspec.Struct]) -> Iterator[Operation]:
    """The operations of the admin address; ``status`` is the type of the status."""
    yield Operation(
        "GET",
        "/",
        "Status",
        "Show the dashboard",
        answers=(Answer(200, "The page.", (Content(HTML, str),)), _UNCHANGED),
    )
    yield Operation(
        "GET",
        "/status",
        "Status",
        "Tell how the service is",
        answers=(Answer(200, "How it is now.", (Content(JSON, status),)),),
        secured=True,
    )
    yield Operation(
        "GET",
        "/live",
        "Status",
        "Tell how the service is, every second",
        "Server-sent events: `status`, whose data is what `/status` answers, at once and then every second; and `end` "
        "when the service stops.",
        answers=(
            Answer(200, "The stream.", (Content("text/event-stream", str),)),
            problem(503, f"{MOST_STREAMS} watch already.", RETRY_AFTER),
        ),
        secured=True,
        endless=True,
    )
    yield Operation(
        "GET",
        "/tap",
        "Status",
        "Follow live events",
        'A line of JSON for each event, as it comes in. `{"skipped": n}` stands where n events were more than the '
        "reader could take, an empty line where nothing came for a while.",
        (
            Parameter("type", "Events of these types alone.", list[str], example=["song_played"]),
            Parameter("user", "Events of this user alone.", str, example="ann"),
            Parameter(
                "sample",
                "A part of the events, chosen by their ids.",
                Annotated[float, Meta(gt=0, le=1, extra_json_schema={"default": 1})],
                example=0.1,
            ),
        ),
        answers=(
            Answer(200, "The events.", (Content("application/x-ndjson", str),)),
            problem(400, "The request is malformed, or a parameter is wrong.", kind=WrongParameter),
            problem(503, "As many as can follow the events already.", RETRY_AFTER),
        ),
        secured=True,
        endless=True,
    )
    yield Operation(
        "GET",
        "/rejected",
        "Status",
        "List the latest rejected events",
        "Those that were not taken, with the reason that their client was told: single events of a request, or a "
        "request as a whole.",
        answers=(Answer(200, "The rejected events.", (Content(JSON, RejectedList),)),),
        secured=True,
    )
    yield Operation(
        "GET",
        "/rejected/live",
        "Status",
        "Follow rejected events",
        'A line of JSON for each, those that are kept first. `{"skipped": n}` stands where n were more than are kept, '
        "an empty line where nothing came for a while.",
        answers=(
            Answer(200, "The rejected events.", (Content("application/x-ndjson", str),)),
            problem(503, f"{MOST_FOLLOWERS} follow already.", RETRY_AFTER),
        ),
        secured=True,
        endless=True,
    )
    yield from _dead_letters()
    yield declare_health()
    yield from declare_debug(secured=True)


_UNCHANGED = Answer(304, "It is still the one that `If-None-Match` names.")
_WRONG = problem(400, "The request is malformed, or a parameter is wrong.", kind=WrongParameter)
_UNAVAILABLE = problem(503, "The store of the dead letters does not work.", RETRY_AFTER)


def _dead_letters() -> Iterator[Operation]:
    tag = "Dead letters"
    paging = {"after": "Those with higher numbers.", "limit": "The most letters of the page."}
    yield Operation(
        "GET",
        "/dead-letters",
        tag,
        "List dead letters",
        "Those that match everything that is given, by number. `next` leads to the next page.",
        query_of(Listing, _SELECTION | paging, _EXAMPLES),
        answers=(Answer(200, "A page of letters.", (Content(JSON, Letters, (_A_PAGE,)),)), _WRONG, _UNAVAILABLE),
        secured=True,
    )
    yield Operation(
        "GET",
        "/dead-letters/{number}",
        tag,
        "Show a dead letter",
        parameters=(
            Parameter("number", "Its number.", Annotated[int, Meta(ge=1, le=MAX_NUMBER)], "path", True, example=1),
        ),
        answers=(
            Answer(200, "The letter.", (Content(JSON, Letter),)),
            problem(404, "There is no such letter."),
            _UNAVAILABLE,
        ),
        secured=True,
    )
    replaying = {"rate": f"The most letters a second; then no more are sent than go in {REPLAY_SECONDS:g} s."}
    yield Operation(
        "POST",
        "/dead-letters/replay",
        tag,
        "Send dead letters to their sinks again",
        f"At most {MOST_REPLAYED} of a request; `left` says how many more there are. What a sink takes leaves the "
        "store. The parameters come in the query or as a JSON object, each in one of them; without any, all are sent.",
        query_of(Replaying, _SELECTION | replaying | {"dry_run": _DRY_RUN}, _EXAMPLES),
        (Content(JSON, Replaying, (Example("Those of one sink", {"sink": "postgres", "rate": 100}),)),),
        body_required=False,
        answers=(
            Answer(200, "What became of them.", (Content(JSON, Replay, (_A_REPLAY,)),)),
            _WRONG,
            problem(409, "Another replay is under way.", RETRY_AFTER),
            problem(413, "The body is larger than 1 MiB."),
            _UNAVAILABLE,
        ),
        secured=True,
    )
    purging = {"all": "All of them. Needed where nothing else says which.", "dry_run": _DRY_RUN}
    yield Operation(
        "DELETE",
        "/dead-letters",
        tag,
        "Forget dead letters",
        "For good. A filter, or `all`, has to say which.",
        query_of(Purging, _SELECTION | purging, _EXAMPLES),
        answers=(
            Answer(200, "How many were forgotten.", (Content(JSON, Purge),)),
            _WRONG,
            _UNAVAILABLE,
        ),
        secured=True,
    )


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
