"""The status of the events as one value: what the engine shows in ``GET /status``.

`EngineStatus.tick`, once a second, keeps the counters of the last two minutes; `EngineStatus.snapshot` makes rates of
them when somebody asks. Invariants: a snapshot is bounded, for counts beyond a bound are summed up in one; asking
changes nothing. Both times are passed in.

How the lag of a sink is found: the oldest event without an outcome is the first of a batch in a worker's hands, or the
first in the buffer, or the record at the cursor of the journal, and each of these has its time of arrival at hand. So
the lag is exact, but for a record that is on disk alone: its age is taken from the record read before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hermes.base.quoting import blank
from hermes.events.engine.delivery import Delivery
from hermes.events.engine.engine import Engine
from hermes.events.engine.ranking import aggregates_of, largest
from hermes.events.engine.status_types import HISTORY, EventsStatus, JournalStatus, QueueStatus, SinkStatus
from hermes.observe.history import RATE_SECONDS, History, rate_of

_MOST_RECEIVED_TYPES = 50


@dataclass(frozen=True)
class _Sample:
    """The counters as of one moment of the run loop's clock; ``delivered`` is by sink."""

    at: float
    received: int
    delivered: Mapping[str, int]


class EngineStatus:
    """The status of ``engine``, whose queue has room for ``queue_bytes``; ``rejected`` counts refused events by reason.

    ::

        status = EngineStatus(engine, settings.queue_bytes, counts.by_reason, trio.current_time())
        status.tick(trio.current_time())  # once a second
        status.snapshot(trio.current_time(), time.time()).rate
    """

    def __init__(self, engine: Engine, queue_bytes: int, rejected: Mapping[str, int], now: float) -> None:
        self._engine = engine
        self._queue_bytes = queue_bytes
        self._rejected = rejected
        self._history = History(self._sample(now), HISTORY)

    def tick(self, now: float) -> None:
        """A second has passed; ``now`` is a moment of the run loop's clock."""
        self._history.add(self._sample(now))

    def snapshot(self, now: float, wall: float) -> EventsStatus:
        """The status at ``now`` of the run loop's clock, which is ``wall`` in Unix seconds."""
        engine = self._engine
        # The same counters as `tick` keeps, so a rate is of one kind of number.
        latest, admission = self._sample(now), engine.intake.admission
        before = self._history.before(now, RATE_SECONDS)
        journal = engine.journal
        return EventsStatus(
            received=latest.received,
            by_type=largest(engine.aggregator.received, _MOST_RECEIVED_TYPES),
            rate=rate_of(before.received, latest.received, latest.at - before.at),
            history=[end.received - begin.received for begin, end in self._history.seconds()],
            rejected={reason: count for reason, count in self._rejected.items() if count},
            queue=QueueStatus(admission.events, engine.intake.capacity, admission.bytes, self._queue_bytes),
            journal=JournalStatus(journal.bytes, journal.capacity, journal.failing) if journal is not None else None,
            sinks=[self._sink(delivery, before, latest, wall) for delivery in engine.deliveries],
            aggregates=aggregates_of(engine.aggregator, int(wall) // 60),
        )

    def _sink(self, delivery: Delivery, before: _Sample, latest: _Sample, wall: float) -> SinkStatus:
        name = delivery.name
        account, now = delivery.account(), delivery.statistics()
        # The wall clock may have been set back since the event arrived.
        lag = None if now.oldest is None else max(0.0, wall - now.oldest)
        return SinkStatus(
            name=name,
            required=delivery.awaited,
            delivered=account.delivered,
            rate=rate_of(before.delivered[name], latest.delivered[name], latest.at - before.at),
            in_flight=account.in_flight,
            on_disk=now.on_disk,
            held=now.held,
            # Nothing is on its way, so nothing is late, also when the time of the oldest record is not known.
            lag=lag if account.in_flight else 0.0,
            breaker=now.breaker.name.lower(),
            opens_in=now.open_for,
            # A sink's words may hold characters that a terminal obeys.
            failure=blank(now.failure),
            failed_at=now.failed_at,
            retries=delivery.numbers.retries,
            dead_lettered=account.dead_lettered,
            evicted=account.evicted,
            refusals={blank(reason): count for reason, count in now.refusals.items()},
            dropped={reason: count for reason, count in account.dropped.items() if count},
        )

    def _sample(self, now: float) -> _Sample:
        # By account, so that the rate is of the same number as the sum beside it.
        engine = self._engine
        delivered = {account.sink: account.delivered for account in engine.accounts()}
        return _Sample(now, engine.aggregator.received.total(), delivered)
