"""Live events over HTTP, one line of JSON for each event.

    GET /tap?type=a,b&user=…&sample=0.1     {"id": …, "user_id": …, "type": …, "timestamp": …, "payload": …}

Between the events come ``{"skipped": n}`` for n events that the reader was too slow for, and an empty line at the
beginning, after which every event is shown, and after `HEARTBEAT` seconds without an event. Invariant: events that a
reader does not take in time are skipped, and never wait in memory beyond the bounds of the follower.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Annotated, Self

import msgspec
import trio
from msgspec import Meta

from hermes.events.engine.tap import Follower, Tap, Wanted
from hermes.events.event import Event
from hermes.net.control.endpoint import Answer, Endpoint, Request, Streaming
from hermes.net.control.openapi import operation
from hermes.net.control.openapi.operation import RETRY_AFTER, STATUS, Content, Operation, Parameter, WrongParameter
from hermes.net.http.response import Response, problem

HEARTBEAT = 2.0
"""Seconds. A connection that is silent for longer than IDLE_TIMEOUT and BODY_TIMEOUT is ended."""

_CONTENT_TYPE = "application/x-ndjson"
_MOST_TYPES = 100
_PARAMETERS = ("type", "user", "sample")

_encode = msgspec.json.Encoder().encode


class _Stream(AsyncIterator[bytes]):
    """The lines of one reader."""

    def __init__(self, tap: Tap, wanted: Wanted) -> None:
        self._tap = tap
        self._wanted = wanted
        self._entered = ExitStack()
        self._follower: Follower | None = None
        self._begun = False

    # Here and not in the constructor: a request that ends before its first line could not give the place back.
    async def __aenter__(self) -> Self:
        # Asked once more: other readers may have come since this request was let in.
        if not self._tap.crowded:
            self._follower = self._entered.enter_context(self._tap.follow(self._wanted))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._entered.close()

    async def __anext__(self) -> bytes:
        if self._follower is None:
            raise StopAsyncIteration
        if not self._begun:
            # The follower is entered already: a client that sends an event after this line sees the event.
            self._begun = True
            return b"\n"
        # `receive` takes the events after its last checkpoint, so the time-out loses no event that was taken.
        with trio.move_on_after(HEARTBEAT):
            events, skipped = await self._follower.receive()
            if not events and not skipped:
                raise StopAsyncIteration
            return b"".join(map(_line, events)) + (b'{"skipped":%d}\n' % skipped if skipped else b"")
        return b"\n"


def tap_endpoint(tap: Tap) -> Endpoint:
    """``/tap``."""

    async def follow(request: Request) -> Answer:
        found = _read(request.query)
        if isinstance(found, Response):
            return found
        if tap.crowded:
            return problem(503, "the most clients at a time follow the events already: end one", {"Retry-After": "5"})
        return Streaming(_CONTENT_TYPE, _Stream(tap, found))

    return Endpoint("GET", "/tap", follow, _describe, "ADMIN_ADDR", "before")


def _describe() -> Iterable[Operation]:
    yield Operation(
        STATUS,
        "Follow live events",
        'A line of JSON for each event, as it comes in. `{"skipped": n}` stands for n events that the reader was too '
        "slow for, an empty line for a while without an event.",
        (
            Parameter("type", "Only events of these types.", list[str], example=["song_played"]),
            Parameter("user", "Only events of this user.", str, example="ann"),
            Parameter(
                "sample",
                "A part of the events, chosen by their ids.",
                Annotated[float, Meta(gt=0, le=1, extra_json_schema={"default": 1})],
                example=0.1,
            ),
        ),
        answers=(
            operation.Answer(200, "The events.", (Content(_CONTENT_TYPE, str),)),
            operation.problem(400, "The request is malformed, or a parameter is wrong.", kind=WrongParameter),
            operation.problem(503, "The most clients at a time follow the events already.", RETRY_AFTER),
        ),
        endless=True,
    )


def _read(query: Mapping[str, Sequence[str]]) -> Wanted | Response:
    """The events that a query names, or why not."""
    for name, values in query.items():
        # A slip such as `typ=a` would otherwise show all events as if they were the wanted ones.
        if name not in _PARAMETERS:
            return _wrong(name, f"{name[:100]!r} is not a parameter here; there are {', '.join(_PARAMETERS)}")
        # Only the first value would count, and the reader would miss events without a word.
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
    # NaN, which float() takes, fails here too: no comparison with it is true.
    if not 0 < sample <= 1:
        return _wrong("sample", f"sample={text[:100]!r}: expected a part of the events, above 0 and at most 1")
    return Wanted(types, query.get("user", [""])[0], sample)


def _wrong(parameter: str, words: str) -> Response:
    # Cut off: the client chooses the name, and the answer repeats it.
    return problem(400, words, parameter=parameter[:100])


def _line(event: Event) -> bytes:
    """The event on one line, in the form in which a client posts events."""
    # Line breaks in JSON stand only between tokens, so a space can replace each.
    return _encode(event).replace(b"\n", b" ").replace(b"\r", b" ") + b"\n"
