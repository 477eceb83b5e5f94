"""Data routes that are traced: the same functions, with a span around each call that is to have one.

Invariant: what is not traced is answered by the route itself, with one decision before it; what is traced is answered
the same, under a request id that its span has too. Pure. The edge wraps the routes where TRACES_ENDPOINT is set; both
lanes call them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from hermes.http.head import Head, Route
from hermes.http.pending import Pending
from hermes.http.response import Response
from hermes.traced import TracedRequest


class OpenSpan(Protocol):
    """The span of a request that is being answered."""

    @property
    def request(self) -> TracedRequest:
        """The request, as its events remember it."""

    def end(self, status: int, rejected: int) -> None:
        """The answer is known, and how many of the request's events were ``rejected`` as invalid."""


class RequestTracer(Protocol):
    """What decides which requests are traced, and makes their spans.

    Of the requests whose ``headers`` carry no context those are traced for which ``roll()`` is below ``share``, in the
    context ``root``. What a context is, is its own business.
    """

    headers: frozenset[str]
    roll: Callable[[], float]
    share: float
    root: object

    def follow(self, headers: Mapping[str, str]) -> object | None:
        """The context of a request whose headers may carry one; None: it is not traced."""

    def begin(self, context: object, route: str, path: str, size: int, request_id: bytes) -> OpenSpan:
        """The span of a request that is traced, in its context."""


class TracedIntake(Protocol):
    """What takes the events, and marks them with the request that is being served."""

    traced: TracedRequest | None


def trace_routes(
    routes: Sequence[Route],
    tracer: RequestTracer,
    intake: TracedIntake,
    rejected: Counter[str],
    new_id: Callable[[], bytes],
) -> tuple[Route, ...]:
    """The routes, traced. ``rejected`` is where they count invalid events; ``new_id`` makes a request id."""
    traced = [_TracedRoute(route, tracer, intake, rejected, new_id) for route in routes]
    return tuple(
        Route(each.route.name, each.check, each.handle, each.route.response_lines, each.route.max_body_bytes)
        for each in traced
    )


class _TracedRoute:
    def __init__(
        self,
        route: Route,
        tracer: RequestTracer,
        intake: TracedIntake,
        rejected: Counter[str],
        new_id: Callable[[], bytes],
    ) -> None:
        self.route = route
        self._roll = tracer.roll
        self._share = tracer.share
        self._handle = route.handle
        self._tracer = tracer
        self._intake = intake
        self._rejected = rejected
        self._new_id = new_id

    def check(self, head: Head) -> Response | None:
        refusal = self.route.check(head)
        if not self._tracer.headers.isdisjoint(head.headers):
            head.unique = True  # a caller's context is that of one request
        if refusal is None:
            return None
        span = self._begin(self._tracer.follow(head.headers), head, 0)
        return refusal if span is None else _end(span, refusal, 0)

    def handle(self, head: Head, body: bytes) -> Response | Pending:
        if not head.unique and self._roll() >= self._share:
            return self._handle(head, body)  # nearly always, so it has to be fast
        context = self._tracer.follow(head.headers) if head.unique else self._tracer.root
        span = self._begin(context, head, len(body))
        if span is None:
            return self._handle(head, body)
        before = self._rejected["invalid"]
        self._intake.traced = span.request
        try:
            result = self._handle(head, body)
        finally:
            self._intake.traced = None
        rejected = self._rejected["invalid"] - before
        if isinstance(result, Response):
            return _end(span, result, rejected)
        result.stamp = lambda response: _end(span, response, rejected + result.rejected)
        return result

    def _begin(self, context: object | None, head: Head, size: int) -> OpenSpan | None:
        if context is None:
            return None
        return self._tracer.begin(context, self.route.name, head.path, size, head.request_id or self._new_id())


def _end(span: OpenSpan, response: Response, rejected: int) -> Response:
    span.end(response.status, rejected)
    return response.of(span.request)
