"""Data routes that are traced: the same functions, with a span around each call that was chosen for a trace.

Invariant: a request that is not traced is answered by the route itself, after one decision; a traced request is
answered the same, under a request id that its span has too. Pure. A part wraps its routes if TRACES_ENDPOINT is set;
both lanes call them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Protocol

from hermes.net.http.head import Head, Route
from hermes.net.http.pending import Pending
from hermes.net.http.response import Response
from hermes.observe.traced_request import TracedRequest


class OpenSpan(Protocol):
    """The span of a request that is being answered."""

    @property
    def request(self) -> TracedRequest:
        """The request, for the items that carry it."""

    def end(self, status: int) -> None:
        """End the span: the answer is known, and ``request`` has its counts."""


class RequestTracer(Protocol):
    """Decides which requests are traced, and makes their spans.

    Of the requests whose ``headers`` carry no context, a request is traced if ``roll()`` is below ``share``, in the
    context ``root``. The lane does not look into a context.
    """

    headers: frozenset[str]
    roll: Callable[[], float]
    share: float
    root: object

    def follow(self, headers: Mapping[str, str]) -> object | None:
        """Return the context of a request whose headers may carry one. None: the request is not traced."""

    def begin(self, context: object, route: str, path: str, size: int, request_id: bytes) -> OpenSpan:
        """Open the span of a traced request, in its context."""


def trace_routes(routes: Sequence[Route], tracer: RequestTracer, new_id: Callable[[], bytes]) -> tuple[Route, ...]:
    """Return the routes, traced. ``new_id`` makes a request id.

    ::

        routes = trace_routes(routes, tracer, make_request_ids())
    """
    traced = [_TracedRoute(route, tracer, new_id) for route in routes]
    return tuple(
        Route(each.route.name, each.check, each.handle, each.route.response_lines, each.route.max_body_bytes)
        for each in traced
    )


class _TracedRoute:
    def __init__(self, route: Route, tracer: RequestTracer, new_id: Callable[[], bytes]) -> None:
        self.route = route
        self._roll = tracer.roll
        self._share = tracer.share
        self._handle = route.handle
        self._tracer = tracer
        self._new_id = new_id

    def check(self, head: Head) -> object:
        judged = self.route.check(head)
        if not self._tracer.headers.isdisjoint(head.headers):
            # A caller's context belongs to one request.
            head.unique = True
        if not isinstance(judged, Response):
            return judged
        # A refused head never comes to `handle`, so its span begins and ends here.
        span = self._begin(self._tracer.follow(head.headers), head, 0)
        return judged if span is None else _end(span, judged)

    def handle(self, head: Head, body: bytes) -> Response | Pending:
        # Nearly every request leaves here, so this has to be fast.
        if not head.unique and self._roll() >= self._share:
            return self._handle(head, body)
        context = self._tracer.follow(head.headers) if head.unique else self._tracer.root
        span = self._begin(context, head, len(body))
        if span is None:
            return self._handle(head, body)
        # A copy, because the connection uses a remembered head again for the next request.
        own = copy(head)
        own.traced = span.request
        result = self._handle(own, body)
        if isinstance(result, Response):
            return _end(span, result)
        # The span is as long as the client waits, so a ticket ends it with its answer.
        result.stamp_by(lambda response: _end(span, response))
        return result

    def _begin(self, context: object | None, head: Head, size: int) -> OpenSpan | None:
        if context is None:
            return None
        return self._tracer.begin(context, self.route.name, head.path, size, head.request_id or self._new_id())


def _end(span: OpenSpan, response: Response) -> Response:
    span.end(response.status)
    return response.of(span.request)
