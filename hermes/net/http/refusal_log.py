"""Log lines about what was refused: requests, and single events of requests that were taken otherwise.

One line of a kind every few seconds, however many there are. A kind is a route, a status and a family of reasons; there
are at most `MOST_FAMILIES` of one route and status at a time, so the number of lines is bounded whatever clients send;
the metrics count every one. Invariants: a line never has a header, a key or a body, only the words that the client
itself was told; and what had no line is counted in one, when the pause ends or the service stops. Pure but for the log.
Called by the connections of the fast lane and by the apps of the control lane; `tell_rest` by the app.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

import structlog

from hermes.base.quoting import clean
from hermes.base.throttle import Throttle
from hermes.net.http.rejected_feed import MOST_WORDS, RejectedFeed
from hermes.net.http.response import Response

_log = structlog.get_logger("hermes.http")
MOST_FAMILIES = 8
"""The most families of reasons that have lines of their own, of one route and status; others share one."""

_FAMILY_CHARACTERS = 80  # of a reason that say what kind it is
_VARIES = re.compile(r"""(['"`]).*?(\1|$)|\([^()]*(\)|$)|\d+""")
"""What differs in reasons of one family: what was sent, a place, a number."""

_LOSES = frozenset({400, 411, 413, 415})
"""What is answered to a request that a client does not send again as it is: its events are lost."""


@dataclass(frozen=True, slots=True)
class _Line:
    """What is written about refusals that had no line of their own."""

    level: int
    message: str
    reason: str


class RefusalLog:
    """Tells the log about what was refused. ``clock`` counts seconds; ``feed`` gets the rejected events."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, feed: RejectedFeed | None = None) -> None:
        self.feed = RejectedFeed() if feed is None else feed
        self._clock = clock
        self._throttles: dict[tuple[str, int], Throttle[_Line]] = {}

    def tell(self, route: str, response: Response, request_id: bytes, client: Callable[[], str]) -> None:
        """A request was answered; ``client`` gives the address it came from. Says nothing of one that was taken whole.

        ``more`` in a line is how many of its kind had none since the line before: requests, or rejected events.
        """
        rejected, status = response.rejected, response.status
        if rejected or status in _LOSES:
            self.feed.add(route, status, rejected, request_id.decode("latin-1"), client(), response.detail)
        if status < 400 and not rejected:
            return
        taken = status < 400
        message = "invalid events rejected" if taken else "request refused"
        level = logging.WARNING if taken or status >= 500 else logging.INFO
        reason = rejected[0].error if rejected else response.detail or HTTPStatus(status).phrase
        # Cut, for the line is kept until the pause ends, and the reason quotes what the client sent.
        line = _Line(level, message, reason[:MOST_WORDS])
        more = self._admit(route, status, line, len(rejected) if taken else 1)
        if more is None:
            return
        facts: dict[str, object] = {"route": route, "status": status}
        facts |= {"events": len(rejected)} if taken else {"reason": response.detail or HTTPStatus(status).phrase}
        if rejected:
            facts |= {"example": clean(reason, MOST_WORDS), "index": rejected[0].index}
        facts |= {"client": client(), "request_id": request_id.decode("latin-1")}
        if (traced := response.traced) is not None:
            facts |= {"trace_id": traced.trace_id, "span_id": traced.span_id}
        if more:
            facts["more"] = more
        _log.log(level, message, **facts)

    def tell_rest(self, *, at_the_end: bool = False) -> None:
        """Tell how many had no line, of each kind whose pause has ended; ``at_the_end``, of every kind."""
        now = self._clock()
        for (route, status), throttle in [*self._throttles.items()]:
            for line, more in throttle.take_rest(now, at_the_end=at_the_end):
                reason = clean(line.reason, MOST_WORDS)
                _log.log(line.level, line.message, route=route, status=status, reason=reason, more=more)
            if not throttle:
                del self._throttles[route, status]

    def _admit(self, route: str, status: int, line: _Line, count: int) -> int | None:
        """None: no line this time. Else how many of the kind had no line since the one before."""
        throttle = self._throttles.get((route, status))
        if throttle is None:
            throttle = self._throttles[route, status] = Throttle(MOST_FAMILIES)
        return throttle.admit(_family(line.reason), line, self._clock(), count)


def _family(reason: str) -> str:
    """The words of a reason without what differs from one request to the next."""
    return _VARIES.sub("", reason[:_FAMILY_CHARACTERS])
