"""Live events over HTTP, a line of JSON each, while they go by.

    GET /tap?type=a,b&user=…&sample=0.1     {"id": …, "user_id": …, "type": …, "timestamp": …, "payload": …}

Between them come ``{"skipped": n}`` where n events were more than the reader could take, and an empty line at the
beginning, from which on every event is shown, and wherever nothing came for `HEARTBEAT` seconds. Invariant: what a
reader does not take in time is skipped and never waits in memory beyond the follower's bounds. The admin edge lends
the tap.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Protocol, Self

import msgspec
import trio
from quart import Response as QuartResponse
from quart import request
from quart.wrappers.response import ResponseBody
from quart_trio import QuartTrio

from hermes.control.reply import stream_to_quart, to_quart
from hermes.event import Event
from hermes.http.response import Response, problem

HEARTBEAT = 2.0
"""Seconds. A connection that is silent for longer than IDLE_TIMEOUT and BODY_TIMEOUT is ended."""

_CONTENT_TYPE = "application/x-ndjson"
_MOST_TYPES = 100
_PARAMETERS = ("type", "user", "sample")

_encode = msgspec.json.Encoder().encode


class Follower(Protocol):
    """One who looks, as the engine has it."""

    async def receive(self) -> tuple[list[Event], int]:
        """Wait: the events since the last call, and how many did not fit. Nothing: it is over."""


@dataclass(frozen=True)
class TapDesk:
    """What the route works on: ``follow(types, user, sample)``; ``crowded`` when there is no place for another."""

    follow: Callable[[frozenset[str], str, float], AbstractContextManager[Follower]]
    crowded: Callable[[], bool]


class _Stream(ResponseBody, AsyncIterator[bytes]):
    """The lines of one who looks. The place is taken when the first is sent: before, nobody would give it back."""

    def __init__(self, desk: TapDesk, types: frozenset[str], user: str, sample: float) -> None:
        self._desk = desk
        self._wanted = types, user, sample
        self._entered = ExitStack()
        self._follower: Follower | None = None
        self._begun = False

    async def __aenter__(self) -> Self:
        if not self._desk.crowded():  # others may have come since the request was let in
            self._follower = self._entered.enter_context(self._desk.follow(*self._wanted))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._entered.close()

    async def __anext__(self) -> bytes:
        if self._follower is None:
            raise StopAsyncIteration
        if not self._begun:
            self._begun = True
            return b"\n"
        with trio.move_on_after(HEARTBEAT):
            events, skipped = await self._follower.receive()
            if not events and not skipped:
                raise StopAsyncIteration
            return b"".join(map(_line, events)) + (b'{"skipped":%d}\n' % skipped if skipped else b"")
        return b"\n"


def add_tap(app: QuartTrio, desk: TapDesk) -> None:
    """Add the route to the app."""

    @app.get("/tap")
    async def tap() -> QuartResponse:
        found = _read(request.args.to_dict(flat=False))
        if isinstance(found, Response):
            return to_quart(found)
        if request.method == "HEAD":
            return QuartResponse("", content_type=_CONTENT_TYPE)
        if desk.crowded():
            return to_quart(problem(503, "as many as can follow the events already: end one", {"Retry-After": "5"}))
        return stream_to_quart(_Stream(desk, *found), _CONTENT_TYPE)


def _read(query: Mapping[str, list[str]]) -> tuple[frozenset[str], str, float] | Response:
    """The types, the user and the sample of a query, or why not."""
    for name, values in query.items():
        if name not in _PARAMETERS:
            return _wrong(name, f"{name[:100]!r} is no parameter here; there are {', '.join(_PARAMETERS)}")
        if len(values) > 1:
            return _wrong(name, f"{name} is given {len(values)} times")
        if not values[0]:
            return _wrong(name, f"{name} is empty: leave it out to follow all")
    types = frozenset(query["type"][0].split(",")) if "type" in query else frozenset[str]()
    if len(types) > _MOST_TYPES:
        return _wrong("type", f"type has {len(types)} names; at most {_MOST_TYPES} can be followed by name")
    text = query.get("sample", ["1"])[0]
    try:
        sample = float(text)
    except ValueError:
        sample = 0.0
    if not 0 < sample <= 1:
        return _wrong("sample", f"sample={text[:100]!r}: expected a part of the events, above 0 and at most 1")
    return types, query.get("user", [""])[0], sample


def _wrong(parameter: str, words: str) -> Response:
    return problem(400, words, parameter=parameter[:100])


def _line(event: Event) -> bytes:
    """The event as it would be posted, on one line: in JSON line breaks stand between tokens alone."""
    return _encode(event).replace(b"\n", b" ").replace(b"\r", b" ") + b"\n"
