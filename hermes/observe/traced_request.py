"""A traced request as plain data, which chunks and responses carry, and the headers by which a sink continues a trace.

``hermes.traces`` alone knows OpenTelemetry, so this module does not need it. The data routes make the object.

Invariant: a traced request never keeps a request's body or headers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar

# A context variable, because each sink's writer task continues the trace of its own batch.
carrier: ContextVar[Callable[[], Mapping[str, str]]] = ContextVar("hermes_trace_headers", default=dict)
"""The function that makes the trace headers for this task's work. ``hermes.traces`` sets it."""


def trace_headers() -> Mapping[str, str]:
    """Return headers that continue the present trace, ``traceparent`` first, for a request that a sink's write makes.

    Empty if the write has no events of a traced request.

    >>> headers = {"content-type": "application/json", **trace_headers()}
    """
    # The default makes an empty mapping: a task outside of a traced write continues no trace.
    return carrier.get()()


class TracedRequest:
    """One traced request. ``accepted`` counts its events that the intake has taken, ``rejected`` its invalid events.

    ``context`` continues its trace: an OpenTelemetry context. ``trace_id`` and ``span_id`` are in lower-case
    hexadecimal digits, as in logs and headers.
    """

    # One for each traced request, kept by every chunk on its way: small on purpose.
    __slots__ = ("accepted", "context", "rejected", "request_id", "span_id", "trace_id")

    def __init__(self, request_id: bytes, context: object, trace_id: str, span_id: str) -> None:
        self.request_id = request_id
        self.context = context
        self.trace_id = trace_id
        self.span_id = span_id
        self.accepted = 0
        self.rejected = 0
