"""The status of a running service as one value, for the dashboard and ``hermes top``.

`Status.tick`, once a second, keeps the counters of the last two minutes; `Status.snapshot` makes rates and quantiles
of them when somebody asks. Invariants: a snapshot is bounded, for counts beyond a bound are summed up in one; asking
changes nothing. Both times are passed in.

How the lag of a sink is found: the oldest event without an outcome is the first of a batch in a worker's hands, or the
first in the buffer, or the record at the cursor of the journal, and each of these has its time of arrival at hand. So
the lag is exact, but for a record that is on disk alone: its age is taken from the record read before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hermes.engine.delivery import Delivery
from hermes.engine.engine import Engine
from hermes.engine.ranking import aggregates_of, largest
from hermes.engine.rates import RATE_SECONDS, History, Sample, quantile, rate_of
from hermes.engine.status_types import (
    HISTORY,
    JournalStatus,
    QueueStatus,
    RequestStatus,
    ServiceStatus,
    SinkStatus,
)
from hermes.metrics import SECONDS, Histogram
from hermes.words import blank

REQUEST_SECONDS = 60
"""The quantiles of requests are those of so many seconds."""

_MOST_RECEIVED_TYPES = 50


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
    """The status that is made of ``sources``."""

    def __init__(self, sources: Sources, now: float) -> None:
        self._sources = sources
        self._history = History(self._sample(now), HISTORY)

    def tick(self, now: float) -> None:
        """A second has passed; ``now`` is a moment of the run loop's clock."""
        self._history.add(self._sample(now))

    def snapshot(self, now: float, wall: float) -> ServiceStatus:
        """The status at ``now`` of the run loop's clock, which is ``wall`` in Unix seconds."""
        sources = self._sources
        engine = sources.engine
        latest, admission = self._sample(now), engine.intake.admission
        before = self._history.before(now, RATE_SECONDS)
        journal = engine.journal
        return ServiceStatus(
            version=sources.version,
            now=wall,
            started=sources.started,
            durability=sources.durability,
            draining=sources.draining(),
            received=latest.received,
            by_type=largest(engine.aggregator.received, _MOST_RECEIVED_TYPES),
            rate=rate_of(before.received, latest.received, latest.at - before.at),
            history=self._history.received,
            rejected={reason: count for reason, count in sources.rejected.items() if count},
            queue=QueueStatus(admission.events, engine.intake.capacity, admission.bytes, sources.queue_bytes),
            journal=JournalStatus(journal.bytes, journal.capacity, journal.failing) if journal is not None else None,
            sinks=[self._sink(delivery, before, latest, wall) for delivery in engine.deliveries],
            evicted=sources.evicted(),
            aggregates=aggregates_of(engine.aggregator, int(wall) // 60),
            requests=self._requests(latest),
            connections=sources.connections(),
            loop_lag=sources.loop_lag(),
            memory=sources.memory(),
        )

    def _sink(self, delivery: Delivery, before: Sample, latest: Sample, wall: float) -> SinkStatus:
        name = delivery.name
        account, now = delivery.account(), delivery.statistics()
        lag = None if now.oldest is None else max(0.0, wall - now.oldest)
        return SinkStatus(
            name=name,
            required=delivery.required,
            delivered=account.delivered,
            rate=rate_of(before.delivered[name], latest.delivered[name], latest.at - before.at),
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

    def _requests(self, latest: Sample) -> RequestStatus:
        before = self._history.before(latest.at, REQUEST_SECONDS)
        counts = [now - then for now, then in zip(latest.requests, before.requests, strict=True)]
        return RequestStatus(int(counts[-1]), quantile(0.5, SECONDS, counts), quantile(0.99, SECONDS, counts))

    def _sample(self, now: float) -> Sample:
        engine, durations, routes = self._sources.engine, self._sources.durations, self._sources.routes
        timed = [histogram.buckets()[0] for (route, _), histogram in durations.items() if route in routes]
        requests = [sum(buckets[place][1] for buckets in timed) for place in range(len(SECONDS) + 1)]
        delivered = {account.sink: account.delivered for account in engine.accounts()}
        return Sample(now, engine.aggregator.received.total(), delivered, requests)
