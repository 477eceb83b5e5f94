"""The state that all connections of one address share: the routes' heads, the budget for bodies, dates, ids, counts.

Invariant: an address has one `Lane`, and one thread uses the lane.
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

# The share of clients without a key is one in so many.
_KEYLESS_SHARE = 8

# Shorter, and a client between two requests of a burst would lose its connection.
LEAST_IDLE_SECONDS = 1.0
"""The time for which a connection is idle before it may give way to another."""

# Descriptors and memory come back as connections end. To try at once would fail again, and keep a core busy.
ACCEPT_PAUSE = 0.1
"""Seconds without accept(2) after a failure, if the machine lacks descriptors or memory."""

# A client that holds a connection in reserve, as browsers do, does not notice that our side is closed.
LINGER_AT_STOP_SECONDS = 0.25
"""The time that a client has to close its side when the service stops."""

# The engine's tasks run on the same thread: the longer a turn, the later a commit and a delivery.
TURN_SECONDS = 0.002
"""The longest that requests of the fast lane keep the loop from the other tasks, but for one request's own work."""


class Timeouts:
    """The time that a client may take, in seconds: for a head, for a body, between requests, to read an answer.

    >>> Timeouts(header=10, body=60, idle=75, write=30).idle
    75
    """

    __slots__ = ("body", "header", "idle", "write")

    def __init__(self, *, header: float, body: float, idle: float, write: float) -> None:
        self.header = header
        self.body = body
        self.idle = idle
        self.write = write


class BodyBudget:
    """The bound on the bytes that the service holds for requests in progress, of all connections together.

    The budget counts bodies that have begun to arrive, and large bodies that are being decoded. Of a connection that
    holds more than a little, the budget also counts an unfinished head, unread requests and unread responses.
    ``keyless`` is the share of clients that have shown no key yet: an eighth, or the room of the ``largest`` request if
    that is more. So clients without a key cannot keep the others out.

    >>> budget = BodyBudget(100)
    >>> budget.reserve(80), budget.reserve(30), budget.used
    (True, False, 80)
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
        """Take ``size`` bytes. False: there is no room, and nothing was taken."""
        # A keyless client's bytes count twice, in its share and in the whole.
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
    """Return a function that returns a new id at each call. No other service and no other call returns the same id."""
    # Random once for each process, then counted: random bits for each request would cost as much as its response.
    # A format and a generator, and no function: each request takes this way.
    form = urandom(6).hex().encode() + b"-%x"
    return (form % number for number in count(1)).__next__


class Lane:
    """The shared state of the connections of an address.

    ``observe(route, status, seconds, times)`` is called with the duration of requests. Requests that are answered at
    once are only counted in ``answered``: the owner of the sockets calls `begin_turn` before it feeds bytes, and
    `observe_answered` afterwards. After ``turn_ends`` on ``clock`` a connection leaves its further requests to the next
    turn. ``refusals`` logs refused requests, and puts
    rejected events into the feed ``rejected``. ::

        lane = Lane(Heads(routes), BodyBudget(64 * 2**20), metrics.observe, time.perf_counter)
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
        # Looked up once: each receive asks for it.
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
        # One source for both lanes of the address, so that no two of its requests have the same id.
        self.request_id = make_request_ids()

    def begin_turn(self) -> None:
        """Set the date of the answers that follow. Called before bytes are served."""
        second = int(time.time())
        # The date has whole seconds, so most turns keep the one of the turn before.
        if second != self._second:
            self._second = second
            self.date = formatdate(second, usegmt=True).encode()

    def track(self, change: int) -> None:
        """Count a request of the control lane that has begun (1) or ended (-1)."""
        self.inflight += change

    def observe_answered(self, seconds: float) -> None:
        """Observe the requests in ``answered``, which took ``seconds`` together, and forget them."""
        # Each gets an equal share: to read the clock twice for each request would cost more than the histogram.
        share = seconds / sum(self.answered.values())
        for (route, status), times in self.answered.items():
            self.observe(route, status, share, times)
        self.answered.clear()
