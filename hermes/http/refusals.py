"""Log lines about requests that were refused or failed: one of a kind every few seconds, however many there are.

A kind is a route and a status, so the number of lines is bounded whatever clients send; the metrics count every
request. Invariant: a line never has a header, a key or a body, only the words that the client itself was told. Pure but
for the log. Called by the connections of the fast lane and by the apps of the control lane.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from http import HTTPStatus

import structlog

from hermes.traced import TracedRequest

_log = structlog.get_logger("hermes.http")
_PAUSE = 5.0  # seconds between two lines of one kind


class Refusals:
    """Tells the log about refused requests. ``clock`` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next: dict[tuple[str, int], float] = {}
        self._unsaid: dict[tuple[str, int], int] = {}

    def tell(
        self,
        route: str,
        status: int,
        detail: str,
        request_id: bytes,
        client: Callable[[], str],
        traced: TracedRequest | None = None,
    ) -> None:
        """A request was answered with 4xx or 5xx; ``client`` gives the address it came from.

        ``more`` in a line is how many of its kind had none since the line before.
        """
        kind = route, status
        now = self._clock()
        if now < self._next.get(kind, now):
            self._unsaid[kind] = self._unsaid.get(kind, 0) + 1
            return
        self._next[kind] = now + _PAUSE
        facts: dict[str, object] = {"request_id": request_id.decode("latin-1")}
        if traced is not None:
            facts |= {"trace_id": traced.trace_id, "span_id": traced.span_id}
        if more := self._unsaid.pop(kind, 0):
            facts["more"] = more
        _log.log(
            logging.WARNING if status >= 500 else logging.INFO,
            "request refused",
            route=route,
            status=status,
            reason=detail or HTTPStatus(status).phrase,
            client=client(),
            **facts,
        )
