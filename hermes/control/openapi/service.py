"""What the other routes declare that the address of events serves, health and debugging among them.

Called when the document of either address is first asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hermes.control.openapi.operation import JSON, RETRY_AFTER, Answer, Content, Example, Operation, Parameter, problem
from hermes.debug.block import DEFAULT_THRESHOLD, MIN_THRESHOLD
from hermes.debug.heap import DEFAULT_DEPTH, MAX_DEPTH
from hermes.debug.profile import DEFAULT_HZ, MAX_HZ
from hermes.debug.routes import CPU_SECONDS, MAX_HEAP_SECONDS, MAX_SECONDS, MIN_SECONDS, PREFIX, WATCH_SECONDS

TAGS = {
    "Service": "How the service is, for machines.",
    "Debugging": "Accounts and profiles: on the admin address, and where events come in with DEBUG_ENDPOINTS=true.",
    "Documentation": "This.",
}

HTML = "text/html"
_PLAIN = "text/plain"
_PPROF = "application/octet-stream"
_FOREVER = 10_000  # milliseconds, the highest threshold of a block profile


class Health(msgspec.Struct):
    """The process answers."""

    status: Literal["ok"]


class Ready(msgspec.Struct):
    """Events are taken."""

    status: Literal["ready"]


class Index(msgspec.Struct):
    """What listens here."""

    service: Literal["hermes"]
    version: str
    paths: list[str]


class SinkAccount(msgspec.Struct):
    """The sums of one sink, in events.

    accepted = delivered + dead_lettered + evicted + spilled + dropped + in_flight
    """

    sink: str
    accepted: int
    replayed: int
    """The part of the accepted ones that an earlier run left in the journal, or that were sent again."""
    delivered: int
    dead_lettered: int
    """Refused for good, and a dead letter has each."""
    evicted: int
    """Refused for good, and the dead letter had to make room for newer ones."""
    spilled: int
    """Kept in the journal for the next start."""
    dropped: dict[str, int]
    """By reason."""
    in_flight: int
    """In memory or on disk, without an outcome."""


class JournalAccount(msgspec.Struct):
    """What the journal holds. Places are indexes of its records."""

    first: int
    next: int
    bytes: int
    events: int
    commits: int
    failed_commits: int
    cursors: dict[str, int]
    """How far each sink has come."""
    failing: str | None
    """Why its storage does not work, while it does not."""


class Accounts(msgspec.Struct):
    """The books: what became of every accepted event."""

    accepted: int
    sinks: list[SinkAccount]
    journal: JournalAccount | None


def declare_health() -> Operation:
    """``GET /health``, on either address."""
    return Operation(
        "GET",
        "/health",
        "Service",
        "Is the process alive?",
        answers=(Answer(200, "It is.", (Content(JSON, Health),)),),
    )


def declare_service() -> Iterator[Operation]:
    """The operations beside the data routes."""
    yield declare_health()
    yield Operation(
        "GET",
        "/ready",
        "Service",
        "Are events taken?",
        answers=(
            Answer(200, "They are.", (Content(JSON, Ready),)),
            problem(503, "A stop is under way, or the journal cannot be written.", RETRY_AFTER),
        ),
    )
    counts = Example("Two minutes", {"ad_clicked:28333333": 3, "song_played:28333333": 12, "song_played:28333334": 9})
    yield Operation(
        "GET",
        "/aggregates",
        "Service",
        "Count events by type and minute",
        "The keys are `type:minute`, the minute being `timestamp // 60`; the oldest minute comes first. Kept for "
        "AGGREGATE_MINUTES minutes.",
        answers=(Answer(200, "The counts.", (Content(JSON, dict[str, Annotated[int, Meta(ge=0)]], (counts,)),)),),
    )
    yield Operation(
        "GET",
        "/metrics",
        "Service",
        "Show the metrics for Prometheus",
        answers=(
            Answer(
                200,
                "The text format, or OpenMetrics when that is asked for.",
                (Content(_PLAIN, str), Content("application/openmetrics-text", str)),
            ),
        ),
    )
    yield Operation(
        "GET",
        "/",
        "Service",
        "Say what listens here",
        "A browser gets a page, everybody else JSON.",
        answers=(Answer(200, "What listens here.", (Content(JSON, Index), Content(HTML, str))),),
    )
    yield from declare_debug(secured=False)


def declare_documentation() -> Iterator[Operation]:
    """The document and the page that shows it, on either address."""
    yield Operation(
        "GET",
        "/openapi.json",
        "Documentation",
        "Describe this address in OpenAPI 3.1",
        answers=(
            Answer(200, "The document.", (Content(JSON, dict[str, Any]),)),
            Answer(304, "It is still the one that `If-None-Match` names."),
        ),
    )
    yield Operation(
        "GET",
        "/docs",
        "Documentation",
        "Show the same as a page",
        answers=(
            Answer(200, "The page.", (Content(HTML, str),)),
            Answer(304, "It is still the one that `If-None-Match` names."),
        ),
    )


def declare_debug(*, secured: bool) -> Iterator[Operation]:
    """Accounts and profiles. The keys of ingest do not guard them."""
    yield Operation(
        "GET",
        "/debug/accounting",
        "Debugging",
        "Show the books",
        "For every sink, at every moment: accepted = delivered + dead-lettered + spilled + dropped + in flight.",
        answers=(Answer(200, "The accounts.", (Content(JSON, Accounts),)),),
        secured=secured,
    )
    for operation in _profiles():
        yield replace(operation, secured=secured)


def _profiles() -> Iterator[Operation]:
    yield _profile("", "List the profiles", "A page with links.", (), (Content(HTML, str),))
    yield _profile(
        "profile",
        "Sample where CPU time goes",
        "Answers after that time. One profile is made at a time.",
        (
            _seconds(CPU_SECONDS),
            _whole("hz", "Samples a second.", DEFAULT_HZ, MAX_HZ),
            _format("pprof", "speedscope", "folded"),
        ),
        (Content(_PPROF), Content(JSON), Content(_PLAIN, str)),
    )
    yield _profile(
        "heap",
        "Sample what allocates memory",
        "Watches for that time, and answers then.",
        (
            _seconds(WATCH_SECONDS, MAX_HEAP_SECONDS),
            _whole("depth", "Frames of each stack.", DEFAULT_DEPTH, MAX_DEPTH),
            _format("pprof", "text"),
        ),
        (Content(_PPROF), Content(_PLAIN, str)),
    )
    for name in ("tasks", "goroutine"):
        yield _profile(
            name,
            "Show the tree of tasks" if name == "tasks" else "Show the tree of tasks, by Go's name",
            "What each Trio task waits for.",
            (_format("pprof", "text", "tree", "json"),),
            (Content(_PPROF), Content(JSON), Content(_PLAIN, str)),
        )
    threshold = Annotated[float, Meta(ge=MIN_THRESHOLD * 1e3, le=_FOREVER)]
    yield _profile(
        "block",
        "Catch what blocks the run loop",
        "Watches for that time, and answers then.",
        (
            _seconds(WATCH_SECONDS),
            Parameter("threshold_ms", f"The shortest block that counts ({DEFAULT_THRESHOLD * 1e3:g}).", threshold),
            _format("pprof", "text", "json"),
        ),
        (Content(_PPROF), Content(JSON), Content(_PLAIN, str)),
    )
    yield _profile("memory", "Sum up the memory", "", (_format("text", "json"),), (Content(_PLAIN, str), Content(JSON)))


def _profile(
    name: str, summary: str, words: str, parameters: tuple[Parameter, ...], contents: tuple[Content, ...]
) -> Operation:
    refused = (
        problem(400, "The request is malformed, or a parameter is out of its bounds."),
        problem(501, "This Python, or this platform, cannot make the profile."),
        problem(503, "Another profile is being made, or was just made.", RETRY_AFTER),
    )
    return Operation(
        "GET",
        PREFIX + name,
        "Debugging",
        summary,
        words,
        parameters,
        answers=(Answer(200, "The profile." if name else "The page.", contents), *(refused if parameters else ())),
        rule=PREFIX + "{name}" if name else "",
    )


def _seconds(default: float, most: float = MAX_SECONDS) -> Parameter:
    kind = Annotated[float, Meta(ge=MIN_SECONDS, le=most, extra_json_schema={"default": default})]
    return Parameter("seconds", "How long to watch.", kind, example=5)


def _whole(name: str, words: str, default: int, most: int) -> Parameter:
    return Parameter(name, words, Annotated[int, Meta(ge=1, le=most, extra_json_schema={"default": default})])


def _format(*names: str) -> Parameter:
    return Parameter("format", "How it is written.", Literal[names], example=names[-1])
