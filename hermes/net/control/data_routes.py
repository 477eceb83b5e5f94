"""A data route in the control lane: the body is read within its bounds, and the route's own functions answer it.

Invariant: the route is called as in the fast lane, so that both lanes answer alike.
"""

from __future__ import annotations

import trio

from hermes.net.control.endpoint import Request
from hermes.net.http.head import Head, Route, too_large
from hermes.net.http.lane import BodyBudget
from hermes.net.http.pending import Pending
from hermes.net.http.response import Response, crowded


async def serve_data_route(request: Request, head: Head, route: Route, budget: BodyBudget) -> Response:
    """The route's answer to a request and its body."""
    # Before the body: a request without a key must not make the service hold its bytes.
    refusal = route.judge(head)
    if refusal is not None:
        return refusal
    # A head that could not be judged yet (Segment's key stands in the body) takes of the share of keyless clients.
    room = budget.keyless if head.keyless else budget
    parts: list[bytes] = []
    reserved = 0
    try:
        async for part in request.body:
            if not room.reserve(len(part)):
                return crowded()
            # Counted once the room is taken, so that `finally` gives back no more.
            reserved += len(part)
            if reserved > route.max_body_bytes:
                return too_large(route.max_body_bytes)
            parts.append(part)
        result = route.handle(head, b"".join(parts))
    finally:
        # If the client leaves, Hypercorn keeps the error, and with it this frame, in a reference cycle, which the
        # collector finds long after: it is told to look seldom, for events are in no cycles.
        parts.clear()
        room.release(reserved)
    return result if isinstance(result, Response) else await _wait_for(request, result)


async def answer_body(request: Request, head: Head, route: Route, body: bytes) -> Response:
    """The route's answer to a body that is at hand, once `Route.judge` has let the head pass."""
    result = route.handle(head, body)
    return result if isinstance(result, Response) else await _wait_for(request, result)


async def _wait_for(request: Request, pending: Pending) -> Response:
    """The response to come. A client that leaves or sends no more, and a drain, call the request off."""
    arrived = trio.Event()
    # The engine answers from a task of its own: it sets the event, and the handler wakes up.
    pending.wait(lambda _pending, _response: arrived.set())
    try:
        with request.when_client_ends(pending.let_go):
            await arrived.wait()
    finally:
        # However the wait ends, nobody hears the answer now: a request that waits for room gives up its place. An error
        # that somebody keeps may keep the ticket; it must not keep the events too.
        pending.let_go()
    assert pending.response is not None  # noqa: S101 - it has just been heard
    return pending.response
