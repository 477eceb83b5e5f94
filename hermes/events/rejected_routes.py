"""The latest rejected events over HTTP, as a list or as a stream.

    GET /rejected        {"total": n, "rejected": [the latest, oldest first]}
    GET /rejected/live   a line of JSON each: first the kept events, then every new one

Between the lines come ``{"skipped": n}`` for n events that the feed no longer keeps, and an empty line at the beginning
and after `HEARTBEAT` seconds without an event. Invariant: a follower holds only the number of the last entry that it
was sent, so the feed never waits for a reader.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Self

import msgspec
import trio

from hermes.events.tap_routes import HEARTBEAT
from hermes.net.control.endpoint import Answer, Endpoint, Request, Streaming
from hermes.net.control.openapi import operation
from hermes.net.control.openapi.operation import JSON, RETRY_AFTER, STATUS, Content, Operation
from hermes.net.http.rejected_feed import Rejected, RejectedFeed
from hermes.net.http.response import Response, problem

LOOK_SECONDS = 0.25
"""The time between two looks of a follower for new entries."""

MOST_FOLLOWERS = 8

_LINES = "application/x-ndjson"
_encode = msgspec.json.Encoder().encode


class RejectedList(msgspec.Struct):
    """The latest rejected events, the oldest first. ``total`` counts all since the start."""

    total: int
    rejected: list[Rejected]


@dataclass
class RejectedDesk:
    """The feed and its followers. ``ended()`` says whether a stop has begun; ``followers`` is how many follow now."""

    feed: RejectedFeed
    ended: Callable[[], bool]
    followers: int = 0


class _Stream(AsyncIterator[bytes]):
    """The lines of one follower."""

    def __init__(self, desk: RejectedDesk) -> None:
        self._desk = desk
        self._sent = 0
        self._begun = False

    # Counted here and not in the constructor: HEAD never enters the body, and would not give its place back.
    async def __aenter__(self) -> Self:
        self._desk.followers += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self._desk.followers -= 1

    async def __anext__(self) -> bytes:
        if not self._begun:
            self._begun = True
            # At once, so that the client sees that it follows before the first event is rejected.
            return b"\n"
        feed = self._desk.feed
        silent_until = trio.current_time() + HEARTBEAT
        # The feed holds nothing for its followers, who look for themselves, so that it never waits for a reader.
        while feed.total == self._sent:
            if self._desk.ended():
                raise StopAsyncIteration
            if trio.current_time() >= silent_until:
                return b"\n"
            await trio.sleep(LOOK_SECONDS)
        # No checkpoint from here to `self._sent`: an entry that came between would be neither sent nor counted as
        # skipped.
        entries = feed.since(self._sent)
        # Entries that were gone before the first look are not counted: the follower was not there to miss them.
        skipped = feed.total - self._sent - len(entries) if self._sent else 0
        self._sent = feed.total
        lines = b"".join(_encode(entry) + b"\n" for entry in entries)
        return lines + (b'{"skipped":%d}\n' % skipped if skipped else b"")


def rejected_endpoints(desk: RejectedDesk) -> tuple[Endpoint, ...]:
    """``/rejected`` and ``/rejected/live``."""

    async def show(_request: Request) -> Answer:
        found = RejectedList(desk.feed.total, desk.feed.since(0))
        # A copy that a browser keeps would show an operator old rejections as the latest.
        return Response(200, _encode(found), headers={"Cache-Control": "no-store"})

    async def follow(_request: Request) -> Answer:
        if desk.followers >= MOST_FOLLOWERS:
            detail = f"{MOST_FOLLOWERS} clients follow already, the most at a time: end one"
            return problem(503, detail, {"Retry-After": "5"})
        return Streaming(_LINES, _Stream(desk))

    return (
        Endpoint("GET", "/rejected", show, _describe_list, "ADMIN_ADDR", "before"),
        Endpoint("GET", "/rejected/live", follow, _describe_feed, "ADMIN_ADDR", "before"),
    )


def _describe_list() -> Iterable[Operation]:
    yield Operation(
        STATUS,
        "List the latest rejected events",
        "Events that Hermes did not accept, with the reason that the client was told: single events of a request, or "
        "a request as a whole.",
        answers=(operation.Answer(200, "The rejected events.", (Content(JSON, RejectedList),)),),
    )


def _describe_feed() -> Iterable[Operation]:
    yield Operation(
        STATUS,
        "Follow rejected events",
        'A line of JSON for each event, the kept events first. `{"skipped": n}` stands for n events that are no longer '
        "kept, an empty line for a while without an event.",
        answers=(
            operation.Answer(200, "The rejected events.", (Content(_LINES, str),)),
            operation.problem(503, f"{MOST_FOLLOWERS} clients follow already.", RETRY_AFTER),
        ),
        endless=True,
    )
