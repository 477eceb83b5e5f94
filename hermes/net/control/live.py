"""The status of the service over HTTP: once as JSON, or every second as server-sent events.

    GET /status   {"version": …, "now": …, "connections": …, "parts": {"events": {…}, …}, …}
    GET /live     the same as ``event: status``, at once and then every second; ``event: end`` when the service stops

Invariants: the status is made once a second for all watchers, and not at all without a watcher; a slow reader gets the
latest status and misses others, so that nothing piles up; at most `MOST_STREAMS` watch at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from functools import partial
from typing import Self

import msgspec
import trio

from hermes.base.repeated_event import RepeatedEvent
from hermes.net.control.endpoint import Answer, Endpoint, Request, Streaming
from hermes.net.control.openapi import operation
from hermes.net.control.openapi.operation import JSON, RETRY_AFTER, STATUS, Content, Operation
from hermes.net.http.response import Response, problem
from hermes.observe.service_status import ServiceStatus

# A stream keeps its connection busy, so watchers without a bound would take every place from other operators.
MOST_STREAMS = 32
PERIOD = 1.0

_CONTENT_TYPE = "text/event-stream"
# Milliseconds after which a browser connects again.
_PREFACE = b"retry: 1000\n"
# With data: a browser drops an event without data (HTML standard, "Server-sent events").
_END = b"event: end\ndata: {}\n\n"


class Live:
    """The feed of all watchers. ``tick`` is called every second, and ``render`` gives the status as JSON.

    ::

        live = Live(status.tick, lambda: msgspec.json.encode(status.sample()))
        nursery.start_soon(live.run)
    """

    def __init__(self, tick: Callable[[], None], render: Callable[[], bytes]) -> None:
        self.render = render
        self.watchers = 0
        self.ended = False
        self.latest = b""
        self._tick = tick
        self._news = RepeatedEvent()

    async def run(self) -> None:
        """Tick, and send the status to every watcher, until cancelled."""
        due = trio.current_time()
        while True:
            # After seconds in which the loop was busy the feed goes on from now, and sends no burst to catch up.
            due = max(due + PERIOD, trio.current_time())
            await trio.sleep_until(due)
            # Also without a watcher: the tick records the rates of the last minutes.
            self._tick()
            if self.watchers:
                self.latest = self.frame()
                self._news.set()

    async def wait_news(self) -> None:
        """Wait for the next second, or for the end."""
        # After the end no news comes, and a stream that waits would hold up the stop.
        if not self.ended:
            await self._news.wait()

    def frame(self) -> bytes:
        """The status now, as one event of the stream."""
        return b"event: status\ndata: %b\n\n" % self.render()

    def end(self) -> None:
        """End every stream, because a stop has begun."""
        self.ended = True
        self._news.set()


class _Stream(AsyncIterator[bytes]):
    """The stream of one watcher."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._begun = self._over = False

    async def __aenter__(self) -> Self:
        self._live.watchers += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self._live.watchers -= 1

    async def __anext__(self) -> bytes:
        live = self._live
        if not self._begun:
            self._begun = True
            return _PREFACE + live.frame()
        if self._over:
            raise StopAsyncIteration
        await live.wait_news()
        # The event `end` is one more item: by this event the page tells a stop from a lost connection.
        self._over = live.ended
        # No queue: a slow reader gets the latest status and misses others, so that nothing piles up.
        return _END if live.ended else live.latest


def live_endpoints(live: Live, parts: Mapping[str, type]) -> tuple[Endpoint, ...]:
    """``/status`` and ``/live``; ``parts`` has the type of each part's status, by the part's name."""

    async def show(_request: Request) -> Answer:
        # No cache on the way may show a status of the past.
        return Response(200, live.render(), headers={"Cache-Control": "no-store"})

    async def watch(_request: Request) -> Answer:
        if live.watchers >= MOST_STREAMS:
            detail = f"{MOST_STREAMS} clients watch already: close one, or read /status from time to time"
            return problem(503, detail, {"Retry-After": "5"})
        return Streaming(_CONTENT_TYPE, _Stream(live))

    return (
        Endpoint("GET", "/status", show, partial(_describe_status, parts), "ADMIN_ADDR", "before"),
        Endpoint("GET", "/live", watch, _describe_live, "ADMIN_ADDR", "before"),
    )


def _describe_status(parts: Mapping[str, type]) -> Iterable[Operation]:
    # Imported here, because the import takes a while.
    from hermes.net.control.openapi.schemas import restate

    # The fields have other names in Python: the name of a part may not be a name in Python.
    members = [(f"part_{n}", kind, msgspec.field(name=name)) for n, (name, kind) in enumerate(parts.items())]
    words = {"__doc__": "The status of each part."}
    shown = msgspec.defstruct("PartStatuses", members, namespace=words)
    status = restate(ServiceStatus, "ServiceStatus", ServiceStatus.__doc__ or "", parts=(shown,))
    yield Operation(
        STATUS,
        "Show the status of the service",
        answers=(operation.Answer(200, "The present status.", (Content(JSON, status),)),),
    )


def _describe_live() -> Iterable[Operation]:
    yield Operation(
        STATUS,
        "Stream the status of the service, every second",
        "Server-sent events: `status`, whose data is what `/status` answers, at once and then every second; and `end` "
        "when the service stops.",
        answers=(
            operation.Answer(200, "The stream.", (Content(_CONTENT_TYPE, str),)),
            operation.problem(503, f"{MOST_STREAMS} clients watch already.", RETRY_AFTER),
        ),
        endless=True,
    )
