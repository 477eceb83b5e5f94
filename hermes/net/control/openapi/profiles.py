"""Describes the profiles: one operation for each, with the bounds of its parameters.

Imported when a document is first asked for: the import brings the modules for debugging, tracemalloc among them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta

from hermes.net.control.openapi.operation import (
    DEBUGGING,
    JSON,
    RETRY_AFTER,
    Answer,
    Content,
    Operation,
    Parameter,
    problem,
)
from hermes.observe.debug.block import DEFAULT_THRESHOLD, MIN_THRESHOLD
from hermes.observe.debug.heap import DEFAULT_DEPTH, MAX_DEPTH
from hermes.observe.debug.profile import DEFAULT_HZ, MAX_HZ
from hermes.observe.debug.routes import CPU_SECONDS, MAX_HEAP_SECONDS, MAX_SECONDS, MIN_SECONDS, PREFIX, WATCH_SECONDS

_PLAIN = "text/plain"
_PPROF = "application/octet-stream"
_FOREVER = 10_000  # milliseconds, the highest threshold of a block profile


def describe_profiles() -> Iterator[Operation]:
    """The operations of ``/debug/pprof/{name}``."""
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
        DEBUGGING,
        summary,
        words,
        parameters,
        answers=(Answer(200, "The profile.", contents), *(refused if parameters else ())),
        path=PREFIX + name,
    )


def _seconds(default: float, most: float = MAX_SECONDS) -> Parameter:
    kind = Annotated[float, Meta(ge=MIN_SECONDS, le=most, extra_json_schema={"default": default})]
    return Parameter("seconds", "How long to watch.", kind, example=5)


def _whole(name: str, words: str, default: int, most: int) -> Parameter:
    return Parameter(name, words, Annotated[int, Meta(ge=1, le=most, extra_json_schema={"default": default})])


def _format(*names: str) -> Parameter:
    return Parameter("format", "How it is written.", Literal[names], example=names[-1])
