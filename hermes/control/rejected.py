"""The latest rejected events over HTTP, once or while they come.

    GET /rejected        {"total": n, "rejected": [the latest, oldest first]}
    GET /rejected/live   a line of JSON each: those that are kept, and then every one that comes

Between the lines come ``{"skipped": n}`` where n were more than are kept, and an empty line at the beginning and
wherever nothing came for `HEARTBEAT` seconds. Invariant: a follower holds no more than the number of the entry that was
sent last, so the feed never waits for anybody. The admin edge lends the feed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Self

import msgspec
import trio
from quart import Response as QuartResponse
from quart import request
from quart.wrappers.response import ResponseBody
from quart_trio import QuartTrio

from hermes.control.reply import stream_to_quart, to_quart
from hermes.control.tap import HEARTBEAT
from hermes.http.rejected import Rejected, RejectedFeed
from hermes.http.response import problem

LOOK_SECONDS = 0.25
"""How often a follower looks for what is new."""

MOST_FOLLOWERS = 8

_LINES = "application/x-ndjson"
_encode = msgspec.json.Encoder().encode


class RejectedList(msgspec.Struct):
    """The latest rejected events, the oldest first. ``total`` counts all since the start."""

    total: int
    rejected: list[Rejected]


@dataclass
class RejectedDesk:
    """What the routes work on. ``ended`` says whether a stop has begun; ``followers`` is how many follow now."""

    feed: RejectedFeed
    ended: Callable[[], bool]
    followers: int = 0


class _Stream(ResponseBody, AsyncIterator[bytes]):
    """The lines of one who follows."""

    def __init__(self, desk: RejectedDesk) -> None:
        self._desk = desk
        self._sent = 0
        self._begun = False

    async def __aenter__(self) -> Self:
        self._desk.followers += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self._desk.followers -= 1

    async def __anext__(self) -> bytes:
        if not self._begun:
            self._begun = True
            return b"\n"
        feed = self._desk.feed
        silent_until = trio.current_time() + HEARTBEAT
        while feed.total == self._sent:
            if self._desk.ended():
                raise StopAsyncIteration
            if trio.current_time() >= silent_until:
                return b"\n"
            await trio.sleep(LOOK_SECONDS)
        entries = feed.since(self._sent)
        # What was no longer kept before the first look is history, and nobody was promised it.
        skipped = feed.total - self._sent - len(entries) if self._sent else 0
        self._sent = feed.total
        lines = b"".join(_encode(entry) + b"\n" for entry in entries)
        return lines + (b'{"skipped":%d}\n' % skipped if skipped else b"")


def add_rejected(app: QuartTrio, desk: RejectedDesk) -> None:
    """Add the routes to the app."""

    @app.get("/rejected")
    async def rejected() -> QuartResponse:
        found = RejectedList(desk.feed.total, desk.feed.since(0))
        return QuartResponse(_encode(found), content_type="application/json", headers={"Cache-Control": "no-store"})

    @app.get("/rejected/live")
    async def follow() -> QuartResponse:
        if request.method == "HEAD":
            return QuartResponse("", content_type=_LINES)
        if desk.followers >= MOST_FOLLOWERS:
            return to_quart(problem(503, "as many as can follow already: end one", {"Retry-After": "5"}))
        return stream_to_quart(_Stream(desk), _LINES)
