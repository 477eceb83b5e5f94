"""The numbers that the engine's parts keep beside their accounts, and the collectors that show both to Prometheus.

Invariant: a sum that the ledger keeps is kept there alone, and read when somebody asks, so the metrics cannot disagree
with the account that must balance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from hermes.observe.metrics import EVENTS, SECONDS, Histogram, counter, gauge, histogram

if TYPE_CHECKING:
    from hermes.events.engine.aggregate import Aggregator
    from hermes.events.engine.delivery import Delivery
    from hermes.events.engine.intake import Intake

DROPPED = ("circuit_open", "damaged", "journal_full", "queue_full", "shutdown", "unavailable")
"""Why a delivery gives events up."""


class SinkNumbers:
    """The counts of one sink's delivery beside its ledger: calls and batches, not events."""

    __slots__ = ("batch_size", "flush_seconds", "open_rejects", "retries")

    def __init__(self) -> None:
        self.batch_size = Histogram(EVENTS)
        self.flush_seconds = Histogram(SECONDS)
        self.open_rejects = 0
        """Batches that the open breaker refused."""
        self.retries = 0


class SinkMetrics:
    """The metrics of all sinks: one family has the samples of every sink."""

    def __init__(self, deliveries: Sequence[Delivery]) -> None:
        self._deliveries = deliveries

    def collect(self) -> Iterator[Metric]:
        """Every metric of the sinks."""
        # Each account once, not once for each family: an account walks over the batches in hand.
        numbers = {(delivery.name,): delivery.numbers for delivery in self._deliveries}
        accounts = {(delivery.name,): delivery.account() for delivery in self._deliveries}
        states = {(delivery.name,): delivery.statistics() for delivery in self._deliveries}
        # One histogram without a label, of the batches of all sinks: so the metric is specified.
        batches = Histogram.merged(EVENTS, [each.batch_size for each in numbers.values()])
        yield histogram("hermes_batch_size", "Events a batch", [], {(): batches})
        yield histogram(
            "hermes_flush_duration_seconds",
            "One write to a sink",
            ["sink"],
            {sink: each.flush_seconds for sink, each in numbers.items()},
        )
        yield counter(
            "hermes_events_delivered",
            "Events a sink has stored",
            ["sink"],
            {sink: account.delivered for sink, account in accounts.items()},
        )
        yield counter(
            "hermes_events_dropped",
            "Events a sink will never get",
            ["sink", "reason"],
            {
                (*sink, reason): count
                for sink, account in accounts.items()
                # Every reason from the start, 0 at first: a rate needs a sample before the first drop.
                for reason, count in (dict.fromkeys(DROPPED, 0) | account.dropped).items()
            },
        )
        yield counter(
            "hermes_events_dead_lettered",
            "Events a sink refused for good",
            ["sink"],
            # A counter may not fall, so it has the evicted ones too: an account moves them from one sum to the other.
            {sink: account.dead_lettered + account.evicted for sink, account in accounts.items()},
        )
        yield counter(
            "hermes_events_evicted",
            "Dead-lettered events of this run whose letters made room for newer ones",
            ["sink"],
            {sink: account.evicted for sink, account in accounts.items()},
        )
        yield counter(
            "hermes_sink_retries",
            "Writes tried again",
            ["sink"],
            {sink: each.retries for sink, each in numbers.items()},
        )
        yield counter(
            "hermes_db_circuit_open_rejects",
            "Batches refused by an open breaker",
            ["sink"],
            {sink: each.open_rejects for sink, each in numbers.items()},
        )
        yield gauge(
            "hermes_sink_backlog_events",
            "Accepted, and no outcome yet",
            ["sink"],
            {sink: account.in_flight for sink, account in accounts.items()},
        )
        yield gauge(
            "hermes_sink_held_events",
            "Held, for the sink refuses everything",
            ["sink"],
            {sink: state.held for sink, state in states.items()},
        )
        yield gauge(
            "hermes_sink_missing_events",
            "Accepted and nowhere, or counted twice: a bug unless 0",
            ["sink"],
            {sink: account.missing for sink, account in accounts.items()},
        )
        yield gauge(
            "hermes_db_circuit_state",
            "0 closed, 1 half-open, 2 open",
            ["sink"],
            {sink: state.breaker.value for sink, state in states.items()},
        )


class IntakeMetrics:
    """The metrics of the bounded queue and of the counts by type."""

    def __init__(self, intake: Intake, aggregator: Aggregator) -> None:
        self._intake = intake
        self._aggregator = aggregator

    def collect(self) -> Iterator[Metric]:
        """Every metric of the intake."""
        yield counter(
            "hermes_events_received",
            "Events accepted",
            ["type"],
            {(kind,): count for kind, count in self._aggregator.received.items()},
        )
        yield GaugeMetricFamily(
            "hermes_queue_length", "Events that hold room in the queue", self._intake.admission.events
        )
        yield GaugeMetricFamily("hermes_queue_capacity", "Room in the queue, in events", self._intake.capacity)
        yield CounterMetricFamily(
            "hermes_aggregates_dropped", "Events that left /aggregates, or never fitted", self._aggregator.dropped
        )


class JournalMetrics:
    """The numbers of the journal; ``bytes`` and ``capacity`` are asked for."""

    def __init__(self, size: Callable[[], int], capacity: int) -> None:
        self.commit_seconds = Histogram(SECONDS)
        self.failed_commits = 0
        self.lost_records = self.lost_events = 0
        self.unowned = 0
        # Asked for, since the log knows its size, and a second number could disagree.
        self._size = size
        self._capacity = capacity

    def collect(self) -> Iterator[Metric]:
        """Every metric of the journal."""
        yield GaugeMetricFamily("hermes_journal_bytes", "Bytes of records that some sink may need", self._size())
        yield GaugeMetricFamily("hermes_journal_capacity_bytes", "JOURNAL_MAX_BYTES", self._capacity)
        yield histogram("hermes_journal_commit_seconds", "One commit", [], {(): self.commit_seconds})
        yield CounterMetricFamily(
            "hermes_journal_failed_commits", "Commits that the storage refused", self.failed_commits
        )
        yield CounterMetricFamily(
            "hermes_journal_lost_records",
            "Records that had been acknowledged, and were gone at the start",
            self.lost_records,
        )
        yield CounterMetricFamily(
            "hermes_journal_lost_events",
            "Events of these records, where they are known",
            self.lost_events,
        )
        yield GaugeMetricFamily(
            "hermes_journals_unowned", "Journals beside this one with events that nobody delivers", self.unowned
        )
