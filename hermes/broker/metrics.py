"""The broker's numbers for Prometheus: under HermesMQ's own names, which dashboards of its users know."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from hermes.broker.node import Node


class BrokerMetrics:
    """A `hermes.observe.metrics.MetricSource`. ``since_commit_ms`` gives the milliseconds since the last commit."""

    def __init__(self, node: Node, since_commit_ms: Callable[[], float]) -> None:
        self._node = node
        self._since_commit_ms = since_commit_ms

    def collect(self) -> Iterator[Metric]:
        """Every gauge, labelled with the number of the node."""
        # Once for all gauges, so that the numbers of a scrape are of one moment.
        found = self._node.stats()
        for name, text, value in (
            # ``raft`` is a word of HermesMQ's names alone: here a term begins with a `Lead` in the log.
            ("raft_term", "Term of the leader that this node knows; 0: none", found.current_term),
            ("raft_is_leader", "1 if this node leads", int(found.is_leader)),
            ("raft_current_leader", "Number of the leading node; 0: none", found.current_leader),
            ("raft_last_log_index", "Entries of the log, ever", found.last_log_index),
            ("raft_last_applied", "Entries that are applied, ever", found.last_applied),
            ("raft_millis_since_quorum_ack", "Milliseconds since the log took an entry", self._since_commit_ms()),
            ("topics", "Topics", found.topics),
            ("messages", "Messages that are retained, of all topics", found.messages),
            ("in_flight", "Leases of all groups", found.in_flight),
        ):
            gauge = GaugeMetricFamily(f"hermesmq_{name}", text, labels=["node"])
            gauge.add_metric([str(self._node.id)], value)
            yield gauge
