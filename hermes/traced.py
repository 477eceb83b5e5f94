"""A traced request, as its events and its answer remember it on their way through Hermes; how a sink passes a trace on.

Plain data: what it stands for is known to ``hermes.traces`` alone, so nothing here needs OpenTelemetry. Invariant: it
never keeps a request's body or headers. Made by the data routes that are traced; carried by chunks and responses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar

carrier: ContextVar[Callable[[], Mapping[str, str]]] = ContextVar("hermes_trace_headers", default=dict)
"""What makes the headers of the work that goes on in this task. Set by ``hermes.traces``."""


def trace_headers() -> Mapping[str, str]:
    """Headers that continue the present trace, ``traceparent`` first of all, for a request that a sink's write makes.

    Empty where the write has no events of a traced request.

    >>> headers = {"content-type": "application/json", **trace_headers()}
    """
    return carrier.get()()


class TracedRequest:
    """One traced request. ``accepted`` is how many of its events the intake has taken.

    ``context`` is what continues its trace: an OpenTelemetry context. ``trace_id`` and ``span_id`` are in lower-case
    hexadecimal digits, as logs and headers have them.
    """

    __slots__ = ("accepted", "context", "request_id", "span_id", "trace_id")

    def __init__(self, request_id: bytes, context: object, trace_id: str, span_id: str) -> None:
        self.request_id = request_id
        self.context = context
        self.trace_id = trace_id
        self.span_id = span_id
        self.accepted = 0
