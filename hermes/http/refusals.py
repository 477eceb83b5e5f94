"""Log lines about what was refused: requests, and single events of requests that were taken otherwise.

One line of a kind every few seconds, however many there are. A kind is a route and a status, so the number of lines is
bounded whatever clients send; the metrics count every one. Invariant: a line never has a header, a key or a body, only
the words that the client itself was told. Pure but for the log. Called by the connections of the fast lane and by the
apps of the control lane.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from http import HTTPStatus

import structlog

from hermes.http.rejected import MOST_WORDS, RejectedFeed
from hermes.http.response import Response
from hermes.words import clean

_log = structlog.get_logger("hermes.http")
_PAUSE = 5.0  # seconds between two lines of one kind
_LOSES = frozenset({400, 411, 413, 415})
"""What is answered to a request that a client does not send again as it is: its events are lost."""


class Refusals:
    """Tells the log about what was refused. ``clock`` counts seconds; ``feed`` has the latest rejected events."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.feed = RejectedFeed()
        self._clock = clock
        self._next: dict[tuple[str, int], float] = {}
        self._unsaid: dict[tuple[str, int], int] = {}

    def tell(self, route: str, response: Response, request_id: bytes, client: Callable[[], str]) -> None:
        """A request was answered; ``client`` gives the address it came from. Says nothing of one that was taken whole.

        ``more`` in a line is how many of its kind had none since the line before: requests, or rejected events.
        """
        rejected, status = response.rejected, response.status
        if rejected or status in _LOSES:
            self.feed.add(route, status, rejected, request_id.decode("latin-1"), client(), response.detail)
        if rejected and status < 400 and (more := self._is_due(route, status, len(rejected))) is not None:
            self._say(
                logging.WARNING,
                "invalid events rejected",
                response,
                request_id,
                more,
                route=route,
                status=status,
                events=len(rejected),
                example=clean(rejected[0].error, MOST_WORDS),
                index=rejected[0].index,
                client=client(),
            )
        elif status >= 400 and (more := self._is_due(route, status, 1)) is not None:
            reason = response.detail or HTTPStatus(status).phrase
            example = {"example": clean(rejected[0].error, MOST_WORDS), "index": rejected[0].index} if rejected else {}
            level = logging.WARNING if status >= 500 else logging.INFO
            facts = {"route": route, "status": status, "reason": reason, "client": client(), **example}
            self._say(level, "request refused", response, request_id, more, **facts)

    def _is_due(self, route: str, status: int, count: int) -> int | None:
        """None: no line this time. Else how many of the kind had no line since the one before."""
        kind = route, status
        now = self._clock()
        if now < self._next.get(kind, now):
            self._unsaid[kind] = self._unsaid.get(kind, 0) + count
            return None
        self._next[kind] = now + _PAUSE
        return self._unsaid.pop(kind, 0)

    def _say(self, level: int, what: str, response: Response, request_id: bytes, more: int, **facts: object) -> None:
        facts["request_id"] = request_id.decode("latin-1")
        if (traced := response.traced) is not None:
            facts |= {"trace_id": traced.trace_id, "span_id": traced.span_id}
        if more:
            facts["more"] = more
        _log.log(level, what, **facts)
