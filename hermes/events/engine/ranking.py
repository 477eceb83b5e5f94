"""Counts of many types as a few rows: the largest ones each by itself, and the others as one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

from hermes.events.engine.aggregate import OTHER, Aggregator
from hermes.events.engine.status_types import MINUTES, MOST_TYPES, AggregateStatus


def largest(counts: Mapping[str, int], most: int) -> dict[str, int]:
    """The largest counts, and the sum of the others under "(other)".

    >>> largest({"play": 7, "stop": 5, "seek": 1, "mute": 1}, most=3)
    {'play': 7, 'stop': 5, '(other)': 2}
    """
    # By name where counts are equal, so that rows do not change places from one look to the next.
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    if len(ranked) <= most:
        return dict(ranked)
    shown = dict([item for item in ranked if item[0] != OTHER][: most - 1])
    return shown | {OTHER: sum(counts.values()) - sum(shown.values())}


def aggregates_of(aggregator: Aggregator, minute: int) -> AggregateStatus:
    """The counts of the last `MINUTES` minutes up to ``minute``, of at most `MOST_TYPES` types.

    Types are ranked by their events since the start: that is cheap, and their order is steady.
    """
    first = minute - MINUTES + 1
    found = aggregator.window(first, minute)
    minutes = [found.get(each, {}) for each in range(first, minute + 1)]
    ranked = sorted(aggregator.received.items(), key=lambda item: (-item[1], item[0]))
    # A generator: with a thousand types, only as many are looked for as are shown.
    present = (kind for kind, _ in ranked if kind != OTHER and any(kind in counts for counts in found.values()))
    types = list(islice(present, MOST_TYPES + 1))
    # "(other)" is one of the rows.
    if len(types) > MOST_TYPES:
        del types[MOST_TYPES - 1 :]
    rows = [[counts.get(kind, 0) for counts in minutes] for kind in types]
    others = [sum(counts.values()) - sum(row[n] for row in rows) for n, counts in enumerate(minutes)]
    if any(others):
        types.append(OTHER)
        rows.append(others)
    elsewhere = aggregator.received.total() - sum(map(sum, rows))
    return AggregateStatus(first, types, rows, elsewhere)
