"""Log lines about refused requests, and about single rejected items of requests that were taken otherwise.

Refusals of one kind have one line every few seconds. A kind is a route, a status and a family of reasons. A route and a
status have at most `MOST_FAMILIES` kinds at a time, so clients cannot cause more lines; the metrics count all refusals.

Invariants: a line never has a header, a key or a body, only the reason that the client itself was told; refusals
without a line are counted in a later line, when the pause ends or the service stops. Pure but for the log.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from http import HTTPStatus

import structlog

from hermes.base.quoting import clean
from hermes.base.throttle import Throttle
from hermes.net.http.rejected_feed import MOST_WORDS, RejectedFeed
from hermes.net.http.response import Response

_log = structlog.get_logger("hermes.http")
MOST_FAMILIES = 32
"""The most families of reasons that have lines of their own, of one route and status. Further families share a line."""

# The characters of a reason that tell its family: the beginning names the rule, the rest is the client's.
_FAMILY_CHARACTERS = 80
_VARIES = re.compile(r"""(['"]).*?(\1|$)|\([^()]*(\)|$)|\d+|(?<=unknown field )`.*?(`|$)""")
"""The parts of a reason that differ within a family: a quoted value, a place, a number.

Other words between backticks stay: they are a field or a type of the service's own, so each is another fault.
"""
_SEVERAL = "several kinds, the latest: "

_LOSES = frozenset({400, 411, 413, 415})
"""The statuses after which a client does not repeat the request, so its events are lost."""


@dataclass(frozen=True, slots=True)
class _Line:
    """A line about refusals that had no line of their own."""

    level: int
    message: str
    reason: str


class RefusalLog:
    """Writes the lines. ``clock()`` returns seconds; ``feed`` gets the rejected items.

    ::

        log = RefusalLog()
        log.tell("/events", response, b"request-1", lambda: "127.0.0.1")
        log.tell_rest(at_the_end=True)
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, feed: RejectedFeed | None = None) -> None:
        self.feed = RejectedFeed() if feed is None else feed
        self._clock = clock
        self._throttles: dict[tuple[str, int], Throttle[_Line]] = {}

    def tell(self, route: str, response: Response, request_id: bytes, client: Callable[[], str]) -> None:
        """Log the answer to a request, unless the whole request was taken. ``client()`` returns its address.

        ``more`` in a line counts the refusals of its kind without a line since the line before: requests, or items.
        """
        rejected, status = response.rejected, response.status
        # The feed gets each of them, also those without a line: an operator looks for one client's events.
        if rejected or status in _LOSES:
            self.feed.add(route, status, rejected, request_id.decode("latin-1"), client(), response.detail)
        if status < 400 and not rejected:
            return
        taken = status < 400
        message = "invalid events rejected" if taken else "request refused"
        # A client hears of its own mistake; events that a client believes sent, and our own failures, are for the
        # operator.
        level = logging.WARNING if taken or status >= 500 else logging.INFO
        reason = rejected[0].error if rejected else response.detail or HTTPStatus(status).phrase
        # Cut, because the line is kept until the pause ends, and the reason quotes a value of the client.
        line = _Line(level, message, reason[:MOST_WORDS])
        more = self._admit(route, status, line, len(rejected) if taken else 1)
        if more is None:
            return
        facts: dict[str, object] = {"route": route, "status": status}
        facts |= {"events": len(rejected)} if taken else {"reason": response.detail or HTTPStatus(status).phrase}
        if rejected:
            facts |= {"example": clean(reason, MOST_WORDS), "index": rejected[0].index}
        # Asked here, and not for each request: the address costs a system call.
        facts |= {"client": client(), "request_id": request_id.decode("latin-1")}
        if (traced := response.traced) is not None:
            facts |= {"trace_id": traced.trace_id, "span_id": traced.span_id}
        if more:
            facts["more"] = more
        _log.log(level, message, **facts)

    def tell_rest(self, *, at_the_end: bool = False) -> None:
        """Log the number of refusals without a line, for each kind whose pause has ended; ``at_the_end``: for all."""
        now = self._clock()
        for (route, status), throttle in [*self._throttles.items()]:
            for line, more in throttle.take_rest(now, at_the_end=at_the_end):
                reason = clean(line.reason, MOST_WORDS)
                _log.log(line.level, line.message, route=route, status=status, reason=reason, more=more)
            # Nothing is kept of a kind that has become silent.
            if not throttle:
                del self._throttles[route, status]

    def _admit(self, route: str, status: int, line: _Line, count: int) -> int | None:
        """Return the number of refusals of the kind without a line since the last one. None: no line this time."""
        # A throttle for each route and status, so that a flood of one kind does not use up the lines of another.
        throttle = self._throttles.get((route, status))
        if throttle is None:
            throttle = self._throttles[route, status] = Throttle(MOST_FAMILIES)
        family = _family(line.reason)
        if not throttle.has_room(family):
            # The line is one of many families: alone, the reason would stand for all of them.
            line = replace(line, reason=(_SEVERAL + line.reason)[:MOST_WORDS])
        return throttle.admit(family, line, self._clock(), count)


def _family(reason: str) -> str:
    """Return the words of a reason that are the same for each request of its family."""
    return _VARIES.sub("", reason[:_FAMILY_CHARACTERS])
