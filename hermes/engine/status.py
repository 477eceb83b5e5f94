"""The status of a running service as one value: what the dashboard and ``hermes top`` show.

`Status.tick`, once a second, keeps the counters of the last two minutes; `Status.snapshot` makes rates and quantiles
of them when somebody asks. Invariants: a snapshot is bounded, however many types, reasons and minutes there are, for
what is beyond a bound is summed up in one; whoever asks changes nothing. Both times are passed in. Ticked and asked by
the admin address.

How the lag of a sink is found: the oldest event without an outcome is the first of a batch in a worker's hands, or the
first in the buffer, or the record at the cursor of the journal, and each of these has its time of arrival at hand. So
the lag is exact, but for a record that is on disk alone: its age is taken from the record read before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

import msgspec

from hermes.engine.aggregate import OTHER, Aggregator
from hermes.engine.delivery import Delivery
from hermes.engine.engine import Engine
from hermes.metrics import SECONDS, Histogram
from hermes.words import blank

HISTORY = 120
"""Seconds of which the rate is kept, one by one."""

RATE_SECONDS = 5
"""A rate is the mean of so many seconds."""

REQUEST_SECONDS = 60
"""The quantiles of requests are those of so many seconds."""

MINUTES = 60
MOST_TYPES = 10
"""The bounds of the aggregates: minutes, and types that are shown each by itself."""

_MOST_RECEIVED_TYPES = 50


class SinkStatus(msgspec.Struct, frozen=True):
    """One sink. In events but where it says otherwise."""

    name: str
    required: bool
    delivered: int
    rate: float
    """Delivered a second, lately."""
    in_flight: int
    """Accepted, and no outcome yet."""
    on_disk: int
    """The part of these that is in the journal alone, for the sink is behind."""
    held: int
    """The part of these that is held in memory, for the sink refuses nearly everything for one reason."""
    lag: float | None
    """Seconds since the oldest event without an outcome arrived; 0 if there is none, None while it is not known."""
    breaker: str
    """"closed", "half_open" or "open"."""
    opens_in: float
    """Seconds until an open breaker lets a call through."""
    failure: str
    failed_at: float | None
    """What the last failed call said, and when, in Unix seconds."""
    retries: int
    dead_lettered: int
    evicted: int
    """Refused, and their dead letters had to make room for newer ones."""
    refusals: dict[str, int]
    """The refused ones by reason, since the start."""
    dropped: dict[str, int]


class QueueStatus(msgspec.Struct, frozen=True):
    """What holds room in the house."""

    events: int
    capacity: int
    bytes: int
    capacity_bytes: int


class JournalStatus(msgspec.Struct, frozen=True):
    """The journal, in bytes. ``failing`` says why its storage does not work, while it does not."""

    bytes: int
    capacity: int
    failing: str | None


class RequestStatus(msgspec.Struct, frozen=True):
    """The data requests of the last minute: how many, and quantiles of their duration in seconds, None without any."""

    count: int
    p50: float | None
    p99: float | None


class AggregateStatus(msgspec.Struct, frozen=True):
    """Counts by type and minute, for the last `MINUTES` minutes, from ``first`` (Unix time // 60) on.

    ``counts`` has a list for each type, in the order of ``types``. Where there are more than `MOST_TYPES`, the last,
    "(other)", has the sums of those that are not named. ``elsewhere`` is how many events have another time by their own
    timestamps: no client's clock moves the window.
    """

    first: int
    types: list[str]
    counts: list[list[int]]
    elsewhere: int


class ServiceStatus(msgspec.Struct, frozen=True):
    """The whole. Times are in Unix seconds."""

    version: str
    now: float
    started: float
    durability: str
    draining: bool
    received: int
    by_type: dict[str, int]
    rate: float
    """Events a second, lately."""
    history: list[int]
    """Events of each of the last seconds, the oldest first; at most `HISTORY`."""
    rejected: dict[str, int]
    queue: QueueStatus
    journal: JournalStatus | None
    sinks: list[SinkStatus]
    evicted: int
    """Dead letters that made room for newer ones."""
    aggregates: AggregateStatus
    requests: RequestStatus
    connections: int
    loop_lag: float
    """Seconds that a timer of the run loop comes late."""
    memory: int | None
    """Resident bytes of the process, where the system tells."""


@dataclass(frozen=True)
class _Sample:
    """Counters as of one moment of the run loop's clock. ``requests`` are cumulative counts by upper bound."""

    at: float
    received: int
    delivered: Mapping[str, int]
    requests: Sequence[float]


@dataclass(frozen=True)
class Sources:
    """The numbers of a status.

    ``durations`` are those of requests by route and status; ``rejected`` counts refused events by reason, ``evicted``
    dead letters. ``routes`` are the data routes, whose requests are shown.
    """

    version: str
    durability: str
    started: float
    queue_bytes: int
    engine: Engine
    durations: Mapping[tuple[str, int], Histogram]
    rejected: Mapping[str, int]
    routes: frozenset[str]
    connections: Callable[[], int]
    loop_lag: Callable[[], float]
    evicted: Callable[[], int]
    draining: Callable[[], bool]
    memory: Callable[[], int | None]


class Status:
    """The status of what ``sources`` name."""

    def __init__(self, sources: Sources, now: float) -> None:
        self._sources = sources
        self._samples = deque([self._sample(now)], HISTORY + 1)

    def tick(self, now: float) -> None:
        """A second has passed; ``now`` is a moment of the run loop's clock."""
        self._samples.append(self._sample(now))

    def snapshot(self, now: float, wall: float) -> ServiceStatus:
        """The status at ``now`` of the run loop's clock, which is ``wall`` in Unix seconds."""
        sources = self._sources
        engine = sources.engine
        latest, admission = self._sample(now), engine.intake.admission
        before = self._before(now, RATE_SECONDS)
        journal = engine.journal
        return ServiceStatus(
            version=sources.version,
            now=wall,
            started=sources.started,
            durability=sources.durability,
            draining=sources.draining(),
            received=latest.received,
            by_type=_largest(engine.aggregator.received, _MOST_RECEIVED_TYPES),
            rate=_rate(before.received, latest.received, latest.at - before.at),
            history=[later.received - earlier.received for earlier, later in pairwise(self._samples)],
            rejected={reason: count for reason, count in sources.rejected.items() if count},
            queue=QueueStatus(admission.events, engine.intake.capacity, admission.bytes, sources.queue_bytes),
            journal=JournalStatus(journal.bytes, journal.capacity, journal.failing) if journal is not None else None,
            sinks=[self._sink(delivery, before, latest, wall) for delivery in engine.deliveries],
            evicted=sources.evicted(),
            aggregates=_aggregates(engine.aggregator, int(wall) // 60),
            requests=self._requests(latest),
            connections=sources.connections(),
            loop_lag=sources.loop_lag(),
            memory=sources.memory(),
        )

    def _sink(self, delivery: Delivery, before: _Sample, latest: _Sample, wall: float) -> SinkStatus:
        name = delivery.name
        account, now = delivery.account(), delivery.statistics()
        lag = None if now.oldest is None else max(0.0, wall - now.oldest)
        return SinkStatus(
            name=name,
            required=delivery.required,
            delivered=account.delivered,
            rate=_rate(before.delivered[name], latest.delivered[name], latest.at - before.at),
            in_flight=account.in_flight,
            on_disk=now.on_disk,
            held=now.held,
            lag=lag if account.in_flight else 0.0,
            breaker=now.breaker.name.lower(),
            opens_in=now.open_for,
            failure=blank(now.failure),
            failed_at=now.failed_at,
            retries=delivery.numbers.retries,
            dead_lettered=account.dead_lettered,
            evicted=account.evicted,
            refusals={blank(reason): count for reason, count in now.refusals.items()},
            dropped={reason: count for reason, count in account.dropped.items() if count},
        )

    def _requests(self, latest: _Sample) -> RequestStatus:
        before = self._before(latest.at, REQUEST_SECONDS)
        counts = [now - then for now, then in zip(latest.requests, before.requests, strict=True)]
        return RequestStatus(int(counts[-1]), quantile(0.5, SECONDS, counts), quantile(0.99, SECONDS, counts))

    def _before(self, now: float, seconds: float) -> _Sample:
        """The counters as of so long ago, or the oldest that there are."""
        for sample in reversed(self._samples):
            if now - sample.at >= seconds - 0.5:
                return sample
        return self._samples[0]

    def _sample(self, now: float) -> _Sample:
        engine, durations, routes = self._sources.engine, self._sources.durations, self._sources.routes
        timed = [histogram.buckets()[0] for (route, _), histogram in durations.items() if route in routes]
        requests = [sum(buckets[place][1] for buckets in timed) for place in range(len(SECONDS) + 1)]
        delivered = {account.sink: account.delivered for account in engine.accounts()}
        return _Sample(now, engine.aggregator.received.total(), delivered, requests)


def quantile(share: float, bounds: Sequence[float], counts: Sequence[float]) -> float | None:
    """The ``share``-quantile of cumulative ``counts`` by upper bound, the last without one; None: nothing was counted.

    Within a bucket values count as evenly spread, and those above the last bound as that bound: as Prometheus's
    histogram_quantile has it.
    """
    total = counts[-1]
    if not total:
        return None
    rank, lower, below = share * total, 0.0, 0.0
    for bound, count in zip(bounds, counts, strict=False):
        if count >= rank:
            return lower + (bound - lower) * (rank - below) / (count - below)
        lower, below = bound, count
    return bounds[-1]


def _rate(before: int, now: int, seconds: float) -> float:
    return (now - before) / seconds if seconds > 0 else 0.0


def _largest(counts: Mapping[str, int], most: int) -> dict[str, int]:
    """The largest counts, and the sum of the others under "(other)"."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    if len(ranked) <= most:
        return dict(ranked)
    shown = dict([item for item in ranked if item[0] != OTHER][: most - 1])
    return shown | {OTHER: sum(counts.values()) - sum(shown.values())}


def _aggregates(aggregator: Aggregator, minute: int) -> AggregateStatus:
    """The types are ranked by what was received of them since the start: that is cheap, and their order is steady."""
    first = minute - MINUTES + 1
    found = aggregator.window(first, minute)
    minutes = [found.get(each, {}) for each in range(first, minute + 1)]
    ranked = sorted(aggregator.received.items(), key=lambda item: (-item[1], item[0]))
    present = (kind for kind, _ in ranked if kind != OTHER and any(kind in counts for counts in found.values()))
    types = list(islice(present, MOST_TYPES + 1))
    if len(types) > MOST_TYPES:
        del types[MOST_TYPES - 1 :]
    rows = [[counts.get(kind, 0) for counts in minutes] for kind in types]
    others = [sum(counts.values()) - sum(row[n] for row in rows) for n, counts in enumerate(minutes)]
    if any(others):
        types.append(OTHER)
        rows.append(others)
    elsewhere = aggregator.received.total() - sum(map(sum, rows))
    return AggregateStatus(first, types, rows, elsewhere)
