"""Makes the status of the service for the dashboard and ``hermes top``: the service's facts, and the parts' statuses.

`StatusBoard.tick`, called once a second, keeps the counters of the last minute and calls the parts' ticks;
`StatusBoard.snapshot` makes a `ServiceStatus`. Invariants: a snapshot changes nothing; no part is named here. The
caller passes both times.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hermes.observe.history import History, quantile
from hermes.observe.metrics import SECONDS, Histogram
from hermes.observe.service_status import RequestStatus, ServiceStatus
from hermes.part import PartStatus

REQUEST_SECONDS = 60
"""The quantiles are over the requests of the last so many seconds."""


@dataclass(frozen=True)
class Facts:
    """The service's own numbers. ``durations`` has a histogram by route and status; ``routes`` are the data routes.

    ``started`` is in Unix seconds. ``memory()`` is in bytes, or None if the system does not tell.
    """

    version: str
    durability: str
    started: float
    durations: Mapping[tuple[str, int], Histogram]
    routes: frozenset[str]
    connections: Callable[[], int]
    loop_lag: Callable[[], float]
    draining: Callable[[], bool]
    memory: Callable[[], int | None]


@dataclass(frozen=True)
class _Sample:
    """Cumulative counts of requests by upper bound, as of one moment of the run loop's clock."""

    at: float
    requests: Sequence[float]


class StatusBoard:
    """Makes the status of ``facts`` and of ``parts``, by their names.

    ::

        board = StatusBoard(facts, {"jobs": running.status}, trio.current_time())
        board.tick(trio.current_time())  # once a second
        msgspec.json.encode(board.snapshot(trio.current_time(), time.time()))
    """

    def __init__(self, facts: Facts, parts: Mapping[str, PartStatus], now: float) -> None:
        self._facts = facts
        self._parts = parts
        # With a first sample at once: a status before the first tick needs one to count from.
        self._history = History(self._sample(now), REQUEST_SECONDS)

    @property
    def kinds(self) -> dict[str, type]:
        """The type of each part's status, by the part's name."""
        return {name: part.kind for name, part in self._parts.items()}

    def tick(self, now: float) -> None:
        """A second has passed; ``now`` is a moment of the run loop's clock."""
        self._history.add(self._sample(now))
        for part in self._parts.values():
            part.tick(now)

    def snapshot(self, now: float, wall: float) -> ServiceStatus:
        """The status at ``now`` of the run loop's clock, which is ``wall`` in Unix seconds."""
        facts = self._facts
        return ServiceStatus(
            version=facts.version,
            now=wall,
            started=facts.started,
            durability=facts.durability,
            draining=facts.draining(),
            requests=self._requests(self._sample(now)),
            connections=facts.connections(),
            loop_lag=facts.loop_lag(),
            memory=facts.memory(),
            parts={name: part.snapshot(now, wall) for name, part in self._parts.items()},
        )

    def _requests(self, latest: _Sample) -> RequestStatus:
        before = self._history.before(latest.at, REQUEST_SECONDS)
        # Cumulative counts, so a difference of two samples is the histogram of the time between them.
        counts = [now - then for now, then in zip(latest.requests, before.requests, strict=True)]
        # The last count has no bound, so it is the number of all requests.
        return RequestStatus(int(counts[-1]), quantile(0.5, SECONDS, counts), quantile(0.99, SECONDS, counts))

    def _sample(self, now: float) -> _Sample:
        durations, routes = self._facts.durations, self._facts.routes
        # Data routes alone: quick requests of scrapes and health checks would hide how long an application waits.
        timed = [histogram.buckets()[0] for (route, _), histogram in durations.items() if route in routes]
        return _Sample(now, [sum(buckets[place][1] for buckets in timed) for place in range(len(SECONDS) + 1)])


def resident_bytes() -> int | None:
    """The memory of this process in bytes; None if the kernel is not Linux. Source: proc(5), statm."""
    try:
        # The second field has the resident pages.
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None
