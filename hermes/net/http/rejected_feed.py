"""The latest rejected events, for operators: where each came in, and the words that its client was told.

Invariants: what is kept is bounded, by kind (a route and a status), so that a flood of one kind leaves the others in
place; an entry never holds a header, a key or a body, only the words of the answer, cut at `MOST_WORDS`. Pure.
Written by ``refusals``; read by ``GET /rejected`` on the admin address.
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

MOST_WORDS = 300


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """One event that was rejected, or one request of which nothing was taken.

    ``number`` counts them from 1. ``at`` is in Unix seconds. ``index`` is the event's place in its request, from 0;
    None: the whole request. ``events`` is how many were rejected of that request, None where that is not known.
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
    """The latest rejected events of each kind, and how many there were in all. ``clock`` gives Unix seconds."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.total = 0
        self._clock = clock
        self._kept: dict[tuple[str, int], deque[Rejected]] = {}

    def add(
        self, route: str, status: int, rejected: Sequence[Rejection], request_id: str, client: str, words: str = ""
    ) -> None:
        """Keep the ``rejected`` events of a request; or, where none are named, the request for these ``words``."""
        kept = self._kept.setdefault((route, status), deque(maxlen=MOST_OF_A_KIND))
        at = self._clock()
        events = len(rejected) or None
        left_out = max(0, len(rejected) - MOST_OF_A_KIND)
        self.total += left_out
        # The first of a request say more than the last: they are kept, in front of those of later requests.
        for place in range(max(1, min(len(rejected), MOST_OF_A_KIND))):
            index, reason = (rejected[place].index, rejected[place].error) if rejected else (None, words)
            self.total += 1
            kept.append(Rejected(self.total, at, route, status, index, events, reason[:MOST_WORDS], request_id, client))

    def since(self, number: int) -> list[Rejected]:
        """The entries with a number above this one that are still kept, in their order, their words made printable."""
        return [
            replace(entry, reason=clean(entry.reason, MOST_WORDS))  # here, for a flood is written and not read
            for entry in merge(*self._kept.values(), key=_number)
            if entry.number > number
        ]


def _number(entry: Rejected) -> int:
    return entry.number
