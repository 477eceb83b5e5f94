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

from hermes.http.rejected import MOST_WORDS, RejectedFeed
from hermes.http.response import Response
from hermes.words import clean

_log = structlog.get_logger("hermes.http")
_PAUSE = 5.0  # seconds between two lines of one kind
MOST_FAMILIES = 8
"""The most families of reasons that have lines of their own, of one route and status; others share one."""

_FAMILY_CHARACTERS = 80  # of a reason that say what kind it is
_VARIES = re.compile(r"""(['"`]).*?(\1|$)|\([^()]*(\)|$)|\d+""")
"""What differs in reasons of one family: what was sent, a place, a number."""

_LOSES = frozenset({400, 411, 413, 415})
"""What is answered to a request that a client does not send again as it is: its events are lost."""


@dataclass(slots=True)
class _Kind:
    """One kind that was told less than `_PAUSE` ago: when it may be again, and what had no line since."""

    due: float
    level: int
    unsaid: int = 0
    what: str = ""
    reason: str = ""


class Refusals:
    """Tells the log about what was refused. ``clock`` counts seconds; ``feed`` has the latest rejected events."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.feed = RejectedFeed()
        self._clock = clock
        self._kinds: dict[tuple[str, int], dict[str, _Kind]] = {}

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
        what = "invalid events rejected" if taken else "request refused"
        level = logging.WARNING if taken or status >= 500 else logging.INFO
        reason = rejected[0].error if rejected else response.detail or HTTPStatus(status).phrase
        more = self._is_due(route, status, len(rejected) if taken else 1, level, what, reason)
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
        _log.log(level, what, **facts)

    def tell_rest(self, *, at_the_end: bool = False) -> None:
        """Tell how many had no line, of each kind whose pause has ended; ``at_the_end``, of every kind."""
        if not self._kinds:
            return
        now = self._clock()
        for (route, status), families in [*self._kinds.items()]:
            for family, kind in [*families.items()]:
                if not at_the_end and now < kind.due:
                    continue
                if not kind.unsaid:
                    del families[family]
                    continue
                reason = clean(kind.reason, MOST_WORDS)
                _log.log(kind.level, kind.what, route=route, status=status, reason=reason, more=kind.unsaid)
                kind.unsaid, kind.due = 0, now + _PAUSE
            if not families:
                del self._kinds[route, status]

    def _is_due(self, route: str, status: int, count: int, level: int, what: str, reason: str) -> int | None:
        """None: no line this time. Else how many of the kind had no line since the one before."""
        families = self._kinds.setdefault((route, status), {})
        family = _family(reason)
        if family not in families and len(families) >= MOST_FAMILIES:
            family = ""
        now = self._clock()
        kind = families.get(family)
        if kind is None:
            families[family] = _Kind(now + _PAUSE, level)
            return 0
        if now < kind.due:
            kind.unsaid += count
            kind.what, kind.reason = what, reason[:MOST_WORDS]
            return None
        more, kind.unsaid, kind.due = kind.unsaid, 0, now + _PAUSE
        return more


def _family(reason: str) -> str:
    """The words of a reason without what differs from one request to the next."""
    return _VARIES.sub("", reason[:_FAMILY_CHARACTERS])
