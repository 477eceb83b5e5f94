"""The latest rejected items, for operators: the route of each, and the reason that its client was told.

Invariants: the feed is bounded for each kind (a route and a status), so that a flood of one kind leaves the others in
place; an entry never holds a header, a key or a body, only the reason in the answer, cut at `MOST_WORDS`. Pure.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from heapq import merge

import msgspec
from msgspec.structs import replace

from hermes.base.quoting import clean
from hermes.net.http.rejection import Rejection

MOST_OF_A_KIND = 25
"""Entries that are kept of one route and status: of a request, and of all requests together."""

# Enough for a reason and the value that it quotes; a client decides how long the value is.
MOST_WORDS = 300


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """One item that was rejected, or one request of which nothing was taken.

    ``number`` counts the entries from 1. ``at`` is in Unix seconds. ``index`` is the item's place in its request, from
    0; None: the whole request. ``events`` is the number of rejected items of the request; None: not known.
    """

    number: int
    at: float
    route: str
    status: int
    index: int | None
    events: int | None
    reason: str
    request_id: str
    client: str


class RejectedFeed:
    """The latest rejected items of each kind, and their number in all. ``clock()`` returns Unix seconds.

    >>> feed = RejectedFeed()
    >>> feed.add("/events", 400, [], "request-1", "127.0.0.1", "the body is empty")
    >>> [(entry.number, entry.reason) for entry in feed.since(0)]
    [(1, 'the body is empty')]
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.total = 0
        self._clock = clock
        self._kept: dict[tuple[str, int], deque[Rejected]] = {}

    def add(
        self, route: str, status: int, rejected: Sequence[Rejection], request_id: str, client: str, words: str = ""
    ) -> None:
        """Keep the ``rejected`` items of a request; without any, the request itself, with ``words`` as the reason."""
        kept = self._kept.setdefault((route, status), deque(maxlen=MOST_OF_A_KIND))
        at = self._clock()
        events = len(rejected) or None
        left_out = max(0, len(rejected) - MOST_OF_A_KIND)
        self.total += left_out
        # The first items of a request say more than its last: a mistake in the producer repeats itself.
        for place in range(max(1, min(len(rejected), MOST_OF_A_KIND))):
            index, reason = (rejected[place].index, rejected[place].error) if rejected else (None, words)
            self.total += 1
            kept.append(Rejected(self.total, at, route, status, index, events, reason[:MOST_WORDS], request_id, client))

    def since(self, number: int) -> list[Rejected]:
        """Return the entries above ``number`` that are still kept, in their order, with printable reasons."""
        return [
            # Cleaned here and not in `add`: in a flood most entries are never read.
            replace(entry, reason=clean(entry.reason, MOST_WORDS))
            for entry in merge(*self._kept.values(), key=_number)
            if entry.number > number
        ]


def _number(entry: Rejected) -> int:
    return entry.number
