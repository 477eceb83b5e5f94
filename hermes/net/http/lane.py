"""What all connections of the fast lane share: the routes' heads, the budget for bodies, dates, ids, counts.

Invariant: there is one `Lane` a service, and only its thread touches it. Made by the edge; used by every connection, by
the reactor or the stream server that feeds them, and for its budget by the control lane.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from email.utils import formatdate
from itertools import count
from math import inf
from os import urandom

from hermes.net.http.head import Heads
from hermes.net.http.refusal_log import RefusalLog
from hermes.net.http.rejected_feed import RejectedFeed

_KEYLESS_SHARE = 8

LEAST_IDLE_SECONDS = 1.0
"""How long a connection is idle before it may give way to another."""

ACCEPT_PAUSE = 0.1
"""Seconds without accept(2) after it has failed for want of something."""

LINGER_AT_STOP_SECONDS = 0.25
"""How long a client has to close its side when the service stops: one that holds a connection in reserve never does."""

TURN_SECONDS = 0.002
"""The longest that requests of the fast lane keep the loop from the other tasks, but for one request's own work."""


class Timeouts:
    """How long a client may take, in seconds, for each thing it does."""

    __slots__ = ("body", "header", "idle", "write")

    def __init__(self, *, header: float, body: float, idle: float, write: float) -> None:
        self.header = header
        self.body = body
        self.idle = idle
        self.write = write


class BodyBudget:
    """The bound on what all connections together make the service hold for requests in progress, in bytes.

    It counts bodies that have begun to arrive, large bodies that are being decoded, and, of a connection that holds
    more than a little of it, an unfinished head, requests left unread and responses that the client does not read.
    ``keyless`` is the part of it that is for clients that have shown no key yet: what they hold cannot keep those out
    that have one. It is an eighth, or what the ``largest`` request takes where that is more.
    """

    __slots__ = ("_limit", "_used", "_whole", "keyless")

    def __init__(self, limit: int, largest: int = 0, whole: BodyBudget | None = None) -> None:
        self._limit = limit
        self._used = 0
        self._whole = whole
        self.keyless = self if whole else BodyBudget(max(limit // _KEYLESS_SHARE, largest), whole=self)

    @property
    def used(self) -> int:
        """Bytes that are taken."""
        return self._used

    def reserve(self, size: int) -> bool:
        """Take ``size`` bytes; False, and nothing taken, where there is no room."""
        if self._used + size > self._limit or (self._whole is not None and not self._whole.reserve(size)):
            return False
        self._used += size
        return True

    def release(self, size: int) -> None:
        """Give bytes back."""
        self._used -= size
        if self._whole is not None:
            self._whole.release(size)


def make_request_ids() -> Callable[[], bytes]:
    """A function that gives an id at each call, which no other call and no other service gives."""
    prefix = urandom(6).hex().encode()
    return (b"%b-%x" % (prefix, number) for number in count(1)).__next__


class Lane:
    """What all connections of the fast lane share.

    ``observe(route, status, seconds, times)`` hears how long requests took. Those that were answered at once are only
    counted in ``answered``; whoever feeds bytes calls `begin_turn` before and `settle_answered` after it. After
    ``turn_ends`` on ``clock`` a connection leaves further requests that it has for the next turn. ``refusals`` hears of
    those that were refused, and puts the rejected events into the feed ``rejected``.
    """

    def __init__(
        self,
        heads: Heads,
        body_budget: BodyBudget,
        observe: Callable[[str, int, float, int], None] = lambda _route, _status, _seconds, _times: None,
        clock: Callable[[], float] = lambda: 0.0,
        rejected: RejectedFeed | None = None,
    ) -> None:
        self.heads = heads
        self.recall = heads.recall
        self.body_budget = body_budget
        self.observe = observe
        self.clock = clock
        self.refusals = RefusalLog(clock, rejected)
        self.draining = False
        self.turn_ends = inf
        self.inflight = 0
        self.answered: defaultdict[tuple[str, int], int] = defaultdict(int)
        self.date = b""
        self._second = 0
        self.request_id = make_request_ids()

    def begin_turn(self) -> None:
        """Bytes are about to be served: what they are answered carries the date of now."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self.date = formatdate(second, usegmt=True).encode()

    def track(self, change: int) -> None:
        """A request has begun (1) or ended (-1) that no connection of the fast lane counts."""
        self.inflight += change

    def settle_answered(self, seconds: float) -> None:
        """What ``answered`` counts took this long in all: each of them its share."""
        share = seconds / sum(self.answered.values())
        for (route, status), times in self.answered.items():
            self.observe(route, status, share, times)
        self.answered.clear()
