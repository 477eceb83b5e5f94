"""Describes the endpoints of dead letters. Imported when a document is first asked for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from hermes.dead_letters.contract import MAX_NUMBER
from hermes.dead_letters.http import MOST_REPLAYED, REPLAY_SECONDS
from hermes.dead_letters.notation import SINCE
from hermes.dead_letters.parameters import Listing, Purging, Replaying
from hermes.dead_letters.view import PLAIN, LetterView
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

TAG = Tag("Dead letters", "What was refused for good, such as events by a sink: to look at, to send again, to remove.")

_SELECTION = {
    "part": "Letters of this part of Hermes.",
    "source": "Letters of the source of this name in its part.",
    "sink": "Letters that this sink refused.",
    "type": "Letters with this `type` among their facts, such as events of this type.",
    "reason": "Letters whose reason contains this text, in upper or lower case.",
    "since": f"Letters refused since then: {SINCE}.",
    "numbers": "Letters with these numbers.",
}
_EXAMPLES = {"sink": "postgres", "reason": "out of range", "since": "2h", "numbers": [17, 18]}
_DRY_RUN = "Count only, and change nothing."
_PAGING = {"after": "Letters with higher numbers.", "limit": "The most letters of the page."}
_REPLAYING = {"rate": f"The most letters a second. The request then sends the letters of {REPLAY_SECONDS:g} s at most."}
_PURGING = {"all": "All letters. Needed if there is no filter.", "dry_run": _DRY_RUN}


class Letter(msgspec.Struct):
    """One dead letter. Times are in Unix seconds. Which of the last members it has is up to its part."""

    number: Annotated[int, Meta(ge=1)]
    part: str
    source: str
    """Where it comes from in its part, such as the name of a sink."""
    reason: str
    attempts: int
    rejected_at: float
    received_at: float


class SourceLetters(msgspec.Struct):
    """How many letters one source has."""

    part: str
    source: str
    letters: int


class Letters(msgspec.Struct):
    """A page of dead letters, in the order of their numbers."""

    letters: list[Any]
    next: int | None
    """The number to ask for with ``after`` to get the next page; null on the last one."""
    total: int
    """The number of letters that match."""
    sources: list[SourceLetters]
    """The letters that match, by source."""


class SinkReplay(msgspec.Struct):
    """The result of a replay for one source, in letters."""

    part: str
    sink: str
    """The name of the source."""
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
                "part": "events",
                "source": "postgres",
                "reason": "22003: integer out of range",
                "attempts": 1,
                "rejected_at": 1700000005.2,
                "received_at": 1700000005.1,
                "sink": "postgres",
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
        "sources": [{"part": "events", "source": "postgres", "letters": 1}],
    },
)
_A_REPLAY = Example(
    "One was taken",
    {
        "delivered": 1,
        "refused": 0,
        "left": 0,
        "sinks": [{"part": "events", "sink": "postgres", "delivered": 1, "refused": 0, "left": 0, "stopped": None}],
        "dry_run": False,
    },
)

_WRONG = problem(400, "The request is malformed, or a parameter is wrong.", kind=WrongParameter)
_UNAVAILABLE = problem(503, "The store of the dead letters does not work.", RETRY_AFTER)


def describe_operations(views: Iterable[LetterView]) -> dict[str, Operation]:
    """The operations by the names that `hermes.dead_letters.http` uses; ``views`` are those of the parts that run."""
    letter = _letter_of(views)
    # Only here are the parts known whose letters the page shows, so the type of its letters is put in here.
    page = restate(Letters, "Letters", Letters.__doc__ or "", letters=(list[letter],))  # type: ignore[valid-type]
    return {
        "list": Operation(
            TAG,
            "List dead letters",
            "The letters that match every given filter, by number. `next` leads to the next page.",
            query_of(Listing, _SELECTION | _PAGING, _EXAMPLES),
            answers=(Answer(200, "A page of letters.", (Content(JSON, page, (_A_PAGE,)),)), _WRONG, _UNAVAILABLE),
        ),
        "letter": Operation(
            TAG,
            "Show a dead letter",
            parameters=(
                Parameter("number", "Its number.", Annotated[int, Meta(ge=1, le=MAX_NUMBER)], "path", True, example=1),
            ),
            answers=(
                Answer(200, "The letter.", (Content(JSON, letter),)),
                problem(404, "There is no such letter."),
                _UNAVAILABLE,
            ),
        ),
        "replay": Operation(
            TAG,
            "Send dead letters to their sources again",
            f"At most {MOST_REPLAYED} letters for each request; `left` says how many more there are. A letter that its "
            "source takes leaves the store. Each parameter comes in the query or in a JSON object; without any, "
            "all are sent.",
            query_of(Replaying, _SELECTION | _REPLAYING | {"dry_run": _DRY_RUN}, _EXAMPLES),
            (Content(JSON, Replaying, (Example("The letters of one sink", {"sink": "postgres", "rate": 100}),)),),
            # Every parameter may come in the query instead.
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


def _letter_of(views: Iterable[LetterView]) -> Any:
    """The type of a letter with the members that any of these parts writes, each of which may be missing."""
    members: dict[str, tuple[Any, ...]] = {}
    # PLAIN too: a letter stays in the store when its part is uninstalled, and is then shown plainly.
    for view in (*views, PLAIN):
        for each in msgspec.structs.fields(view.kind()):
            # Each may be missing, because a letter has the members of its own part alone.
            members[each.encode_name] = (each.type | msgspec.UnsetType, msgspec.UNSET)
    return restate(Letter, "Letter", Letter.__doc__ or "", **members)
